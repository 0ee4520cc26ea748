// What all files of a data plane share: buffers, caches, the chunk client, the list of files with unwritten data, and
// the writers that wait for room. Internal to the data plane.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "client/data/chunk_client.h"
#include "client/data/data_plane.h"
#include "client/data/metadata_gate.h"
#include "client/data/read_ahead.h"
#include "client/data/span_cache.h"
#include "client/data/target_commits.h"
#include "client/data/write_buffer.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/rpc/event_loop.h"

namespace tarn::client {

class InodeDataImpl;
using InodeDataPtr = std::shared_ptr<InodeDataImpl>;

// Thread-safe. Its mutex is a leaf: nothing is called while it is held, so an inode may call with its own mutex held
// where it says so.
class PlaneCore : public std::enable_shared_from_this<PlaneCore> {
 public:
  // `loops` and `metadata` outlive Close.
  PlaneCore(const DataPlaneOptions& plane_options, std::vector<rpc::EventLoop*> event_loops,
            MetadataForData* metadata_half, std::shared_ptr<const Clock> plane_clock,
            std::shared_ptr<WriteBuffer> write_buffer);
  ~PlaneCore();
  PlaneCore(const PlaneCore&) = delete;
  PlaneCore& operator=(const PlaneCore&) = delete;

  // The one object for the data of this inode.
  InodeDataPtr Attach(const Attributes& attributes);
  // Its destructor says so.
  void Forget(InodeId inode);
  // Has something unwritten, uncommitted or unstable: kept alive and looked at from time to time. May be called under
  // the inode's mutex.
  void Activate(const InodeDataPtr& inode);
  void Deactivate(const InodeDataPtr& inode);
  std::vector<InodeDataPtr> Active();

  // ---- Room in the write buffer ----
  // Writers that found no room wait in the order in which they came.
  bool HasWaitingWrites() const { return waiting_writes_count_.load(std::memory_order_acquire) > 0; }
  void QueueWrite(InodeDataPtr inode, uint64_t offset, std::span<const uint8_t> bytes, StatusCallback done);
  // Some room may have become free. Not under any lock.
  void OnRoom();
  // Flushes early when the buffer fills. Not under any lock.
  void CheckPressure();
  // Changes of what all inodes hold together. Under the inode's mutex.
  void AccountBuffered(int64_t unacknowledged_delta, int64_t unstable_delta);
  void NoteBuffered(uint64_t bytes) { buffered_since_relief_.fetch_add(bytes, std::memory_order_relaxed); }
  uint64_t unacknowledged_bytes() const { return unacknowledged_bytes_.load(std::memory_order_relaxed); }

  uint64_t NextCacheKey() { return next_cache_key_.fetch_add(1); }

  // Everything in flight fails with kCancelled; buffered data is given up. On no loop thread.
  void Close();
  bool closed() const { return closed_.load(std::memory_order_acquire); }

  // Immutable after construction.
  const DataPlaneOptions options;
  const ReadAheadLimits read_ahead_limits;
  const std::vector<rpc::EventLoop*> loops;
  const std::shared_ptr<const Clock> clock;
  const std::shared_ptr<MetadataGate> metadata;
  const std::shared_ptr<WriteBuffer> buffer;

  SpanCache spans;
  ChunkClient chunks;
  const std::shared_ptr<TargetCommits> commits;

 private:
  struct WaitingWrite {
    InodeDataPtr inode;
    uint64_t offset = 0;
    std::vector<uint8_t> bytes;
    size_t buffered = 0;
    StatusCallback done;
  };

  void ScheduleTick();
  void Tick();
  void RelievePressure();
  // Buffers the first waiting write as far as there is room. True if it is over (it was removed).
  bool AdvanceFirstWrite();

  std::atomic<bool> closed_{false};
  std::atomic<uint64_t> next_cache_key_{1};
  std::atomic<uint64_t> waiting_writes_count_{0};
  std::atomic<uint64_t> unacknowledged_bytes_{0};
  std::atomic<uint64_t> unstable_bytes_{0};
  std::atomic<uint64_t> buffered_since_relief_{0};
  std::atomic<bool> relief_scheduled_{false};

  Mutex mutex_;
  std::unordered_map<InodeId, std::weak_ptr<InodeDataImpl>> inodes_ GUARDED_BY(mutex_);
  std::unordered_set<InodeDataPtr> active_ GUARDED_BY(mutex_);
  bool tick_scheduled_ GUARDED_BY(mutex_) = false;
  int64_t last_commit_ns_ GUARDED_BY(mutex_) = 0;

  Mutex waiting_mutex_;
  std::deque<std::shared_ptr<WaitingWrite>> waiting_writes_ GUARDED_BY(waiting_mutex_);
  bool pumping_ GUARDED_BY(waiting_mutex_) = false;
  bool pump_again_ GUARDED_BY(waiting_mutex_) = false;
};

}  // namespace tarn::client
