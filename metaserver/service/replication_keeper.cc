#include "metaserver/service/replication_keeper.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <span>
#include <string>
#include <utility>

#include "common/base/check.h"
#include "metaserver/placement/group_rules.h"
#include "metaserver/service/group_health.h"
#include "metaserver/state/group_members.h"

namespace tarn::meta {
namespace {

// A plan reads the whole map. It also follows every change of the map's version by the next step.
constexpr int64_t kPlanIntervalNs = 250'000'000;
constexpr int64_t kMeasureIntervalNs = 1'000'000'000;
constexpr int kChangesLoggedMax = 8;
constexpr size_t kMovesCountedMax = 1'000;  // more are still to come then, and are counted as these end

std::string ListOf(const google::protobuf::RepeatedField<uint64_t>& targets) {
  std::string text;
  for (const uint64_t target : targets) text += (text.empty() ? "" : ",") + std::to_string(target);
  return text.empty() ? "-" : text;
}

void LogChanges(const proto::ChangeGroupsOp& op) {
  for (int i = 0; i < std::min(op.changes_size(), kChangesLoggedMax); ++i) {
    const auto& change = op.changes(i);
    spdlog::info("placement group changes group={} epoch={} in_sync={} syncing={}", change.group(),
                 change.expected_epoch() + 1, ListOf(change.targets()), ListOf(change.syncing_targets()));
  }
  if (op.changes_size() > kChangesLoggedMax)
    spdlog::info("placement groups change in the same way: {} more", op.changes_size() - kChangesLoggedMax);
}

std::vector<proto::GroupReport> ReportsOfPrimary(const proto::ClusterMap& map,
                                                 const proto::ReportGroupsRequest& request) {
  std::vector<proto::GroupReport> reports;
  for (const proto::GroupReport& report : request.reports()) {
    const proto::PlacementGroup* group = FindGroup(map, report.group());
    if (group == nullptr || group->epoch() != report.epoch() || group->targets().empty()) continue;
    const proto::Target* primary = FindTarget(map, group->targets(0));
    if (primary == nullptr || primary->server_id() != request.server_id() ||
        primary->incarnation() != request.incarnation()) {
      continue;
    }
    if (report.kind() == proto::GroupReport::KIND_FAILED) {
      spdlog::warn("a primary reports a member group={} epoch={} target={}: {}", report.group(), report.epoch(),
                   report.target(), report.reason());
    }
    reports.push_back(report);
  }
  return reports;
}

}  // namespace

ReplicationFacts ReplicationKeeper::CollectFacts(const proto::ClusterMap& map, std::shared_ptr<LapsedTargets>* claim) {
  ReplicationFacts facts;
  facts.targets = context_->servers->Facts(claim);
  facts.group_bytes = context_->servers->GroupBytes();
  const int64_t now_ns = context_->clock->MonotonicNs();
  const bool is_well = AllWell(map, facts);
  MutexLock lock(mutex_);
  if (map.version() > map_version_seen_) {
    for (const proto::PlacementGroup& group : map.groups()) {
      EpochSeen& seen = epochs_[group.id()];
      if (seen.epoch == group.epoch()) continue;
      seen = {group.epoch(), map.version()};
    }
    map_version_seen_ = map.version();
  }
  facts.epoch_since.reserve(epochs_.size());
  for (const auto& [group, seen] : epochs_) facts.epoch_since[group] = seen.since;
  if (!is_well || unwell_ns_ == 0) unwell_ns_ = now_ns;
  facts.quiet_ms = (now_ns - std::max(unwell_ns_, context_->servers->last_registration_ns())) / 1'000'000;
  return facts;
}

void ReplicationKeeper::Step() {
  if (in_flight_.load(std::memory_order_acquire) || !context_->replicator->HoldsLease()) return;
  const int64_t now_ns = context_->clock->MonotonicNs();
  if (now_ns < next_plan_ns_) return;
  // Writes wait for the end of a lease, so it is not left to the interval.
  next_plan_ns_ = std::min(now_ns + kPlanIntervalNs, std::max(now_ns, context_->servers->NextLeaseEndNs()));
  const auto map = context_->state->cluster_map();
  if (map->groups().empty()) return;
  std::shared_ptr<LapsedTargets> claim;
  const ReplicationFacts facts = CollectFacts(*map, &claim);
  if (now_ns >= next_measure_ns_) {
    next_measure_ns_ = now_ns + kMeasureIntervalNs;
    Measure(now_ns, *map, facts);
  }
  proto::Mutation mutation;
  ReplicationPolicy policy = policy_;
  if (holds_.load(std::memory_order_acquire) != 0) policy.handovers_max = policy.moves_max = 0;
  *mutation.mutable_change_groups() = PlanReplication(*map, facts, policy);
  if (mutation.change_groups().changes().empty()) return;
  LogChanges(mutation.change_groups());
  in_flight_.store(true, std::memory_order_release);
  std::vector<proto::Mutation> mutations;
  mutations.push_back(std::move(mutation));
  context_->proposer->Submit(std::move(mutations),
                             [this, claim](const Status& status, std::span<proto::MutationReply> replies) {
                               if (!status.ok()) {
                                 spdlog::warn("cannot change placement groups: {}", status.ToString());
                               } else if (replies[0].status() != 0) {
                                 spdlog::error("a plan for placement groups is refused: {}", replies[0].message());
                               }
                               in_flight_.store(false, std::memory_order_release);
                             });
}

void ReplicationKeeper::Measure(int64_t now_ns, const proto::ClusterMap& map, const ReplicationFacts& facts) {
  const std::vector<proto::SyncProgress> syncs = context_->servers->Syncs();
  meter_.Update(now_ns, syncs);
  const ClusterView view(map, facts);
  const GroupLoads loads(view, facts);
  rebalance_meter_.Update(now_ns, PlanRebalance(view, loads, policy_.partners_per_target_max, kMovesCountedMax), syncs);
}

proto::RebalanceProgress ReplicationKeeper::Rebalancing() const {
  proto::RepairProgress rate;
  meter_.FillRate(&rate);
  return rebalance_meter_.Progress(rate.bytes_per_second());
}

void ReplicationKeeper::Decide(const proto::ReportGroupsRequest& request, std::function<void(const Status&)> decided) {
  const auto map = context_->state->cluster_map();
  const std::vector<proto::GroupReport> reports = ReportsOfPrimary(*map, request);
  if (reports.empty()) return decided(Status::Ok());
  std::shared_ptr<LapsedTargets> claim;
  const ReplicationFacts facts = CollectFacts(*map, &claim);
  std::vector<proto::Mutation> mutations(1);
  *mutations[0].mutable_change_groups() = PlanReports(*map, facts, reports);
  if (mutations[0].change_groups().changes().empty()) return decided(Status::Ok());
  LogChanges(mutations[0].change_groups());
  context_->proposer->Submit(std::move(mutations), [claim, decided = std::move(decided)](const Status& status, std::span<proto::MutationReply> replies) {
    decided(status.ok() ? StatusOf(replies[0]) : status);
  });
}

std::shared_ptr<void> ReplicationKeeper::HoldStill() {
  holds_.fetch_add(1, std::memory_order_acq_rel);
  return {nullptr, [this](void*) { holds_.fetch_sub(1, std::memory_order_acq_rel); }};
}

Status ReplicationKeeper::HandOver(const proto::PlacementGroup& group, uint64_t to) {
  Members members = MembersOf(group);
  const auto found = std::ranges::find(members.in_sync, to);
  CHECK(found != members.in_sync.end(), "the new primary was in-sync");
  std::rotate(members.in_sync.begin(), found, std::next(found));
  proto::Mutation mutation;
  *mutation.mutable_change_groups()->add_changes() = ChangeTo(group, members);
  LogChanges(mutation.change_groups());
  return context_->proposer->SubmitAndWait(std::move(mutation)).status();
}

Status ReplicationKeeper::TakeOut(const proto::PlacementGroup& group, uint64_t target) {
  proto::GroupReport report;
  report.set_group(group.id());
  report.set_epoch(group.epoch());
  report.set_target(target);
  report.set_kind(proto::GroupReport::KIND_FAILED);
  const auto map = context_->state->cluster_map();
  std::shared_ptr<LapsedTargets> claim;
  const ReplicationFacts facts = CollectFacts(*map, &claim);
  proto::Mutation mutation;
  *mutation.mutable_change_groups() = PlanReports(*map, facts, {report});
  if (mutation.change_groups().changes().empty()) return Status(StatusCode::kBusy, "the member cannot leave the in-sync ones yet");
  LogChanges(mutation.change_groups());
  RETURN_IF_ERROR(context_->proposer->SubmitAndWait(std::move(mutation)).status());
  // The plan may have been another one, or come too late.
  const auto after = context_->state->cluster_map();
  const proto::PlacementGroup* const now = FindGroup(*after, group.id());
  const bool stayed = now != nullptr && now->epoch() <= group.epoch() + 1 && std::ranges::find(now->targets(), target) != now->targets().end();
  return stayed ? Status(StatusCode::kBusy, "the member is still in-sync") : Status::Ok();
}

Result<proto::RepairProgress> ReplicationKeeper::Progress() const {
  ASSIGN_OR_RETURN(const proto::ClusterMap map, context_->MapOfUsedGroups());
  ReplicationFacts facts;
  facts.targets = context_->servers->Facts();
  proto::RepairProgress repair = SumRepair(map, facts, context_->servers->Syncs());
  meter_.FillRate(&repair);
  return repair;
}

Status ReplicationKeeper::CheckDrain(const std::vector<uint64_t>& leaving) const {
  ASSIGN_OR_RETURN(const proto::ClusterMap map, context_->MapOfUsedGroups());
  ReplicationFacts facts;
  facts.targets = context_->servers->Facts();
  return meta::CheckDrain(map, facts, leaving);
}

}  // namespace tarn::meta
