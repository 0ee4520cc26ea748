// Brings chunks and their units from the index into memory.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "chunkserver/store/chunk.h"
#include "chunkserver/store/chunk_table.h"
#include "chunkserver/store/index.h"
#include "common/base/status.h"

namespace tarn::store {

// Thread-safe. What is loaded already is never replaced: memory is always newer than the index.
class ChunkLoader {
 public:
  // Both outlive it.
  ChunkLoader(ChunkTable* table, Index* index) : table_(table), index_(index) {}

  // Head and unit 0 are loaded after; a chunk that was never written has a head that does not exist.
  Result<std::shared_ptr<Chunk>> Load(ChunkId id) const;
  Status LoadUnits(const std::shared_ptr<Chunk>& chunk, BlockRange blocks) const;
  // Also those that a displacement of `blocks` needs (ExtentMap::BlocksNeededFor). With the chunk's write_mutex held.
  Status LoadUnitsToDisplace(const std::shared_ptr<Chunk>& chunk, BlockRange blocks) const;
  // All chunks of a data id of which anything is kept (also removed ones), from memory and index.
  Result<std::vector<std::shared_ptr<Chunk>>> LoadAll(DataId data) const;

 private:
  ChunkTable* const table_;
  Index* const index_;
};

}  // namespace tarn::store
