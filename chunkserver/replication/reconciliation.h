// A new primary's first step: nothing of the group is served before all in-sync members are as this target is.
//
// All other in-sync members answer Reconcile, and from then on refuse older epochs. Every chunk that anybody knows a change of that may not be
// everywhere is made equal; where a process has lost its list, every chunk is compared. Before that the members forget of their session windows
// what this target does not know (it goes from their chunks), and afterwards they learn the rest: if this breaks off, no member believes to have
// applied what its chunks do not hold.
// A member that does not answer is reported; the epoch without it ends this job and begins another.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "chunkserver/replication/inventory_diff.h"
#include "chunkserver/replication/replica.h"

namespace tarn::replication {

// Thread-safe. Owned by its replica and by what is under way.
class Reconciliation : public std::enable_shared_from_this<Reconciliation> {
 public:
  Reconciliation(ReplicaPtr replica, const GroupView& view) : replica_(replica), ctx_(replica->ctx), view_(view) {}
  Reconciliation(const Reconciliation&) = delete;
  Reconciliation& operator=(const Reconciliation&) = delete;

  void Start();

 private:
  using Todo = std::pair<ChunkId, TargetId>;

  bool IsCurrent() const;
  // Runs `attempt` again after a while; a member that fails for long is reported.
  void Again(TargetId member, const Status& status, std::function<void()> attempt);
  void Succeeded(TargetId member);

  void AskMember(TargetId member);
  void Listed(TargetId member, const proto::ReconcileReply& reply);
  void AllListed();
  void CompareAll(TargetId member, std::optional<ChunkId> after);
  void CopySome();
  void CopyOne(const Todo& todo);
  void SendWindows(bool forget);
  void SendWindowsTo(TargetId member, const proto::InstallWindowsRequest& request);
  void CompareSome();

  const ReplicaPtr replica_;
  const ContextPtr ctx_;
  const GroupView view_;

  Mutex mutex_;
  std::map<TargetId, int64_t> failing_since_ns_ GUARDED_BY(mutex_);
  std::set<TargetId> waiting_ GUARDED_BY(mutex_);  // for answers, in each of the steps
  std::set<TargetId> compared_ GUARDED_BY(mutex_);  // whole
  std::set<ChunkId> listed_ GUARDED_BY(mutex_);
  std::set<Todo> todo_ GUARDED_BY(mutex_);
  uint32_t copying_ GUARDED_BY(mutex_) = 0;
};

}  // namespace tarn::replication
