// Brings damaged blocks of this target's copy of a chunk back from another in-sync copy of the same stamp.
#pragma once

#include <functional>

#include "chunkserver/replication/replica.h"

namespace tarn::replication {

// kCorruption: no other copy has the blocks. kUnavailable: none could be asked; try again.
void RepairChunk(const ReplicaPtr& replica, ChunkId chunk, std::function<void(const Status&)> done);
// The caller has the turn; on a thread that may block. One attempt.
void RepairChunkInTurn(const ReplicaPtr& replica, ChunkId chunk, const ChunkOrder::TurnPtr& turn, std::function<void(const Status&)> done);

}  // namespace tarn::replication
