// One placement group on this target: what it is there, and what is under way.
//
// This class keeps the state and its transitions with the map; what happens in a state lies beside it: client_change.h (a client's change at
// the primary), member_change.h (a change of the primary's at a member), reconciliation.h, sync_job.h, chunk_copy.h, commit_job.h.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "chunkserver/replication/applying_changes.h"
#include "chunkserver/replication/chunk_order.h"
#include "chunkserver/replication/context.h"
#include "chunkserver/replication/group_view.h"
#include "chunkserver/replication/lost_writes.h"
#include "chunkserver/replication/unconfirmed_list.h"
#include "common/base/mutex.h"

namespace tarn::replication {

class Reconciliation;
class SyncJob;

// Bounds of one group on one target.
inline constexpr size_t kPendingMax = 4'096;     // changes that not every member has acknowledged
inline constexpr size_t kQueuedMax = 1'024;      // clients' changes that wait for the end of a reconciliation
inline constexpr size_t kBaseWaitersMax = 1'024;  // a primary's changes that wait for the one before

// For so long after a loss clients may send again what was lost: they notice a new incarnation within seconds.
inline constexpr int64_t kLostWritesKeptMs = 120'000;

void RunAll(Callbacks callbacks);

// A change that the primary has applied and not every member that counts has acknowledged.
struct PendingChange {
  uint64_t order = 0;
  ChunkId chunk;
  proto::ReplicateRequest message;  // without address and confirmed order
  std::span<const uint8_t> payload;
  std::shared_ptr<void> holder;  // of the payload
  bool durable = false;
  std::set<TargetId> waiting;  // for an acknowledgement; this target itself: for its own disk
  std::map<TargetId, int64_t> first_sent_ns;
  ChangeAnswer answer;
  ChangeCallback done;
  Callbacks followers;  // run when it is confirmed, or will not be here
};

// Thread-safe. Owned by shared pointers.
class Replica : public std::enable_shared_from_this<Replica> {
 public:
  Replica(ContextPtr context, GroupId id) : ctx(std::move(context)), group(id), order(std::make_shared<ChunkOrder>(ctx->executor)) {}
  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;

  // What the newest map says. An epoch that is known is passed over.
  void Adopt(const GroupView& newer);
  // Every client's change that waits is failed.
  void Stop();

  ReadVerdict AdmitRead(Epoch epoch, ChunkId chunk);
  // See TargetReplication.
  ReadVerdict AdmitConfirmedRead(Epoch epoch, ChunkId chunk);
  // It was asked for a read as a member, and nobody asks for grants.
  bool WantsGrant() const { return read_wanted_ns.load(std::memory_order_relaxed) != 0 && !grants_asked.load(std::memory_order_relaxed); }

  // As a member: every change of the chunk that is here is known to be everywhere.
  bool HasSettled(ChunkId chunk) const REQUIRES(mutex);
  // kOk: the sender is this group's primary and this target its member in `address`' epoch. With the lock held.
  Status CheckFromPrimary(const proto::GroupAddress& address) const REQUIRES(mutex);
  // Once an epoch for each member; this target is the primary.
  void ReportFailed(TargetId member, const std::string& reason) EXCLUDES(mutex);
  // Reconciled: serves from here on. Lock not held.
  void BeginServing(Epoch epoch) EXCLUDES(mutex);

  // ---- The primary's changes; with the lock held.
  bool NeedsLease() const REQUIRES(mutex) { return view.in_sync.size() > 1 || !equal_reported.empty(); }
  bool ServesAsPrimary(Epoch epoch) const REQUIRES(mutex) { return role == Role::kPrimary && serving && view.epoch == epoch; }
  uint64_t ConfirmedOrder() const REQUIRES(mutex) { return pending.empty() ? last_order : pending.begin()->first - 1; }
  // Moves what has become confirmed out of `pending`; what has to be called goes to `out`.
  void CollectConfirmed(Callbacks* out) REQUIRES(mutex);
  // The same for one change that may have become so.
  void Acknowledged(const PendingChange& change, Callbacks* out) REQUIRES(mutex);
  // The member has heard that everything up to `through` is confirmed.
  void NoteTold(TargetId member, uint64_t through) REQUIRES(mutex) { told_orders[member] = std::max(told_orders[member], through); }
  // How long acknowledgements have to wait yet, in ns; 0: not at all.
  int64_t AcknowledgementDelayNs() REQUIRES(mutex);
  // The one way to stop counting a syncing member that has failed; true if it was dropped, false: it counts (see equal_reported).
  bool DropSyncing(TargetId member, Callbacks* out) REQUIRES(mutex);
  // From now on the member counts as if it were in-sync.
  void MarkEqualReported(TargetId member) REQUIRES(mutex);
  // What was noted since the group's last loss; null: not all of it is known here, or any more.
  LostWrites* LostWritesNow() REQUIRES(mutex);

  const ContextPtr ctx;
  const GroupId group;
  const std::shared_ptr<ChunkOrder> order;

  // ---- What follows is guarded by the mutex, which is held for moments only.
  Mutex mutex;
  GroupView view GUARDED_BY(mutex);
  Role role GUARDED_BY(mutex) = Role::kNone;
  ApplyingChanges applying GUARDED_BY(mutex);
  // Changes of this target that may not be everywhere, kept through every change of role until a reconciliation ends.
  UnconfirmedList unconfirmed GUARDED_BY(mutex);
  std::unordered_set<ChunkId> installed GUARDED_BY(mutex);  // touched by copies under a reconciliation; as unconfirmed ones
  bool list_lost GUARDED_BY(mutex) = false;                 // an earlier process may have had such changes

  // As the primary.
  bool serving GUARDED_BY(mutex) = false;
  std::set<TargetId> equal_reported GUARDED_BY(mutex);   // in this epoch: may become in-sync at any moment, so they count as if they were
  std::set<TargetId> failed_reported GUARDED_BY(mutex);  // in this epoch
  uint64_t last_order GUARDED_BY(mutex) = 0;
  std::map<uint64_t, std::shared_ptr<PendingChange>> pending GUARDED_BY(mutex);
  std::unordered_map<ChunkId, uint64_t> newest_pending GUARDED_BY(mutex);
  // Until then a member that was removed may answer reads.
  int64_t no_acknowledgement_before_ns GUARDED_BY(mutex) = 0;
  // Changes ordered, and how many of these a commit has covered. A reign begins with one that is not covered.
  uint64_t changes GUARDED_BY(mutex) = 1;
  uint64_t committed_changes GUARDED_BY(mutex) = 0;
  std::map<TargetId, int64_t> grants_until_ns GUARDED_BY(mutex);
  // What members have heard to be confirmed, and `last_order` when confirmations.h looked at it.
  std::map<TargetId, uint64_t> told_orders GUARDED_BY(mutex);
  uint64_t order_at_look GUARDED_BY(mutex) = 0;
  struct Room {
    uint64_t bytes = 0;
    int64_t known_at_ns = 0;
  };
  std::map<TargetId, Room> rooms GUARDED_BY(mutex);
  std::deque<std::function<void()>> queued GUARDED_BY(mutex);  // clients' changes, submitted again when something has changed
  std::unique_ptr<LostWrites> lost_writes GUARDED_BY(mutex);  // LostWritesNow
  int64_t lost_writes_until_ns GUARDED_BY(mutex) = 0;
  std::shared_ptr<Reconciliation> reconciliation GUARDED_BY(mutex);
  std::map<TargetId, std::shared_ptr<SyncJob>> syncs GUARDED_BY(mutex);

  // As a member.
  int64_t grant_until_ns GUARDED_BY(mutex) = 0;
  uint64_t windows_round GUARDED_BY(mutex) = 0;  // in this epoch
  std::unordered_map<ChunkId, uint64_t> copies GUARDED_BY(mutex);  // attempts under way, by the names this target gave them
  std::unordered_map<ChunkId, std::deque<std::function<void()>>> base_waiters GUARDED_BY(mutex);
  size_t base_waiter_count GUARDED_BY(mutex) = 0;
  std::atomic<int64_t> read_wanted_ns{0};  // when it was last asked for a read without being the primary
  std::atomic<bool> grants_asked{false};   // somebody asks the primary again and again

 private:
  void AdoptLocked(const GroupView& newer, Role new_role, Callbacks* out) REQUIRES(mutex);
  void BeginReign(Callbacks* out) REQUIRES(mutex);
  void ContinueReign(const GroupView& older, Callbacks* out) REQUIRES(mutex);
  void LeavePrimary(Callbacks* out) REQUIRES(mutex);
  void StartSyncs(Callbacks* out) REQUIRES(mutex);
  void StopJobs(Callbacks* out) REQUIRES(mutex);
  void PublishSole() REQUIRES(mutex);
  void KeepLostWrites(const GroupView& older, Role old_role) REQUIRES(mutex);
  std::map<uint64_t, std::shared_ptr<PendingChange>>::iterator Confirm(std::map<uint64_t, std::shared_ptr<PendingChange>>::iterator it, Callbacks* out)
      REQUIRES(mutex);
  void CollectConfirmedAfter(int64_t wait_ns, Callbacks* out) REQUIRES(mutex);
  ReadVerdict Verdict(StatusCode code) const { return {.code = code, .map_version = ctx->map_version()}; }

  // The epoch in which this target alone has the group and serves it: reads of it need nothing else. 0: none.
  std::atomic<uint64_t> sole_epoch_{0};
};
using ReplicaPtr = std::shared_ptr<Replica>;

}  // namespace tarn::replication
