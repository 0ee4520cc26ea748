// File handles as the kernel sees them: numbers that mean an entry of a table, never addresses, so that the table can
// be rebuilt by a successor and a stale number is EBADF, not a crash.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/mutex.h"

namespace tarn::fuse {

// Thread-safe. Bounded by the kernel's limit of open files.
template <typename Entry>
class HandleTable {
 public:
  uint64_t Add(std::shared_ptr<Entry> entry) {
    const uint64_t id = next_.fetch_add(1, std::memory_order_relaxed);
    Shard& shard = ShardOf(id);
    MutexLock lock(shard.mutex);
    shard.entries.emplace(id, std::move(entry));
    return id;
  }

  // Null for an unknown id.
  std::shared_ptr<Entry> Find(uint64_t id) {
    Shard& shard = ShardOf(id);
    MutexLock lock(shard.mutex);
    const auto found = shard.entries.find(id);
    return found == shard.entries.end() ? nullptr : found->second;
  }

  std::shared_ptr<Entry> Remove(uint64_t id) {
    Shard& shard = ShardOf(id);
    MutexLock lock(shard.mutex);
    auto node = shard.entries.extract(id);
    return node.empty() ? nullptr : std::move(node.mapped());
  }

  std::vector<std::shared_ptr<Entry>> RemoveAll() {
    std::vector<std::shared_ptr<Entry>> removed;
    for (Shard& shard : shards_) {
      MutexLock lock(shard.mutex);
      for (auto& [id, entry] : shard.entries) removed.push_back(std::move(entry));
      shard.entries.clear();
    }
    return removed;
  }

 private:
  static constexpr size_t kShards = 16;
  struct Shard {
    Mutex mutex;
    std::unordered_map<uint64_t, std::shared_ptr<Entry>> entries GUARDED_BY(mutex);
  };

  Shard& ShardOf(uint64_t id) { return shards_[id % kShards]; }

  std::atomic<uint64_t> next_{1};
  std::array<Shard, kShards> shards_;
};

}  // namespace tarn::fuse
