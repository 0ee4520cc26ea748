// Deletes all chunks of data ids that the cluster has declared dead.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "chunkserver/store/chunk_changes.h"
#include "chunkserver/store/chunk_loader.h"
#include "chunkserver/store/dead_data.h"
#include "chunkserver/store/segment_log.h"
#include "chunkserver/store/tombstones.h"
#include "common/base/status.h"

namespace tarn::store {

// Thread-safe; blocks on I/O and on writers of the chunks.
class DataDeleter {
 public:
  // All outlive it.
  DataDeleter(ChunkTable* table, ChunkLoader* loader, SegmentLog* log, DeadData* dead_data, Tombstones* tombstones)
      : table_(table), loader_(loader), log_(log), dead_data_(dead_data), tombstones_(tombstones) {}

  // Gone for readers when it returns, durably so with the next commit. Data ids that have no chunks here are fine.
  Status Delete(std::span<const DataId> data);

 private:
  Status DeleteBatch(std::span<const DataId> data);
  Status LogAndApply(std::span<const uint64_t> ids, const std::vector<std::shared_ptr<Chunk>>& chunks);

  ChunkTable* const table_;
  ChunkLoader* const loader_;
  SegmentLog* const log_;
  DeadData* const dead_data_;
  Tombstones* const tombstones_;
};

}  // namespace tarn::store
