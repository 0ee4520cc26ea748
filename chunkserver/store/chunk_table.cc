#include "chunkserver/store/chunk_table.h"

#include <utility>

namespace tarn::store {
namespace {

// Of a chunk without units: itself and its entries in the table.
constexpr size_t kChunkOverheadBytes = sizeof(Chunk) + 160;
// Looked at for each eviction; those in use go to the front.
constexpr int kEvictionsTriedMax = 8;

}  // namespace

std::shared_ptr<Chunk> ChunkTable::Find(ChunkId id) {
  Shard& shard = ShardOf(id.data);
  MutexLock lock(shard.mutex);
  const auto it = shard.chunks.find(id);
  if (it == shard.chunks.end()) return nullptr;
  shard.by_recency.splice(shard.by_recency.begin(), shard.by_recency, it->second.recency);
  return it->second.chunk;
}

std::shared_ptr<Chunk> ChunkTable::FindOrMake(ChunkId id) {
  std::vector<std::shared_ptr<Chunk>> evicted;
  Shard& shard = ShardOf(id.data);
  MutexLock lock(shard.mutex);
  const auto [it, is_new] = shard.chunks.try_emplace(id);
  if (!is_new) {
    shard.by_recency.splice(shard.by_recency.begin(), shard.by_recency, it->second.recency);
    return it->second.chunk;
  }
  std::shared_ptr<Chunk> chunk = std::make_shared<Chunk>(id);
  chunk->accounted_bytes.store(kChunkOverheadBytes, std::memory_order_relaxed);
  memory_bytes_.fetch_add(kChunkOverheadBytes, std::memory_order_relaxed);
  shard.by_recency.push_front(id);
  it->second = Entry{chunk, shard.by_recency.begin()};
  Evict(shard, &evicted);
  lock.Unlock();
  return chunk;
}

std::vector<std::shared_ptr<Chunk>> ChunkTable::FindAll(DataId data) {
  std::vector<std::shared_ptr<Chunk>> found;
  Shard& shard = ShardOf(data);
  MutexLock lock(shard.mutex);
  for (auto it = shard.chunks.lower_bound(ChunkId{data, 0}); it != shard.chunks.end() && it->first.data == data; ++it) {
    found.push_back(it->second.chunk);
  }
  return found;
}

void ChunkTable::Account(const std::shared_ptr<Chunk>& chunk, size_t memory_bytes) {
  const size_t now = memory_bytes + kChunkOverheadBytes;
  const size_t before = chunk->accounted_bytes.exchange(now, std::memory_order_relaxed);
  memory_bytes_.fetch_add(now - before, std::memory_order_relaxed);  // wraps around as a subtraction where it shrank
  if (now <= before || memory_bytes_.load(std::memory_order_relaxed) <= memory_bytes_max_) return;
  std::vector<std::shared_ptr<Chunk>> evicted;
  Shard& shard = ShardOf(chunk->id.data);
  MutexLock lock(shard.mutex);
  Evict(shard, &evicted);
  lock.Unlock();
}

void ChunkTable::Trim() {
  bool has_evicted = true;
  while (has_evicted && memory_bytes_.load(std::memory_order_relaxed) > memory_bytes_max_) {
    has_evicted = false;
    for (Shard& shard : shards_) {
      std::vector<std::shared_ptr<Chunk>> evicted;
      MutexLock lock(shard.mutex);
      Evict(shard, &evicted);
      lock.Unlock();
      has_evicted |= !evicted.empty();
    }
  }
}

void ChunkTable::Evict(Shard& shard, std::vector<std::shared_ptr<Chunk>>* evicted) {
  for (int tried = 0; tried < kEvictionsTriedMax; ++tried) {
    if (memory_bytes_.load(std::memory_order_relaxed) <= memory_bytes_max_ || shard.by_recency.empty()) return;
    const auto it = shard.chunks.find(shard.by_recency.back());
    // Whoever uses a chunk holds it, and so does the list of dirty ones; a new holder would need the shard's lock.
    if (it->second.chunk.use_count() > 1) {
      shard.by_recency.splice(shard.by_recency.begin(), shard.by_recency, it->second.recency);
      continue;
    }
    memory_bytes_.fetch_sub(it->second.chunk->accounted_bytes.load(std::memory_order_relaxed), std::memory_order_relaxed);
    evicted->push_back(std::move(it->second.chunk));
    shard.by_recency.erase(it->second.recency);
    shard.chunks.erase(it);
  }
}

void ChunkTable::AddDirty(std::shared_ptr<Chunk> chunk, size_t memory_bytes) {
  NoteDirtied(memory_bytes);
  MutexLock lock(dirty_mutex_);
  dirty_.push_back(std::move(chunk));
}

std::vector<std::shared_ptr<Chunk>> ChunkTable::TakeDirty() {
  MutexLock lock(dirty_mutex_);
  // Chunks that become dirty from here on are counted for the next checkpoint.
  dirty_bytes_.store(0, std::memory_order_relaxed);
  indexing_ = std::exchange(dirty_, {});
  return indexing_;
}

void ChunkTable::DirtyAreIndexed() {
  std::vector<std::shared_ptr<Chunk>> indexed;
  MutexLock lock(dirty_mutex_);
  indexed.swap(indexing_);
  lock.Unlock();
}

std::vector<std::shared_ptr<Chunk>> ChunkTable::NotIndexed() {
  MutexLock lock(dirty_mutex_);
  std::vector<std::shared_ptr<Chunk>> chunks = dirty_;
  chunks.insert(chunks.end(), indexing_.begin(), indexing_.end());
  return chunks;
}

}  // namespace tarn::store
