#include "chunkserver/replication/confirmations.h"

#include <algorithm>
#include <map>
#include <utility>

#include "chunkserver/replication/peer_call.h"
#include "chunkserver/replication/replica.h"

namespace tarn::replication {
namespace {

constexpr int64_t kConfirmDelayMs = 30;
// Of a member that is full and has nothing else to hear.
constexpr int64_t kAskForRoomMs = 500;

using Requests = std::map<TargetId, proto::ConfirmChangesRequest>;

// What of the group is to be told now, to members that have no request of ours yet. When to look again, in ms; 0: nothing is left to do.
int64_t Collect(Replica& replica, Requests* requests) REQUIRES(replica.mutex) {
  if (replica.role != Role::kPrimary || !replica.serving || replica.ctx->stopped) return 0;
  // Changes that follow each other tell it themselves.
  if (std::exchange(replica.order_at_look, replica.last_order) != replica.last_order) return kConfirmDelayMs;
  const uint64_t confirmed = replica.ConfirmedOrder();
  int64_t next_ms = 0;
  for (const TargetId member : replica.view.in_sync) {
    if (member == replica.ctx->target) continue;
    const auto told = replica.told_orders.find(member);
    const bool is_behind = (told == replica.told_orders.end() ? 0 : told->second) < confirmed;
    const auto room = replica.rooms.find(member);
    const bool is_full = room != replica.rooms.end() && room->second.bytes < kMemberRoomBytesMin;
    if (!is_behind && !is_full) continue;
    next_ms = is_behind || next_ms == kConfirmDelayMs ? kConfirmDelayMs : kAskForRoomMs;
    if (!is_behind && replica.ctx->NowNs() - room->second.known_at_ns < kAskForRoomMs * kNsPerMs / 2) continue;
    proto::ConfirmChangesRequest::Group* row = (*requests)[member].add_groups();
    row->set_group(replica.group.value());
    row->set_epoch(replica.view.epoch.value());
    row->set_confirmed_order(confirmed);
  }
  return next_ms;
}

// The member has them, and has told its room; or (not ok) nothing is known of its room.
void Told(const ContextPtr& ctx, TargetId member, const proto::ConfirmChangesRequest& request, const Status& status,
          const proto::ConfirmChangesReply& reply) {
  {
    MutexLock lock(ctx->confirming.mutex);
    ctx->confirming.asked.erase(member);
  }
  const auto table = ctx->table.load();
  for (const proto::ConfirmChangesRequest::Group& row : request.groups()) {
    const ReplicaPtr replica = table->Find(GroupId(row.group()));
    if (replica == nullptr) continue;
    MutexLock lock(replica->mutex);
    if (!replica->ServesAsPrimary(Epoch(row.epoch()))) continue;
    if (status.ok()) {
      replica->NoteTold(member, row.confirmed_order());
      replica->rooms[member] = {reply.available_bytes(), ctx->NowNs()};
    } else {
      replica->rooms.erase(member);
    }
  }
}

void LookAfter(const ContextPtr& ctx, int64_t delay_ms);

void Look(const ContextPtr& ctx, uint64_t number) {
  {
    MutexLock lock(ctx->confirming.mutex);
    if (number != ctx->confirming.look_number) return;  // an earlier one was wanted instead
    ctx->confirming.next_look_ns = 0;
  }
  if (ctx->stopped) return;
  Requests requests;
  int64_t next_ms = 0;
  for (const auto& [group, replica] : ctx->table.load()->replicas) {
    MutexLock lock(replica->mutex);
    const int64_t wanted_ms = Collect(*replica, &requests);
    if (wanted_ms != 0) next_ms = next_ms == 0 ? wanted_ms : std::min(next_ms, wanted_ms);
  }
  {
    // One request at a time for each: one that is silent is not asked more and more.
    MutexLock lock(ctx->confirming.mutex);
    std::erase_if(requests, [&](const auto& each) REQUIRES(ctx->confirming.mutex) { return !ctx->confirming.asked.insert(each.first).second; });
  }
  for (auto& [member, request] : requests) {
    request.set_target(member.value());
    request.set_from_target(ctx->target.value());
    CallPeer<proto::ConfirmChangesReply>(ctx, member, rpc::Method::kConfirmChanges, request, {},
                                         [ctx, to = member, sent = request](const Status& status, const proto::ConfirmChangesReply& reply) {
                                           Told(ctx, to, sent, status, reply);
                                         });
  }
  if (next_ms != 0) LookAfter(ctx, next_ms);
}

void LookAfter(const ContextPtr& ctx, int64_t delay_ms) {
  uint64_t number;
  {
    MutexLock lock(ctx->confirming.mutex);
    const int64_t at_ns = ctx->NowNs() + delay_ms * kNsPerMs;
    if (ctx->confirming.next_look_ns != 0 && ctx->confirming.next_look_ns <= at_ns) return;
    ctx->confirming.next_look_ns = at_ns;
    number = ++ctx->confirming.look_number;
  }
  ctx->executor->RunAfter(delay_ms, [ctx, number] { Look(ctx, number); });
}

}  // namespace

void ConfirmSoon(const ContextPtr& ctx) { LookAfter(ctx, kConfirmDelayMs); }

void HandleConfirmChanges(const ContextPtr& ctx, const proto::ConfirmChangesRequest& request, const ResponderPtr& responder) {
  const auto table = ctx->table.load();
  for (const proto::ConfirmChangesRequest::Group& row : request.groups()) {
    const ReplicaPtr replica = table->Find(GroupId(row.group()));
    if (replica == nullptr) continue;
    MutexLock lock(replica->mutex);
    const bool is_from_primary = replica->view.epoch == Epoch(row.epoch()) && replica->view.primary() == TargetId(request.from_target());
    if (replica->role == Role::kMember && is_from_primary) replica->unconfirmed.Confirm(row.confirmed_order());
  }
  ctx->executor->Run([ctx, responder] {
    proto::ConfirmChangesReply reply;
    reply.set_available_bytes(ctx->store->AvailableBytes());
    responder->Reply(reply);
  });
}

}  // namespace tarn::replication
