// The store's background work: checkpoints, reclaiming of dead space, segments made ahead of need, rewriting of units with many small extents.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <thread>

#include "chunkserver/store/checkpointer.h"
#include "chunkserver/store/chunk_writer.h"
#include "chunkserver/store/descriptor_bound.h"
#include "chunkserver/store/reclaimer.h"
#include "chunkserver/store/segment_log.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/status.h"

namespace tarn::store {

struct MaintenanceOptions {
  int64_t checkpoint_interval_ms = 10'000;
  // Memory pinned by what is not indexed: a checkpoint begins at half of it, writers wait at all of it.
  uint64_t dirty_bytes_max = 64u << 20;
  // A start after a crash has to look at this much of the log at most (about).
  uint64_t logged_bytes_max = uint64_t{2} << 30;
  bool with_thread = true;  // false: nothing happens but by RunOnce
};

struct MaintenanceParts {
  ChunkTable* table = nullptr;
  SegmentLog* log = nullptr;
  Checkpointer* checkpointer = nullptr;
  Reclaimer* reclaimer = nullptr;
  DescriptorBound* descriptors = nullptr;
  ChunkWriter* writer = nullptr;
  const StoreMetrics* metrics = nullptr;
  const Clock* clock = nullptr;
};

// Thread-safe.
class Maintenance {
 public:
  // All parts outlive it.
  Maintenance(const MaintenanceParts& parts, const MaintenanceOptions& options);
  // Joins; begins nothing more.
  ~Maintenance();
  Maintenance(const Maintenance&) = delete;
  Maintenance& operator=(const Maintenance&) = delete;

  // Stops the thread for good. RunOnce and Finish may be called after.
  void Stop();
  // Everything that is due; with `force_checkpoint` also a checkpoint that is not. With the thread stopped, or none.
  // `holes_max`: as of Reclaimer::Run.
  Status RunOnce(bool force_checkpoint, size_t holes_max = SIZE_MAX);
  // Before the store is closed; takes no long time.
  Status Finish();
  // Writers wait here while too much is not indexed. kNoSpace or kIoError if the index cannot be written.
  Status WaitForRoom();
  // A unit that has become many small extents. Dropped silently when too many wait: it will be queued again.
  void QueueRewrite(ChunkId chunk, uint32_t unit);
  void Wake();
  // The error of the last checkpoint, if it was one of the disk (a full disk is none).
  Status disk_failure() const;

 private:
  struct UnitName {
    ChunkId chunk;
    uint32_t unit = 0;
  };
  void Run();
  bool CheckpointIsDue() const;
  Status Checkpoint();
  void RewriteUnits();
  // That may be punched now.
  size_t HolesDue();

  const MaintenanceParts parts_;
  const MaintenanceOptions options_;

  // Of the thread that runs.
  int64_t last_checkpoint_ms_ = 0;
  int64_t last_holes_ms_ = 0;
  uint64_t records_at_holes_ = 0;
  uint64_t bytes_at_checkpoint_ = 0;
  bool failure_is_logged_ = false;

  mutable Mutex mutex_;
  CondVar wake_;
  CondVar room_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool is_woken_ GUARDED_BY(mutex_) = false;
  Status checkpoint_failure_ GUARDED_BY(mutex_);
  std::deque<UnitName> rewrites_ GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace tarn::store
