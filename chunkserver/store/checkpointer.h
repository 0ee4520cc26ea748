// Brings the index up to date with the log: what was written since the last checkpoint need not be scanned after a crash.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "chunkserver/store/chunk_table.h"
#include "chunkserver/store/committer.h"
#include "chunkserver/store/dead_data.h"
#include "chunkserver/store/index.h"
#include "chunkserver/store/reclaimer.h"
#include "chunkserver/store/segment_log.h"
#include "chunkserver/store/store_metrics.h"
#include "chunkserver/store/tombstones.h"
#include "common/base/status.h"

namespace tarn::store {

// All outlive it.
struct CheckpointerParts {
  ChunkTable* table = nullptr;
  SegmentLog* log = nullptr;
  Committer* committer = nullptr;
  Index* index = nullptr;
  Reclaimer* reclaimer = nullptr;
  Tombstones* tombstones = nullptr;
  DeadData* dead_data = nullptr;
  StoreMetrics* metrics = nullptr;
};

// One thread at a time (the maintenance thread).
class Checkpointer {
 public:
  explicit Checkpointer(const CheckpointerParts& parts) : parts_(parts) {}

  // Dead spaces are named from this key on.
  void Start(uint64_t next_dead_key) { next_dead_key_ = next_dead_key; }

  bool HasWork() const;
  // On failure everything is as dirty as before, and the next run tries again.
  Status Run();
  // Stores dirty chunks without a checkpoint, to free memory during a rebuild of the index.
  Status IndexDirtyChunks();

 private:
  struct Taken;

  Status IndexChunks(Taken* taken, Index::Batch* rest);
  void EncodeChunk(Chunk* chunk, Index::Batch* batch, Taken* taken);
  Status Store(const SegmentLog::Position& position, Taken* taken);
  void AddOwed(const SegmentLog::Position& position, Taken* taken, Index::Batch* batch);
  void NameDead(DeadSpace space, Index::Batch* batch, Taken* taken);
  Result<DeadRange> AppendRecord();
  void GiveBack(Taken* taken);
  static void ForgetIndexing(const Taken& taken);

  const CheckpointerParts parts_;
  uint64_t next_dead_key_ = 1;
  std::vector<NamedDeadSpace> carried_;  // named by a checkpoint that failed
  DeadRange last_record_;                // of the last checkpoint; block_count 0: none
};

}  // namespace tarn::store
