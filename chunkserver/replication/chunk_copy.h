// Makes a member's copy of one chunk equal to this target's, in the chunk's order: sums, the pieces that differ, the end. Blocks of this target's
// copy that are damaged are first mended from other copies.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "chunkserver/replication/replica.h"

namespace tarn::replication {

// What is copied; this target is the primary in `epoch`.
struct CopyJob {
  ReplicaPtr replica;
  Epoch epoch;
  TargetId member;
  ChunkId chunk;
};

struct CopyCount {
  uint64_t bytes_total = 0;  // of the chunk
  uint64_t bytes_sent = 0;
  bool source_failed = false;  // this target's own copy cannot be read, nor mended from another one: the member is not at fault
};
using CopyCallback = std::function<void(const Status&, const CopyCount&)>;

// Waits for the chunk's turn. `before_end`, if given, runs when the copy is equal and the turn is still held: no change comes between.
void CopyChunk(const CopyJob& job, CopyCallback done, std::function<void()> before_end = nullptr);
// The caller has the turn, which is kept until `done`.
void CopyChunk(const CopyJob& job, ChunkOrder::TurnPtr turn, CopyCallback done, std::function<void()> before_end = nullptr);

}  // namespace tarn::replication
