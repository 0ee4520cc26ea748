// Brings a syncing member up to date: one walk through the group's chunks, beside its writes.
//
// A cursor says how far the walk is: changes of chunks at or before it go to the member as well and wait for it. A page after it is compared;
// where stamps differ the chunk is copied, in its order. A change of a chunk within the page, but not yet copied, puts the chunk on the
// page's list. So one walk is enough, and at its end the member receives every change. Then it gets the session windows. These name changes that
// are still on their way to it, and copies carried changes that others may lack: so all of these must be confirmed. Then it makes everything
// durable and is reported as equal. A failure begins the walk anew; equal stamps make it short.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <unordered_set>

#include "chunkserver/replication/chunk_copy.h"
#include "chunkserver/replication/inventory_diff.h"
#include "chunkserver/replication/replica.h"

namespace tarn::replication {

// Thread-safe; its state is guarded by its replica's mutex. Lives for one epoch. Owned by its replica and by what is under way.
class SyncJob : public std::enable_shared_from_this<SyncJob> {
 public:
  SyncJob(ReplicaPtr replica, Epoch epoch, TargetId member) : replica_(replica), ctx_(replica->ctx), epoch_(epoch), member_(member) {}
  SyncJob(const SyncJob&) = delete;
  SyncJob& operator=(const SyncJob&) = delete;

  void Start();
  // A change failed at the member: the walk begins anew. The member is not waited for any more (Replica::DropSyncing).
  void Fail(const Status& status);

  // With the replica's lock held:
  // Whether the member has to have this change, which has just been applied here. If not, the walk will see the chunk.
  bool TakesChange(ChunkId chunk);
  // Every change goes to the member.
  bool TakesAll() const { return takes_all_; }
  proto::SyncProgress Progress() const;

 private:
  static constexpr int64_t kRestartDelayMs = 500;

  bool IsCurrentLocked(uint64_t pass) const;
  void FailPass(uint64_t pass, int64_t delay_ms = kRestartDelayMs);
  void BeginPass();
  void InstallWindows(uint64_t pass, bool forget);
  void NextPage(uint64_t pass);
  void Compared(uint64_t pass, const InventoryDifference& page);
  void CopySome(uint64_t pass);
  void CopyOne(uint64_t pass, ChunkId chunk);
  void AwaitDrained(uint64_t pass);
  void AwaitConfirmed(uint64_t pass, uint64_t order);
  void CommitMember(uint64_t pass);
  void ReportEqual(uint64_t pass);

  const ReplicaPtr replica_;
  const ContextPtr ctx_;
  const Epoch epoch_;
  const TargetId member_;

  // Guarded by replica_->mutex.
  uint64_t pass_ = 0;  // callbacks of earlier passes do nothing
  bool walking_ = false;
  bool listing_ = false;  // the page's end is not known yet
  bool takes_all_ = false;
  std::optional<ChunkId> cursor_;
  std::optional<ChunkId> page_through_;     // none: to the end
  std::set<ChunkId> todo_;                  // of the page; while listing: what was changed beyond the cursor
  std::unordered_set<ChunkId> received_;    // of the page
  std::unordered_set<ChunkId> unreadable_;  // cannot be read here: the walk goes on without them, and then begins anew
  uint32_t copying_ = 0;
  uint64_t bytes_done_ = 0;
  uint64_t bytes_total_ = 0;
  uint64_t bytes_copied_ = 0;
};

}  // namespace tarn::replication
