// Which chunks of a group differ between this target and a member, a page at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "chunkserver/replication/replica.h"

namespace tarn::replication {

struct InventoryDifference {
  std::vector<ChunkId> chunks;        // whose stamps differ, or which only one of the two has; in order
  std::optional<ChunkId> through;     // compared up to here; none: to the end
  uint64_t bytes = 0;                 // of this target's chunks that were looked at
};

// Pure: one page of each, both beginning at the same position.
InventoryDifference DiffPages(const store::InventoryPage& own, const store::InventoryPage& theirs);

// Fetches and compares the pages after `after`. `done` on any thread.
void DiffInventory(const ReplicaPtr& replica, Epoch epoch, TargetId member, std::optional<ChunkId> after,
                   std::function<void(const Status&, const InventoryDifference&)> done);

}  // namespace tarn::replication
