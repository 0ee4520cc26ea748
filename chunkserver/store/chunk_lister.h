// Lists what a target holds, in order of ids: the index's entries and, over them, the chunks in memory that it does not show yet.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "chunkserver/store/chunk_table.h"
#include "chunkserver/store/index.h"
#include "chunkserver/store/replica_store.h"
#include "common/base/ids.h"
#include "common/base/status.h"

namespace tarn::store {

struct DataIdPage {
  std::vector<DataId> ids;  // in order
  bool end = false;
};

// Thread-safe. A change made before the call is seen; one made during it may be or not.
class ChunkLister {
 public:
  // Both outlive it.
  ChunkLister(ChunkTable* table, const Index* index) : table_(table), index_(index) {}

  // Reads the group's own entries of the index (41 bytes a chunk) and looks at every chunk that is not indexed.
  Result<InventoryPage> ListGroup(GroupId group, std::optional<ChunkId> after, size_t entries_max) const;
  // The data ids of which any chunk exists here. One seek in the index for each.
  Result<DataIdPage> ListDataIds(std::optional<DataId> after, size_t entries_max) const;

 private:
  ChunkTable* const table_;
  const Index* const index_;
};

}  // namespace tarn::store
