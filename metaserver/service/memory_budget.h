// How a metadata server shares out the memory it may use. Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <optional>

namespace tarn::meta {

inline constexpr uint64_t kMemoryLimitMin = uint64_t{64} << 20;

struct MemoryBudget {
  uint64_t store_bytes = 0;              // RocksDB: blocks, index and filter blocks, write buffers
  uint64_t deferred_bytes = 0;           // changes that are written together (deferred_writes.h)
  uint64_t waiting_mutations_bytes = 0;  // what waits for the log
  uint64_t log_bytes = 0;  // libraft keeps the log since the last snapshot: one is due after so many bytes
};

// Together well below `limit_bytes` (at least kMemoryLimitMin): the rest is for code, threads, connections, answers on
// their way, and what the allocator cannot give back. So resident memory stays below the limit.
MemoryBudget ShareOut(uint64_t limit_bytes);

// What to use where nothing is said: half of what the container may have; without such a bound an eighth of the
// machine's memory. From 256 MiB (less only in a smaller container) to 8 GiB.
uint64_t DefaultMemoryLimit(uint64_t machine_bytes, std::optional<uint64_t> container_bytes);

}  // namespace tarn::meta
