#include "tests/sim/data/group_laws.h"

#include <algorithm>
#include <set>
#include <string>

#include "metaserver/state/group_members.h"

namespace tarn::sim_data {
namespace {

using Targets = google::protobuf::RepeatedField<uint64_t>;

bool Contains(const Targets& targets, uint64_t target) { return std::ranges::find(targets, target) != targets.end(); }

bool SameMembers(const proto::PlacementGroup& a, const proto::PlacementGroup& b) {
  return std::ranges::equal(a.targets(), b.targets()) && std::ranges::equal(a.syncing_targets(), b.syncing_targets());
}

// By one command of the planner's: what happened in between is not known else.
bool IsPlanned(const proto::LogEntry& entry, const proto::PlacementGroup& before, const proto::PlacementGroup& after) {
  if (after.epoch() != before.epoch() + 1) return false;
  for (const proto::LogCommand& command : entry.commands()) {
    for (const auto& change : command.mutation().change_groups().changes()) {
      if (change.group() == before.id() && change.expected_epoch() == before.epoch() && std::ranges::equal(change.targets(), after.targets())) return true;
    }
  }
  return false;
}

bool IsGivenUp(const proto::LogEntry& entry, uint32_t group) {
  return std::ranges::any_of(entry.commands(), [group](const proto::LogCommand& command) {
    return command.mutation().has_promote_member() && command.mutation().promote_member().group() == group;
  });
}

}  // namespace

bool KeepsCopies(const proto::ClusterMap& map, uint64_t target) {
  const proto::Target* found = meta::FindTarget(map, target);
  return found != nullptr && (found->state() == proto::TARGET_STATE_ONLINE || found->state() == proto::TARGET_STATE_OFFLINE);
}

void GroupLaws::Break(const proto::PlacementGroup& group, const std::string& how) const {
  bench_->Violation("group " + std::to_string(group.id()) + " in epoch " + std::to_string(group.epoch()) + ": " + how);
}

void GroupLaws::Check(const proto::ClusterMap& before, const proto::ClusterMap& after, const proto::LogEntry& entry) const {
  for (const proto::PlacementGroup& group : after.groups()) {
    std::set<uint64_t> seen;
    for (const auto* list : {&group.targets(), &group.syncing_targets()}) {
      for (const uint64_t target : *list) {
        if (!seen.insert(target).second) Break(group, "target " + std::to_string(target) + " is listed twice");
      }
    }
    if (group.targets().empty()) Break(group, "nobody is in-sync");
    const proto::PlacementGroup* old = meta::FindGroup(before, group.id());
    if (old == nullptr) continue;
    if (group.epoch() < old->epoch() || (group.epoch() == old->epoch() && !SameMembers(group, *old))) Break(group, "it was another one in epoch " + std::to_string(old->epoch()));
    if (group.epoch() == old->epoch() || IsGivenUp(entry, group.id())) continue;
    CheckStep(*old, group);
    if (!IsPlanned(entry, *old, group)) continue;
    for (const uint64_t member : old->targets()) {
      if (!Contains(group.targets(), member)) CheckLeaving(before, *old, group, member);
    }
  }
}

void GroupLaws::CheckStep(const proto::PlacementGroup& before, const proto::PlacementGroup& after) const {
  for (const uint64_t target : after.targets()) {
    const std::string name = "target " + std::to_string(target);
    if (!Contains(before.targets(), target) && !Contains(before.syncing_targets(), target)) Break(after, name + " is in-sync, and has not been syncing");
  }
  if (!Contains(before.targets(), after.targets(0))) Break(after, "its primary was not in-sync before");
  for (const uint64_t target : before.targets()) {
    const Server* server = fleet_->Find(TargetId(target));
    if (Contains(after.targets(), target) || server == nullptr) continue;
    // (The only one needs no lease, but then it is not replaced.)
    if (server->HasLease() && server->TakesItselfForPrimary(after.id())) Break(after, server->name() + " has left it, and takes itself for its primary");
  }
}

void GroupLaws::CheckLeaving(const proto::ClusterMap& map, const proto::PlacementGroup& before, const proto::PlacementGroup& after, uint64_t member) const {
  const Server* server = fleet_->Find(TargetId(member));
  const proto::Target* target = meta::FindTarget(map, member);
  const bool fails = target == nullptr || target->state() == proto::TARGET_STATE_FAILED || fleet_->WasReported(before.id(), before.epoch(), TargetId(member));
  if (server == nullptr || !server->HasLease() || fails) return;
  const auto kept = std::ranges::count_if(after.targets(), [&](uint64_t each) { return KeepsCopies(map, each); });
  if (kept < static_cast<int64_t>(before.replicas())) Break(after, server->name() + " is well and has left, and " + std::to_string(kept) + " copies stay");
}

}  // namespace tarn::sim_data
