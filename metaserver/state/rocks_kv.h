// The key-value seam on RocksDB: one column family, no write-ahead log (the replicated log is one), bounded memory.
//
// With one column family RocksDB makes its memory tables durable in the order in which they were filled, so what a
// crash leaves is always the state after some batch.
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <string>

#include "common/base/mutex.h"
#include "metaserver/state/kv.h"

namespace tarn::meta {

struct RocksKvOptions {
  // Block cache, index and filter blocks and write buffers together.
  uint64_t memory_bytes = uint64_t{256} << 20;
};

// Thread-safe as KvStore says. Owns the directory through RocksDB's lock.
class RocksKv final : public KvStore {
 public:
  // Opens the database in `directory`, which is made if there is none. kCorruption, naming the directory: damaged, or
  // not one of ours; kBusy: another process has it open.
  static Result<std::unique_ptr<RocksKv>> Open(const std::string& directory, const RocksKvOptions& options);
  ~RocksKv() override;
  RocksKv(const RocksKv&) = delete;
  RocksKv& operator=(const RocksKv&) = delete;

  std::unique_ptr<KvView> View() const override;
  Result<std::optional<std::string>> Get(std::string_view key) const override;
  Status Write(const KvBatch& batch) override;
  Status Flush() override;
  Status Checkpoint(const std::string& directory) override;

  // Closes the database, lets `swap` put another one into the directory and opens that. The writer's thread; blocks.
  // Readers meanwhile get kUnavailable; a view that somebody holds delays it, for a bounded time. After an error the
  // store is of no use any more.
  Status Replace(const std::function<Status()>& swap);

 private:
  struct Database;
  RocksKv(std::string directory, const RocksKvOptions& options);
  Status OpenDatabase() EXCLUDES(mutex_);
  // Null while it is being replaced.
  std::shared_ptr<Database> database() const EXCLUDES(mutex_);

  const std::string directory_;
  const RocksKvOptions options_;

  mutable Mutex mutex_;
  std::shared_ptr<Database> database_ GUARDED_BY(mutex_);
  std::future<void> database_closed_;  // the writer's thread
};

}  // namespace tarn::meta
