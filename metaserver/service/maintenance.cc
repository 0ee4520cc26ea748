#include "metaserver/service/maintenance.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

namespace tarn::meta {
namespace {

constexpr size_t kSessionsClosedPerStepMax = 64;
// A chunk write that was on its way when its session was fenced comes before so many others were.
constexpr int kFencesKeptMax = 1024;
constexpr size_t kDeadDataForgottenPerStepMax = 1024;

}  // namespace

bool Maintenance::Step() {
  context_->coherence->Tick();
  if (context_->locks->any()) context_->locks->Sweep();
  if (!context_->replicator->HoldsLease()) return false;
  CloseExpiredSessions();
  UpdateTargets();
  PlanPlacement();
  ForgetRetired();
  ForgetElastic();
  PurgeVolumes();
  PropagateCounters();
  const proto::StateHeader header = context_->state->header();
  return header.purge_directories() != 0 || header.unpropagated() > options_.propagate_steps;
}

void Maintenance::CloseExpiredSessions() {
  for (const SessionId session : context_->sessions->TakeExpired(kSessionsClosedPerStepMax)) {
    // Others are about to get its locks, and believe that nobody writes any more.
    const Result<bool> has_locks = context_->state->HasLocks(session);
    if (context_->coherence->HoldsAnyWrite(session) || !has_locks.ok() || *has_locks) {
      FenceSession(session);
    } else {
      CloseSession(session);
    }
  }
  AdoptFences();
  CloseFencedSessions();
}

void Maintenance::AdoptFences() {
  const uint64_t term = context_->replicator->term();
  if (term == adopted_term_) return;
  const auto map = context_->state->cluster_map();
  std::vector<proto::SessionRecord> open;
  if (const Status listed = context_->state->ListSessions(&open); !listed.ok()) {
    return spdlog::warn("cannot look for sessions that are fenced and open: {}", listed.ToString());
  }
  adopted_term_ = term;
  MutexLock lock(mutex_);
  for (const proto::FencedSession& fence : map->fenced_sessions()) {
    const bool is_open = std::ranges::find(open, fence.session(), &proto::SessionRecord::id) != open.end();
    if (is_open) fenced_.try_emplace(SessionId(fence.session()), fence.fence_epoch());
  }
}

void Maintenance::FenceSession(SessionId session) {
  std::vector<proto::Mutation> mutations(1);
  proto::FenceSessionsOp* op = mutations[0].mutable_fence_sessions();
  op->add_fenced(session.value());
  // What the oldest ones had under way has come long ago.
  const auto map = context_->state->cluster_map();
  for (int i = 0; i + kFencesKeptMax <= map->fenced_sessions_size(); ++i) {
    op->add_released(map->fenced_sessions(i).session());
  }
  context_->proposer->Submit(
      std::move(mutations), [this, session](const Status& status, std::span<proto::MutationReply> replies) {
        if (!status.ok()) return context_->sessions->Retry(session);
        if (replies[0].status() != 0) spdlog::error("a session cannot be fenced: {}", replies[0].message());
        spdlog::info("session is fenced: it does not answer and holds write grants or locks session={}", session.value());
        MutexLock lock(mutex_);
        fenced_[session] = context_->state->cluster_map()->version();
      });
}

void Maintenance::CloseFencedSessions() {
  std::vector<SessionId> ready;
  {
    MutexLock lock(mutex_);
    if (fenced_.empty()) return;
  }
  // In groups that no volume uses nobody writes.
  const Result<proto::ClusterMap> map = context_->MapOfUsedGroups();
  if (!map.ok()) return spdlog::warn("sessions stay fenced: {}", map.status().ToString());
  {
    MutexLock lock(mutex_);
    // An earlier leader fenced them and did not come to close them: they are of no use any more, whether heard of or not.
    for (const proto::FencedSession& fence : map->fenced_sessions()) {
      const SessionId session(fence.session());
      if (context_->sessions->BeginClosing(session)) fenced_[session] = fence.fence_epoch();
    }
    std::erase_if(fenced_, [&](const auto& fence) {
      if (!context_->servers->AllKnow(*map, fence.second)) return false;
      ready.push_back(fence.first);
      return true;
    });
  }
  for (const SessionId session : ready) CloseSession(session);
}

void Maintenance::CloseSession(SessionId session) {
  std::vector<proto::Mutation> mutations(1);
  mutations[0].mutable_close_session()->set_session(session.value());
  mutations[0].mutable_close_session()->set_expired(true);
  SessionKeeper* sessions = context_->sessions;
  LockNotifier* locks = context_->locks;
  context_->proposer->Submit(std::move(mutations),
                             [sessions, locks, session](const Status& status, std::span<proto::MutationReply>) {
                               if (!status.ok()) return sessions->Retry(session);
                               sessions->Remove(session);
                               locks->Detach(session);
                               spdlog::info("session expired session={}", session.value());
                             });
}

void Maintenance::UpdateTargets() {
  if (updates_targets_.load(std::memory_order_acquire)) return;
  const std::vector<proto::Target> changes = context_->servers->StateChanges(*context_->state->cluster_map());
  if (changes.empty()) return;
  proto::Mutation mutation;
  for (const proto::Target& change : changes) {
    *mutation.mutable_update_targets()->add_targets() = change;
    if (change.state() == proto::TARGET_STATE_OFFLINE) {
      spdlog::warn("target is offline: no heartbeat target={}", change.id());
    } else if (change.state() == proto::TARGET_STATE_FAILED) {
      spdlog::error("target fails target={}: {}", change.id(),
                    context_->servers->LastReport(TargetId(change.id())).failure());
    } else {
      spdlog::info("target is back target={}", change.id());
    }
  }
  Propose(std::move(mutation), "update targets", &updates_targets_);
}

void Maintenance::PlanPlacement() {
  if (plans_.load(std::memory_order_acquire)) return;
  const auto map = context_->state->cluster_map();
  if (map->version() == planned_map_version_) return;
  const int64_t quiet_ns = context_->clock->MonotonicNs() - context_->servers->last_registration_ns();
  if (quiet_ns < options_.registration_quiet_ms * 1'000'000) return;
  std::set<uint32_t> factors = {1};  // and those that volumes were made with
  for (const proto::GroupSet& set : map->group_sets()) factors.insert(set.replicas());
  std::optional<proto::AddGroupsOp> plan;
  for (auto factor = factors.begin(); factor != factors.end() && !plan; ++factor) {
    GroupPolicy policy = options_.groups;
    policy.replicas = *factor;
    plan = PlanGroups(*map, policy);
  }
  if (!plan) {
    planned_map_version_ = map->version();
    return;
  }
  spdlog::info("placement groups added groups={} replicas={} group_set={} groups_in_set={}", plan->groups_size(),
               plan->group_set().replicas(), plan->group_set().version(), plan->group_set().groups_size());
  proto::Mutation mutation;
  *mutation.mutable_add_groups() = std::move(*plan);
  Propose(std::move(mutation), "add placement groups", &plans_);
}

void Maintenance::ForgetRetired() {
  if (forgets_.load(std::memory_order_acquire)) return;
  const int64_t now_ns = context_->clock->WallNs();
  for (const proto::Target& target : context_->state->cluster_map()->targets()) {
    if (target.state() != proto::TARGET_STATE_RETIRED) continue;
    std::vector<DataId> data_ids;
    const Status listed =
        context_->state->ListDeadData(TargetId(target.id()), now_ns, kDeadDataForgottenPerStepMax, &data_ids);
    if (!listed.ok() || data_ids.empty()) continue;
    proto::Mutation mutation;
    mutation.mutable_data_reclaimed()->set_target(target.id());
    for (const DataId data : data_ids) mutation.mutable_data_reclaimed()->add_data_ids(data.value());
    return Propose(std::move(mutation), "forget the dead data of a retired target", &forgets_);
  }
}

// An autoscaler's nodes come under new names for ever.
void Maintenance::ForgetElastic() {
  if (forgets_elastic_.load(std::memory_order_acquire)) return;
  const auto map = context_->state->cluster_map();
  const auto may_go = [](const proto::Target& target) {
    return target.target_class() == proto::TARGET_CLASS_ELASTIC && target.state() == proto::TARGET_STATE_OFFLINE;
  };
  if (std::ranges::none_of(map->targets(), may_go)) return;
  const auto facts = context_->servers->Facts();
  proto::Mutation mutation;
  for (const proto::Target& target : map->targets()) {
    const auto known = facts.find(target.id());
    if (!may_go(target) || known == facts.end() || known->second.silent_ms < options_.elastic_kept_ms) continue;
    mutation.mutable_update_targets()->add_forgotten(target.id());
    spdlog::info("elastic target is forgotten target={} node={}", target.id(), target.node());
  }
  if (mutation.update_targets().forgotten().empty()) return;
  Propose(std::move(mutation), "forget elastic targets", &forgets_elastic_);
}

void Maintenance::PurgeVolumes() {
  if (purges_.load(std::memory_order_acquire)) return;
  const auto volume = context_->state->NextVolumeToPurge();
  if (!volume.ok() || !*volume) return;
  proto::Mutation mutation;
  mutation.mutable_purge()->set_volume((*volume)->value());
  mutation.mutable_purge()->set_steps_max(options_.purge_steps);
  Propose(std::move(mutation), "remove a tree", &purges_);
}

void Maintenance::PropagateCounters() {
  if (propagates_.load(std::memory_order_acquire)) return;
  if (context_->state->header().unpropagated() == 0) return;
  proto::Mutation mutation;
  mutation.mutable_propagate_counters()->set_steps_max(options_.propagate_steps);
  Propose(std::move(mutation), "carry directory sizes upwards", &propagates_);
}

void Maintenance::Propose(proto::Mutation mutation, const char* what, Flag* flag) {
  flag->store(true, std::memory_order_release);
  std::vector<proto::Mutation> mutations;
  mutations.push_back(std::move(mutation));
  context_->proposer->Submit(std::move(mutations),
                             [what, flag](const Status& status, std::span<proto::MutationReply> replies) {
                               if (!status.ok()) {
                                 spdlog::warn("cannot {}: {}", what, status.ToString());
                               } else if (replies[0].status() != 0) {
                                 spdlog::warn("cannot {}: {}", what, replies[0].message());
                               }
                               flag->store(false, std::memory_order_release);
                             });
}

}  // namespace tarn::meta
