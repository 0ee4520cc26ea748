// Counters of the chunk store, for heartbeats and later for the metrics endpoint.
#pragma once

#include <atomic>
#include <cstdint>

namespace tarn::store {

// Thread-safe.
struct StoreMetrics {
  std::atomic<uint64_t> bytes_written{0};         // payload of writes
  std::atomic<uint64_t> records_written{0};
  std::atomic<uint64_t> checksum_errors{0};       // stored bytes that failed their sum also past the page cache
  std::atomic<uint64_t> page_cache_errors{0};     // failed in the page cache only
  std::atomic<uint64_t> checkpoints{0};
  std::atomic<uint64_t> blocks_punched{0};
  std::atomic<uint64_t> segments_removed{0};
  std::atomic<uint64_t> units_rewritten{0};
};

}  // namespace tarn::store
