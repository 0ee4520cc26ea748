#include "metaserver/placement/group_rules.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <string>
#include <tuple>

namespace tarn::meta {
namespace {

// Differences in when two members were heard of that mean nothing: heartbeats come every second.
constexpr int64_t kContactGrainMs = 2'000;

bool Contains(const std::vector<uint64_t>& list, uint64_t target) { return std::ranges::find(list, target) != list.end(); }

bool Reported(const std::vector<proto::GroupReport>& reports, uint64_t target, proto::GroupReport::Kind kind) {
  return std::ranges::any_of(
      reports, [&](const proto::GroupReport& report) { return report.target() == target && report.kind() == kind; });
}

// Without it the others may go on at once.
bool MayBeRemoved(const ClusterView& view, const proto::PlacementGroup& group, uint64_t target) {
  return view.LeaseOver(target) || (target != group.targets(0) && view.KnowsEpoch(target, group));
}

void MoveToFront(std::vector<uint64_t>* list, uint64_t target) {
  const auto found = std::ranges::find(*list, target);
  std::rotate(list->begin(), found, std::next(found));
}

// The most recently heard of; the order of the list decides between equals.
uint64_t NextPrimary(const ClusterView& view, const std::vector<uint64_t>& candidates) {
  return *std::ranges::min_element(candidates, {}, [&](uint64_t target) {
    return view.Facts(target).silent_ms / kContactGrainMs;
  });
}

void Promote(const ClusterView& view, const std::vector<proto::GroupReport>& reports, Members* members) {
  for (const uint64_t target : std::vector<uint64_t>(members->syncing)) {
    const bool equal = Reported(reports, target, proto::GroupReport::KIND_EQUAL);
    const bool failed_since = Reported(reports, target, proto::GroupReport::KIND_FAILED);
    if (!equal || failed_since || !view.HasLease(target) || view.IsFailed(target) || view.IsRetired(target)) continue;
    std::erase(members->syncing, target);
    members->in_sync.push_back(target);
  }
}

// How well the members without `left_out` are spread: larger is better.
std::tuple<size_t, size_t> Spread(const ClusterView& view, const std::vector<uint64_t>& members, uint64_t left_out) {
  std::set<std::string> nodes;
  std::set<std::string> zones;
  for (const uint64_t target : members) {
    if (target == left_out) continue;
    nodes.insert(view.Node(target));
    zones.insert(view.Zone(target));
  }
  return {nodes.size(), zones.size()};
}

}  // namespace

bool Members::Has(uint64_t target) const { return Contains(in_sync, target) || Contains(syncing, target); }

Members MembersOf(const proto::PlacementGroup& group) {
  return {{group.targets().begin(), group.targets().end()},
          {group.syncing_targets().begin(), group.syncing_targets().end()}};
}

proto::ChangeGroupsOp::Change ChangeTo(const proto::PlacementGroup& group, const Members& members) {
  proto::ChangeGroupsOp::Change change;
  change.set_group(group.id());
  change.set_expected_epoch(group.epoch());
  change.mutable_targets()->Assign(members.in_sync.begin(), members.in_sync.end());
  change.mutable_syncing_targets()->Assign(members.syncing.begin(), members.syncing.end());
  return change;
}

std::optional<Members> ReplaceLost(const ClusterView& view, const proto::PlacementGroup& group,
                                   const std::vector<proto::GroupReport>& reports) {
  const Members before = MembersOf(group);
  std::vector<uint64_t> sound;
  std::vector<uint64_t> failing;  // with a lease
  for (const uint64_t target : before.in_sync) {
    if (view.LeaseOver(target)) continue;
    const bool fails = view.IsFailed(target) || Reported(reports, target, proto::GroupReport::KIND_FAILED);
    (fails ? failing : sound).push_back(target);
  }
  // Nobody can go on: everything stays as it is until one of them is back.
  if (sound.empty() && failing.empty()) return std::nullopt;
  Members members;
  members.in_sync = sound;
  for (const uint64_t target : failing) {
    // The primary itself, or one that may take itself for it, first learns that another one is.
    if (sound.empty() || !MayBeRemoved(view, group, target)) members.in_sync.push_back(target);
  }
  if (sound.empty() && Contains(members.in_sync, before.in_sync.front())) {
    MoveToFront(&members.in_sync, before.in_sync.front());
  } else if (!sound.empty() && sound.front() != before.in_sync.front()) {
    MoveToFront(&members.in_sync, NextPrimary(view, sound));
  }
  for (const uint64_t target : before.syncing) {
    if (!view.IsFailed(target) && !view.IsRetired(target)) members.syncing.push_back(target);
  }
  for (const uint64_t target : before.in_sync) {
    if (!Contains(members.in_sync, target) && !view.IsFailed(target) && !view.IsRetired(target))
      members.syncing.push_back(target);
  }
  if (members.in_sync.front() == before.in_sync.front()) Promote(view, reports, &members);
  // Writes wait for a syncing member that was reported as equal, as it may be in-sync at any moment. If it fails, they wait for
  // an epoch in which it is not.
  const bool syncing_fails = std::ranges::any_of(before.syncing, [&](uint64_t target) { return Reported(reports, target, proto::GroupReport::KIND_FAILED); });
  if (members == before && !syncing_fails) return std::nullopt;
  return members;
}

uint64_t WorstPlaced(const ClusterView& view, const GroupLoads& loads, const proto::PlacementGroup& group,
                     const std::vector<uint64_t>& members) {
  return *std::ranges::max_element(members, {}, [&](uint64_t target) {
    return std::tuple(Spread(view, members, target), loads.ReliefOf(target, group), view.UsedShare(target),
                      target != members.front(), target);
  });
}

std::optional<Members> RemoveSurplus(const ClusterView& view, const GroupLoads& loads,
                                     const proto::PlacementGroup& group, int64_t replace_delay_ms) {
  const Members before = MembersOf(group);
  std::vector<uint64_t> staying;
  std::ranges::copy_if(before.in_sync, std::back_inserter(staying), [&](uint64_t each) { return view.Counts(each); });
  const size_t goal = std::max<size_t>(group.replicas(), 1);
  if (staying.size() < goal) return std::nullopt;
  while (staying.size() > goal) std::erase(staying, WorstPlaced(view, loads, group, staying));
  Members members = before;
  if (!Contains(staying, before.in_sync.front())) {
    MoveToFront(&members.in_sync, NextPrimary(view, staying));
    return members;
  }
  std::erase_if(members.in_sync, [&](uint64_t target) {
    return !Contains(staying, target) && MayBeRemoved(view, group, target);
  });
  std::erase_if(members.syncing, [&](uint64_t target) {
    return !view.TakesCopies(target) || (view.LeaseOver(target) && view.Facts(target).silent_ms >= replace_delay_ms);
  });
  if (members == before) return std::nullopt;
  return members;
}

}  // namespace tarn::meta
