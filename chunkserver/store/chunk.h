// What is known of one chunk in memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "chunkserver/store/extent_map.h"
#include "chunkserver/store/format.h"
#include "chunkserver/store/replica_store.h"
#include "common/base/mutex.h"

namespace tarn::store {

inline ChunkState StateOf(const ChunkHead& head) {
  return {.stamp = {head.epoch, head.version}, .group = head.group, .bytes = head.bytes, .truncate_generation = head.truncate_generation};
}

// Space that a change left dead, and the record that changed it: until that record is in the durable index the space is still needed.
struct DeadSpace {
  std::vector<DeadRange> ranges;
  RecordSequence killed_by;
};

// Thread-safe as the guards say. Locks are taken in this order: write_mutex, map_mutex.
struct Chunk {
  explicit Chunk(ChunkId chunk_id) : id(chunk_id) {}

  const ChunkId id;
  // The order of the chunk's writes; the only lock that is held over I/O.
  Mutex write_mutex;

  Mutex map_mutex;
  bool loaded GUARDED_BY(map_mutex) = false;  // head and unit 0
  ChunkHead head GUARDED_BY(map_mutex);
  ExtentMap map GUARDED_BY(map_mutex);
  // Not yet in the index. A dirty chunk is in the table's list of dirty ones.
  bool dirty GUARDED_BY(map_mutex) = false;
  bool counted GUARDED_BY(map_mutex) = false;  // the index's count of chunks has it
  std::vector<DeadSpace> dead GUARDED_BY(map_mutex);

  // The table's: what it last counted as this chunk's memory.
  std::atomic<size_t> accounted_bytes{0};
};

}  // namespace tarn::store
