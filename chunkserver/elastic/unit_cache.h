// The cache of an elastic target: which units of which generation of which chunk it has, and where (docs/elastic.md).
//
// Of each chunk it keeps one generation, the newest that was asked for. Memory: about 100 bytes for each unit.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "chunkserver/elastic/unit.h"
#include "chunkserver/elastic/unit_log.h"
#include "common/base/mutex.h"
#include "common/base/status.h"

namespace tarn::elastic {

// Thread-safe. What blocks on the disk says so; the lock is never held meanwhile.
class UnitCache {
 public:
  static Result<std::unique_ptr<UnitCache>> Open(const std::string& directory, uint64_t budget_bytes);
  UnitCache(const UnitCache&) = delete;
  UnitCache& operator=(const UnitCache&) = delete;

  // Does not block. Drops what it has of an older generation.
  Found Find(ChunkId chunk, Generation generation, Range range);
  // What a member answered about a run of units: `bytes` are those of the chunk from the first unit on, shorter than the run
  // if the chunk ends there. Their sums have been checked. Blocks. A unit that cannot be written is not kept.
  struct Fetched {
    uint64_t chunk_bytes = 0;
    uint64_t version = 0;  // of the chunk
    std::span<const uint8_t> bytes;
    std::string_view sums;
  };
  void Put(ChunkId chunk, Generation generation, UnitRun run, const Fetched& fetched);
  // Reads what it has of the range and drops the units whose sums do not hold. How many. Blocks.
  size_t DropBad(ChunkId chunk, Generation generation, Range range);
  void Clear();

  struct Counters {
    uint64_t cached_bytes = 0;
    uint64_t units = 0;
    uint64_t bytes_evicted = 0;
    uint64_t bad_units = 0;
  };
  Counters counters() const;
  uint64_t budget_bytes() const { return log_->budget_bytes(); }
  // Of all files, those included that are held by readers only.
  uint64_t open_bytes() const { return log_->open_bytes(); }

 private:
  struct Unit {
    UnitPlace place;
    bool was_read = false;  // since it was written
  };
  struct Chunk {
    Generation generation;
    uint64_t chunk_bytes = 0;
    uint64_t version = 0;
    std::vector<std::pair<uint32_t, Unit>> units;  // in order
  };
  struct Kept {
    UnitKey key;
    UnitPlace place;
    uint64_t chunk_bytes = 0;
    uint64_t version = 0;
  };

  explicit UnitCache(std::unique_ptr<UnitLog> log) : log_(std::move(log)) {}

  static Unit* FindUnit(Chunk& chunk, uint32_t unit);
  void AddPieces(Chunk& chunk, Range range, CachedRead* read) REQUIRES(mutex_);
  void EraseUnit(const UnitKey& key, const Segment* segment) REQUIRES(mutex_);
  void EraseChunk(ChunkId chunk) REQUIRES(mutex_);
  // Takes evicted segments out of the index; gives what of them is worth being written anew.
  std::vector<Kept> Evict(const std::vector<SegmentPtr>& evicted);
  void WriteAnew(const std::vector<Kept>& kept);
  // Unless it is not wanted any more.
  void Insert(const UnitKey& key, const UnitPlace& place, uint64_t chunk_bytes, uint64_t version);
  // Appends and inserts. `evicted`: what the caller is to Evict.
  void Store(const UnitKey& key, std::span<const uint8_t> bytes, std::string_view sums, uint64_t chunk_bytes, uint64_t version,
             std::vector<SegmentPtr>* evicted);

  const std::unique_ptr<UnitLog> log_;
  std::atomic<uint64_t> bytes_evicted_ = 0;
  std::atomic<uint64_t> bad_units_ = 0;

  mutable Mutex mutex_;
  std::unordered_map<ChunkId, Chunk> chunks_ GUARDED_BY(mutex_);
  uint64_t cached_bytes_ GUARDED_BY(mutex_) = 0;
  uint64_t units_ GUARDED_BY(mutex_) = 0;
};

}  // namespace tarn::elastic
