#include "chunkserver/replication/commit_job.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "chunkserver/replication/peer_call.h"
#include "chunkserver/replication/sync_job.h"

namespace tarn::replication {
namespace {

// A member that has failed is out of the group long before this.
constexpr int64_t kGiveUpTimeouts = 10;

class CommitJob : public std::enable_shared_from_this<CommitJob> {
 public:
  using Done = std::function<void(const Status&, const std::vector<GroupId>&)>;
  CommitJob(ContextPtr ctx, Done done) : ctx_(std::move(ctx)), done_(std::move(done)), began_ns_(ctx_->NowNs()) {}

  void Start(const std::vector<ReplicaPtr>& groups) {
    std::map<TargetId, std::vector<ReplicaPtr>> members;
    {
      MutexLock own_lock(mutex_);
      for (const ReplicaPtr& replica : groups) {
        MutexLock lock(replica->mutex);
        if (replica->role != Role::kPrimary || !replica->serving) {
          not_primary_.insert(replica->group);
          continue;
        }
        if (replica->committed_changes == replica->changes) continue;
        // A change that is still on its way to a member is not covered: it may arrive there after the commit.
        covers_.push_back({replica, replica->view.epoch, replica->pending.empty() ? replica->changes : replica->committed_changes});
        for (const TargetId member : MembersOf(*replica)) members[member].push_back(replica);
      }
      waiting_ = members.size() + 1;
    }
    ctx_->store->WhenDurable([self = shared_from_this()](const Status& status) { self->PartDone(status); });
    for (const auto& [member, replicas] : members) Ask(member, replicas);
  }

 private:
  struct Cover {
    ReplicaPtr replica;
    Epoch epoch;
    uint64_t changes;
  };

  // In-sync ones, and those that may become so at any moment.
  static std::set<TargetId> MembersOf(const Replica& replica) REQUIRES(replica.mutex) {
    std::set<TargetId> members(replica.view.in_sync.begin(), replica.view.in_sync.end());
    for (const auto& [member, job] : replica.syncs) {
      if (job->TakesAll()) members.insert(member);
    }
    members.erase(replica.ctx->target);
    return members;
  }

  void Ask(TargetId member, const std::vector<ReplicaPtr>& replicas) {
    proto::CommitTargetRequest request;
    request.set_target(member.value());
    request.set_this_target_only(true);
    for (const ReplicaPtr& replica : replicas) request.add_groups(replica->group.value());
    CallPeer<proto::CommitTargetReply>(ctx_, member, rpc::Method::kCommitTarget, request, {},
                                       [=, self = shared_from_this()](const Status& status, const proto::CommitTargetReply&) {
                                         status.ok() ? self->PartDone(status) : self->Failed(member, replicas, status);
                                       });
  }

  // Asked again as long as it is a member of one of the groups.
  void Failed(TargetId member, const std::vector<ReplicaPtr>& replicas, const Status& status) {
    const bool too_long = ctx_->NowNs() - began_ns_ >= ctx_->options.member_timeout_ms * kNsPerMs;
    std::vector<ReplicaPtr> needed;
    std::vector<std::pair<ReplicaPtr, bool>> failed;
    for (const ReplicaPtr& replica : replicas) {
      MutexLock own_lock(mutex_);
      MutexLock lock(replica->mutex);
      if (replica->role != Role::kPrimary) {
        not_primary_.insert(replica->group);
      } else if (MembersOf(*replica).contains(member)) {
        needed.push_back(replica);
        failed.emplace_back(replica, replica->view.IsInSync(member) || replica->equal_reported.contains(member));
      }
    }
    if (needed.empty()) return PartDone(Status::Ok());
    if (ctx_->NowNs() - began_ns_ >= kGiveUpTimeouts * ctx_->options.member_timeout_ms * kNsPerMs) return PartDone(status);
    for (const auto& [replica, counts] : failed) {
      if (counts && (too_long || !IsPassing(status.code()))) replica->ReportFailed(member, status.WithContext("commit").ToString());
    }
    ctx_->executor->RunAfter(kRepeatDelayMs, [=, self = shared_from_this()] { self->Ask(member, needed); });
  }

  void PartDone(const Status& part) {
    std::vector<GroupId> not_primary;
    Status status;
    {
      MutexLock own_lock(mutex_);
      if (!part.ok() && status_.ok()) status_ = part;
      if (--waiting_ > 0) return;
      for (const Cover& cover : covers_) {
        MutexLock lock(cover.replica->mutex);
        if (cover.replica->role != Role::kPrimary || !cover.replica->serving) {
          not_primary_.insert(cover.replica->group);
        } else if (status_.ok() && cover.replica->view.epoch == cover.epoch) {
          cover.replica->committed_changes = std::max(cover.replica->committed_changes, cover.changes);
        }
      }
      not_primary.assign(not_primary_.begin(), not_primary_.end());
      status = status_;
    }
    done_(status, not_primary);
  }

  const ContextPtr ctx_;
  const Done done_;
  const int64_t began_ns_;
  Mutex mutex_;
  Status status_ GUARDED_BY(mutex_);
  size_t waiting_ GUARDED_BY(mutex_) = 0;
  std::set<GroupId> not_primary_ GUARDED_BY(mutex_);
  std::vector<Cover> covers_ GUARDED_BY(mutex_);
};

}  // namespace

void CommitGroups(const ContextPtr& ctx, const std::vector<ReplicaPtr>& groups,
                  std::function<void(const Status&, const std::vector<GroupId>& not_primary)> done) {
  std::make_shared<CommitJob>(ctx, std::move(done))->Start(groups);
}

}  // namespace tarn::replication
