// Read grants: the short leases under which members that are not the primary answer reads (docs/replication.md, "Leases").
#pragma once

#include <memory>
#include <set>

#include "chunkserver/replication/member_change.h"
#include "chunkserver/replication/replica.h"

namespace tarn::replication {

// The member's side: asks a primary, for all groups shared with it at once, as long as readers come. Thread-safe.
class GrantKeeper : public std::enable_shared_from_this<GrantKeeper> {
 public:
  explicit GrantKeeper(ContextPtr ctx) : ctx_(std::move(ctx)) {}
  GrantKeeper(const GrantKeeper&) = delete;
  GrantKeeper& operator=(const GrantKeeper&) = delete;

  // A reader came to `replica`, of which this target is a member. Cheap when somebody asks already.
  void Want(const ReplicaPtr& replica);

 private:
  void Ask(TargetId primary);
  void Granted(int64_t sent_ns, const proto::ReadGrantReply& reply);

  const ContextPtr ctx_;
  Mutex mutex_;
  std::set<TargetId> asking_ GUARDED_BY(mutex_);
};

// The primary's side.
void HandleReadGrant(const ContextPtr& ctx, const proto::ReadGrantRequest& request, const ResponderPtr& responder);

}  // namespace tarn::replication
