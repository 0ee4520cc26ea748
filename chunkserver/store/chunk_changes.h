// What a record does to a chunk in memory: the same for a live write and for its replay from the log.
#pragma once

#include <memory>
#include <span>

#include "chunkserver/store/chunk.h"
#include "chunkserver/store/chunk_loader.h"
#include "chunkserver/store/chunk_table.h"
#include "chunkserver/store/format.h"
#include "chunkserver/store/tombstones.h"

namespace tarn::store {

// A record as the map needs it.
struct ChunkChange {
  const RecordHeader& header;  // kWrite, kRewrite or kTruncate
  RecordPlace place;
  std::span<const uint64_t> sums;
};

// Who has to know of it.
struct ChangeParts {
  ChunkTable* table = nullptr;
  Tombstones* tombstones = nullptr;
};

// All with the chunk's write_mutex held.

// Loads the units that the change touches or displaces.
Status PrepareChange(const ChunkLoader& loader, const std::shared_ptr<Chunk>& chunk, const RecordHeader& header);
// After PrepareChange. Marks the chunk dirty.
void ApplyChange(const ChangeParts& parts, const std::shared_ptr<Chunk>& chunk, const ChunkChange& change);
// Removes everything; the chunk then does not exist. Loads all of its units first.
Status ApplyDeletion(const ChunkLoader& loader, const ChangeParts& parts, const std::shared_ptr<Chunk>& chunk, RecordSequence deleted_by);

}  // namespace tarn::store
