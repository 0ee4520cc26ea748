// The index of a target: an ordered key-value store (RocksDB without write-ahead log) that remembers where chunks lie.
//
// Batches become durable in the order of their application, each whole or not at all, with the next Flush or some time before it. What is
// lost in a crash is found again in the log. docs/formats.md, "Chunk store", lists the keys.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/status.h"

namespace tarn::store {

struct IndexOptions {
  std::string path;
  bool create_if_missing = false;
  uint64_t block_cache_bytes = 64u << 20;
};

// Thread-safe.
class Index {
 public:
  // Changes that are applied together. One thread at a time.
  class Batch {
   public:
    Batch();
    ~Batch();
    Batch(Batch&&) noexcept;
    Batch& operator=(Batch&&) noexcept;
    void Put(std::string_view key, std::string_view value);
    void Delete(std::string_view key);
    void AddToChunkCount(int64_t change);
    size_t bytes() const;
    bool empty() const;

   private:
    friend class Index;
    struct Body;
    std::unique_ptr<Body> body_;
  };

  // kNotFound: there is none at that path. kCorruption names the file.
  static Result<std::unique_ptr<Index>> Open(const IndexOptions& options);
  // Forgets what was not flushed.
  ~Index();

  Result<std::optional<std::string>> Get(std::string_view key) const;
  // Keys with `prefix`, in order, until `visit` fails. The views are valid during the call only.
  Status ForEach(std::string_view prefix, const std::function<Status(std::string_view key, std::string_view value)>& visit) const;
  Result<uint64_t> ChunkCount() const;

  // A walk in the order of keys, over the index as it was when the cursor was made. It puts nothing out of the cache. One thread.
  class Cursor {
   public:
    Cursor(Cursor&&) noexcept;
    Cursor& operator=(Cursor&&) noexcept;
    ~Cursor();
    // To the first key that is not before `key`.
    void Seek(std::string_view key);
    void Next();
    // On a key, which begins with `prefix`. The views below are then valid until the cursor moves.
    bool IsWithin(std::string_view prefix) const;
    std::string_view key() const;
    std::string_view value() const;
    // Not ok: the walk ended early.
    Status status() const;

   private:
    friend class Index;
    struct Body;
    explicit Cursor(std::unique_ptr<Body> body);
    std::unique_ptr<Body> body_;
  };
  Cursor MakeCursor() const;

  Status Apply(Batch batch);
  // Everything applied before is durable after.
  Status Flush();

 private:
  struct Body;
  explicit Index(std::unique_ptr<Body> body);
  std::unique_ptr<Body> body_;
};

}  // namespace tarn::store
