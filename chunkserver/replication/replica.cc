#include "chunkserver/replication/replica.h"

#include <algorithm>
#include <utility>

#include "chunkserver/replication/client_change.h"
#include "chunkserver/replication/confirmations.h"
#include "chunkserver/replication/reconciliation.h"
#include "chunkserver/replication/sync_job.h"
#include "chunkserver/replication/wire.h"

namespace tarn::replication {

namespace {

template <typename List>
void MoveInto(List* from, Callbacks* out) {
  out->insert(out->end(), std::make_move_iterator(from->begin()), std::make_move_iterator(from->end()));
  from->clear();
}

}  // namespace

void RunAll(Callbacks callbacks) {
  for (auto& callback : callbacks) callback();
}

void Replica::Adopt(const GroupView& newer) {
  Callbacks out;
  {
    MutexLock lock(mutex);
    if (newer.epoch <= view.epoch) return;
    AdoptLocked(newer, newer.RoleOf(ctx->target), &out);
  }
  RunAll(std::move(out));
}

void Replica::AdoptLocked(const GroupView& newer, Role new_role, Callbacks* out) {
  const GroupView older = std::exchange(view, newer);
  const Role old_role = std::exchange(role, new_role);
  const bool is_first = !older.epoch.valid();
  // A reign goes on only over a step that this process has seen whole: in between, somebody else may have begun one.
  const bool reigns_on = old_role == Role::kPrimary && new_role == Role::kPrimary && serving && newer.epoch.value() == older.epoch.value() + 1;

  KeepLostWrites(older, old_role);
  StopJobs(out);
  failed_reported.clear();
  grant_until_ns = 0;
  windows_round = 0;
  read_wanted_ns = 0;
  grants_asked = false;
  copies.clear();
  for (auto& [chunk, waiters] : base_waiters) MoveInto(&waiters, out);
  base_waiters.clear();
  base_waiter_count = 0;

  if (is_first) list_lost = new_role == Role::kPrimary || new_role == Role::kMember;
  if (new_role == Role::kSyncing && (old_role != Role::kSyncing || older.primary() != newer.primary())) {
    unconfirmed.Clear();
    installed.clear();
    list_lost = false;  // all of it is compared
  }
  if (reigns_on) {
    ContinueReign(older, out);
  } else {
    if (old_role == Role::kPrimary && new_role != Role::kPrimary) LeavePrimary(out);
    serving = false;
    equal_reported.clear();
    if (new_role == Role::kPrimary) BeginReign(out);
  }
  PublishSole();
  // They are looked at again, and refused where the epoch has moved.
  MoveInto(&queued, out);
}

// Before the reports of the older epoch are forgotten.
void Replica::KeepLostWrites(const GroupView& older, Role old_role) {
  const auto is_alone = [this](const GroupView& view_of) { return view_of.in_sync.size() == 1 && view_of.primary() == ctx->target; };
  const bool is_new_loss = view.losses.last.valid() && (!older.epoch.valid() || older.losses.last != view.losses.last);
  if (is_new_loss || role != Role::kPrimary) lost_writes.reset();
  if (is_new_loss && is_alone(view) && view.intact_incarnation == ctx->incarnation) {
    // Since that epoch nobody else can have become in-sync: this process, which has to say so, had no map yet.
    lost_writes = std::make_unique<LostWrites>(&ctx->lost_writes_room);
    lost_writes_until_ns = ctx->NowNs() + kLostWritesKeptMs * kNsPerMs;
  }
  if (lost_writes == nullptr || is_new_loss) return;
  // Epochs that were missed had no other primary either if nobody can have become in-sync in them.
  const bool saw_all = view.epoch.value() == older.epoch.value() + 1 || (is_alone(older) && is_alone(view) && equal_reported.empty());
  if (old_role != Role::kPrimary || !saw_all) lost_writes.reset();
}

LostWrites* Replica::LostWritesNow() {
  if (lost_writes != nullptr && (lost_writes->is_incomplete() || ctx->NowNs() >= lost_writes_until_ns)) lost_writes.reset();
  return lost_writes.get();
}

void Replica::BeginReign(Callbacks* out) {
  changes = committed_changes + 1;
  rooms.clear();
  told_orders.clear();
  grants_until_ns.clear();
  // A primary before this one may have given grants to members that are not in the list any more.
  if (view.HasOthers()) {
    no_acknowledgement_before_ns = ctx->NowNs() + (ctx->options.read_grant_ms + ctx->options.clock_margin_ms) * kNsPerMs;
  }
  reconciliation = std::make_shared<Reconciliation>(shared_from_this(), view);
  out->push_back([job = reconciliation] { job->Start(); });
}

void Replica::ContinueReign(const GroupView& older, Callbacks* out) {
  equal_reported.clear();
  for (const TargetId member : older.in_sync) {
    if (view.IsInSync(member)) continue;
    // It answers reads as long as it has a grant, and never heard of this epoch.
    const auto grant = grants_until_ns.find(member);
    if (grant != grants_until_ns.end()) {
      no_acknowledgement_before_ns = std::max(no_acknowledgement_before_ns, grant->second + ctx->options.clock_margin_ms * kNsPerMs);
      grants_until_ns.erase(grant);
    }
  }
  for (auto& [number, change] : pending) {
    for (auto member = change->waiting.begin(); member != change->waiting.end();) {
      const bool counts = *member == ctx->target || view.IsInSync(*member);
      member = counts ? std::next(member) : change->waiting.erase(member);
    }
  }
  CollectConfirmed(out);
  StartSyncs(out);
}

void Replica::LeavePrimary(Callbacks* out) {
  for (auto& [number, change] : pending) {
    // Applied here, and nobody knows where else: the new primary asks.
    unconfirmed.Add(number, {change->chunk, StampOf(change->message.stamp()), Epoch()});
    if (change->done) {
      out->push_back([ctx = ctx, done = std::move(change->done)] {
        done({.status = Status(StatusCode::kStaleEpoch, "another target is the primary of the group now"), .map_version = ctx->map_version(),
              .outcome = {}, .durable = false});
      });
    }
    MoveInto(&change->followers, out);
  }
  pending.clear();
  newest_pending.clear();
  grants_until_ns.clear();
}

void Replica::BeginServing(Epoch epoch) {
  Callbacks out;
  {
    MutexLock lock(mutex);
    if (role != Role::kPrimary || view.epoch != epoch || serving) return;
    serving = true;
    reconciliation.reset();
    unconfirmed.Clear();
    installed.clear();
    list_lost = false;
    // What an earlier reign left is on every member now, though perhaps not durable there.
    for (auto& [number, change] : pending) {
      change->waiting.clear();
      if (!change->durable || !change->done) continue;
      change->done = [self = shared_from_this(), chunk = change->chunk, done = std::move(change->done)](const ChangeAnswer& answer) {
        AnswerWhenConfirmed(self, chunk, answer, true, done);
      };
    }
    CollectConfirmed(&out);
    StartSyncs(&out);
    PublishSole();
    MoveInto(&queued, &out);
  }
  RunAll(std::move(out));
}

void Replica::StartSyncs(Callbacks* out) {
  for (const TargetId member : view.syncing) {
    if (member == ctx->target) continue;
    auto job = std::make_shared<SyncJob>(shared_from_this(), view.epoch, member);
    syncs[member] = job;
    out->push_back([job] { job->Start(); });
  }
}

void Replica::StopJobs(Callbacks* out) {
  // They see that the epoch has moved and do nothing more; destroyed outside of the lock.
  if (reconciliation != nullptr) out->push_back([job = std::move(reconciliation)] {});
  for (auto& [member, job] : syncs) out->push_back([job = std::move(job)] {});
  reconciliation.reset();
  syncs.clear();
}

void Replica::PublishSole() {
  const bool sole = role == Role::kPrimary && serving && view.in_sync.size() == 1 && equal_reported.empty();
  sole_epoch_.store(sole ? view.epoch.value() : 0, std::memory_order_release);
}

void Replica::Stop() {
  Callbacks out;
  {
    MutexLock lock(mutex);
    const ChangeAnswer refusal{.status = Status(StatusCode::kCancelled, "the server stops"), .map_version = 0, .outcome = {}, .durable = false};
    for (auto& [number, change] : pending) {
      if (change->done) out.push_back([refusal, done = std::move(change->done)] { done(refusal); });
      MoveInto(&change->followers, &out);
    }
    pending.clear();
    newest_pending.clear();
    MoveInto(&queued, &out);
    for (auto& [chunk, waiters] : base_waiters) MoveInto(&waiters, &out);
    base_waiters.clear();
    base_waiter_count = 0;
    serving = false;
    role = Role::kNone;
    PublishSole();
    StopJobs(&out);
  }
  RunAll(std::move(out));
}

ReadVerdict Replica::AdmitRead(Epoch epoch, ChunkId chunk) {
  if (sole_epoch_.load(std::memory_order_acquire) == epoch.value()) return {};
  const int64_t now_ns = ctx->NowNs();
  MutexLock lock(mutex);
  if (view.epoch != epoch || role == Role::kNone) return Verdict(StatusCode::kStaleEpoch);
  if (role == Role::kSyncing) return Verdict(StatusCode::kAskPrimary);
  if (NeedsLease() && !ctx->HasLease()) return Verdict(StatusCode::kUnavailable);
  // Also before it orders changes: all that was acknowledged is here, and nothing is acknowledged without it any more.
  if (role == Role::kPrimary) return {};
  read_wanted_ns.store(now_ns, std::memory_order_relaxed);
  if (now_ns >= grant_until_ns || !HasSettled(chunk)) return Verdict(StatusCode::kAskPrimary);
  return {};
}

ReadVerdict Replica::AdmitConfirmedRead(Epoch epoch, ChunkId chunk) {
  MutexLock lock(mutex);
  if (view.epoch != epoch || role == Role::kNone) return Verdict(StatusCode::kStaleEpoch);
  if (role == Role::kSyncing) return Verdict(StatusCode::kAskPrimary);
  if (NeedsLease() && !ctx->HasLease()) return Verdict(StatusCode::kUnavailable);
  if (role == Role::kPrimary) return {};
  // Of two members either the primary, which has all that is here, goes on, or this one takes over: nothing of it is taken back.
  const bool stays = view.in_sync.size() == 2 && !installed.contains(chunk);
  return stays || HasSettled(chunk) ? ReadVerdict{} : Verdict(StatusCode::kAskPrimary);
}

bool Replica::HasSettled(ChunkId chunk) const { return !unconfirmed.Contains(chunk) && !installed.contains(chunk); }

Status Replica::CheckFromPrimary(const proto::GroupAddress& address) const {
  if (view.epoch != Epoch(address.epoch()) || role == Role::kNone) return Status(StatusCode::kStaleEpoch, "another epoch of the group is current");
  if (role == Role::kPrimary || TargetId(address.from_target()) != view.primary()) {
    return Status(StatusCode::kInternal, "target " + std::to_string(address.from_target()) + " is not the primary of group " +
                                             std::to_string(group.value()) + " in epoch " + std::to_string(address.epoch()));
  }
  return Status::Ok();
}

void Replica::ReportFailed(TargetId member, const std::string& reason) {
  proto::GroupReport report;
  {
    MutexLock lock(mutex);
    if (role != Role::kPrimary || ctx->stopped || !failed_reported.insert(member).second) return;
    report.set_epoch(view.epoch.value());
  }
  report.set_group(group.value());
  report.set_target(member.value());
  report.set_kind(proto::GroupReport::KIND_FAILED);
  report.set_reason(reason);
  ctx->authority->Report(report);
}

std::map<uint64_t, std::shared_ptr<PendingChange>>::iterator Replica::Confirm(std::map<uint64_t, std::shared_ptr<PendingChange>>::iterator it,
                                                                              Callbacks* out) {
  const std::shared_ptr<PendingChange> change = it->second;
  if (change->done) out->push_back([change] { change->done(change->answer); });
  MoveInto(&change->followers, out);
  if (view.in_sync.size() > 1) ConfirmSoon(ctx);
  const auto newest = newest_pending.find(change->chunk);
  if (newest != newest_pending.end() && newest->second == it->first) newest_pending.erase(newest);
  return pending.erase(it);
}

void Replica::CollectConfirmedAfter(int64_t wait_ns, Callbacks* out) {
  out->push_back([self = shared_from_this(), delay_ms = wait_ns / kNsPerMs + 1] {
    self->ctx->executor->RunAfter(delay_ms, [self] {
      Callbacks later;
      {
        MutexLock lock(self->mutex);
        self->CollectConfirmed(&later);
      }
      RunAll(std::move(later));
    });
  });
}

int64_t Replica::AcknowledgementDelayNs() {
  if (no_acknowledgement_before_ns == 0) return 0;
  const int64_t wait_ns = no_acknowledgement_before_ns - ctx->NowNs();
  if (wait_ns > 0) return wait_ns;
  no_acknowledgement_before_ns = 0;
  return 0;
}

void Replica::CollectConfirmed(Callbacks* out) {
  if (!serving) return;  // the end of the reconciliation confirms
  const int64_t wait_ns = AcknowledgementDelayNs();
  if (wait_ns > 0) return CollectConfirmedAfter(wait_ns, out);
  for (auto it = pending.begin(); it != pending.end();) it = it->second->waiting.empty() ? Confirm(it, out) : std::next(it);
}

void Replica::Acknowledged(const PendingChange& change, Callbacks* out) {
  const auto it = pending.find(change.order);
  if (!serving || it == pending.end() || !change.waiting.empty()) return;
  const int64_t wait_ns = AcknowledgementDelayNs();
  if (wait_ns > 0) return CollectConfirmedAfter(wait_ns, out);
  Confirm(it, out);
}

bool Replica::DropSyncing(TargetId member, Callbacks* out) {
  if (view.IsInSync(member) || equal_reported.contains(member)) return false;
  for (auto& [number, change] : pending) change->waiting.erase(member);
  CollectConfirmed(out);
  return true;
}

void Replica::MarkEqualReported(TargetId member) {
  equal_reported.insert(member);
  PublishSole();
}

}  // namespace tarn::replication
