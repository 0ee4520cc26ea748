#include "chunkserver/replication/read_grants.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "chunkserver/replication/peer_call.h"

namespace tarn::replication {
namespace {

// Without a reader for so long nothing is asked for any more.
constexpr int64_t kReadersGoneMs = 1'000;

}  // namespace

void GrantKeeper::Want(const ReplicaPtr& replica) {
  TargetId primary;
  {
    MutexLock lock(replica->mutex);
    if (replica->role != Role::kMember || replica->grants_asked.exchange(true)) return;
    primary = replica->view.primary();
  }
  {
    MutexLock lock(mutex_);
    if (!asking_.insert(primary).second) return;
  }
  Ask(primary);
}

void GrantKeeper::Ask(TargetId primary) {
  proto::ReadGrantRequest request;
  const int64_t now_ns = ctx_->NowNs();
  {
    // Held so that nobody who wants a grant finds that somebody asks who has just stopped asking.
    MutexLock own_lock(mutex_);
    for (const auto& [group, replica] : ctx_->table.load()->replicas) {
      MutexLock lock(replica->mutex);
      if (replica->role != Role::kMember || replica->view.primary() != primary) continue;
      const bool wanted = now_ns - replica->read_wanted_ns.load(std::memory_order_relaxed) < kReadersGoneMs * kNsPerMs;
      replica->grants_asked = wanted;
      if (!wanted) continue;
      proto::ReadGrantRequest::Group* row = request.add_groups();
      row->set_group(group.value());
      row->set_epoch(replica->view.epoch.value());
    }
    if (request.groups_size() == 0 || ctx_->stopped) {
      asking_.erase(primary);
      return;
    }
  }
  request.set_target(primary.value());
  request.set_from_target(ctx_->target.value());
  CallPeer<proto::ReadGrantReply>(ctx_, primary, rpc::Method::kReadGrant, request, {},
                                  [self = shared_from_this(), now_ns](const Status& status, const proto::ReadGrantReply& reply) {
                                    if (status.ok()) self->Granted(now_ns, reply);
                                  });
  ctx_->executor->RunAfter(ctx_->options.grant_renewal_ms, [self = shared_from_this(), primary] { self->Ask(primary); });
}

void GrantKeeper::Granted(int64_t sent_ns, const proto::ReadGrantReply& reply) {
  const auto table = ctx_->table.load();
  for (const proto::ReadGrantReply::Grant& grant : reply.grants()) {
    const ReplicaPtr replica = table->Find(GroupId(grant.group()));
    if (replica == nullptr) continue;
    MutexLock lock(replica->mutex);
    if (replica->role != Role::kMember || replica->view.epoch != Epoch(grant.epoch())) continue;
    replica->grant_until_ns = std::max(replica->grant_until_ns, sent_ns + int64_t{reply.grant_ms()} * kNsPerMs);
    replica->unconfirmed.Confirm(grant.confirmed_order());
  }
}

void HandleReadGrant(const ContextPtr& ctx, const proto::ReadGrantRequest& request, const ResponderPtr& responder) {
  const TargetId member(request.from_target());
  const auto table = ctx->table.load();
  proto::ReadGrantReply reply;
  reply.set_grant_ms(static_cast<uint32_t>(ctx->options.read_grant_ms));
  for (const proto::ReadGrantRequest::Group& row : request.groups()) {
    const ReplicaPtr replica = table->Find(GroupId(row.group()));
    if (replica == nullptr) continue;
    MutexLock lock(replica->mutex);
    if (!replica->ServesAsPrimary(Epoch(row.epoch())) || !replica->view.IsInSync(member)) continue;
    replica->grants_until_ns[member] = ctx->NowNs() + ctx->options.read_grant_ms * kNsPerMs;
    proto::ReadGrantReply::Grant* grant = reply.add_grants();
    grant->set_group(row.group());
    grant->set_epoch(row.epoch());
    grant->set_confirmed_order(replica->ConfirmedOrder());
  }
  responder->Reply(reply);
}

}  // namespace tarn::replication
