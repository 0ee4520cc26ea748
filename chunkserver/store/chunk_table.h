// The chunks in memory: a least-recently-used cache over the index, in which changed chunks stay until they are indexed.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <vector>

#include "chunkserver/store/chunk.h"
#include "common/base/mutex.h"

namespace tarn::store {

// Thread-safe.
class ChunkTable {
 public:
  // Clean chunks that nobody uses go when all together take more than this.
  explicit ChunkTable(uint64_t memory_bytes_max) : memory_bytes_max_(memory_bytes_max) {}

  // nullptr: not in memory.
  std::shared_ptr<Chunk> Find(ChunkId id);
  // Makes an empty one, not loaded, if there is none.
  std::shared_ptr<Chunk> FindOrMake(ChunkId id);
  // Those of a data id that are in memory.
  std::vector<std::shared_ptr<Chunk>> FindAll(DataId data);

  // Evicts until all fit, or nothing more can go: after a checkpoint, when many chunks became clean.
  void Trim();

  // To be called after its map grew or shrank (without map_mutex).
  void Account(const std::shared_ptr<Chunk>& chunk, size_t memory_bytes);

  // The chunk was just marked dirty, with about this much to be indexed.
  void AddDirty(std::shared_ptr<Chunk> chunk, size_t memory_bytes);
  void NoteDirtied(size_t memory_bytes) { dirty_bytes_.fetch_add(memory_bytes, std::memory_order_relaxed); }
  // They stay among those that the index may not show as they are, until DirtyAreIndexed.
  std::vector<std::shared_ptr<Chunk>> TakeDirty();
  void DirtyAreIndexed();
  // Every chunk that the index may not show as it is (some twice).
  std::vector<std::shared_ptr<Chunk>> NotIndexed();
  // Memory that is pinned until the next checkpoint.
  uint64_t dirty_bytes() const { return dirty_bytes_.load(std::memory_order_relaxed); }
  uint64_t memory_bytes() const { return memory_bytes_.load(std::memory_order_relaxed); }

 private:
  static constexpr size_t kShards = 64;
  struct Entry {
    std::shared_ptr<Chunk> chunk;
    std::list<ChunkId>::iterator recency;
  };
  struct Shard {
    Mutex mutex;
    std::map<ChunkId, Entry> chunks GUARDED_BY(mutex);  // ordered, so that the chunks of a data id are neighbours
    std::list<ChunkId> by_recency GUARDED_BY(mutex);    // most recent first
  };

  // All chunks of a data id lie in one shard.
  Shard& ShardOf(DataId data) { return shards_[std::hash<uint64_t>{}(data.value() * 0x9E3779B97F4A7C15ull >> 32) % kShards]; }
  // Moves evicted chunks to `evicted`, to be destroyed without the lock.
  void Evict(Shard& shard, std::vector<std::shared_ptr<Chunk>>* evicted) REQUIRES(shard.mutex);

  const uint64_t memory_bytes_max_;
  std::array<Shard, kShards> shards_;
  std::atomic<uint64_t> memory_bytes_{0};
  std::atomic<uint64_t> dirty_bytes_{0};

  Mutex dirty_mutex_;
  std::vector<std::shared_ptr<Chunk>> dirty_ GUARDED_BY(dirty_mutex_);
  std::vector<std::shared_ptr<Chunk>> indexing_ GUARDED_BY(dirty_mutex_);
};

}  // namespace tarn::store
