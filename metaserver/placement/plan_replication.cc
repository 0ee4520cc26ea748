#include "metaserver/placement/plan_replication.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>

#include "metaserver/placement/group_loads.h"
#include "metaserver/placement/group_rules.h"
#include "metaserver/placement/rebalance.h"
#include "metaserver/placement/target_chooser.h"

namespace tarn::meta {
namespace {

size_t GoalOf(const proto::PlacementGroup& group) { return std::max<size_t>(group.replicas(), 1); }

// One thread; plans once.
class Planner {
 public:
  Planner(const ClusterView& view, const ReplicationFacts& facts, const ReplicationPolicy& policy)
      : view_(view), facts_(facts), policy_(policy), chooser_(view, policy.partners_per_target_max), loads_(view, facts) {}

  proto::ChangeGroupsOp Plan();
  // After Plan.
  bool all_well() const { return all_well_; }

 private:
  struct Shortage {
    const proto::PlacementGroup* group = nullptr;
    size_t copies = 0;               // that count
    std::vector<uint64_t> staying;   // those, and syncing ones that are waited for
  };

  void CountCopies();
  // Copies that are made or waited for: is any missing?
  void LookForShortage(const proto::PlacementGroup& group);
  bool IsWaitedFor(uint64_t target) const;
  void AddCopies();
  void AddCopy(const Shortage& shortage);
  // Copies that share a node are one too few, where there is a better place: a move or a repair that met a failure leaves such.
  void SpreadCopies();
  void EvenOutPrimaries();
  void MoveGroups();
  bool MayCopy(uint64_t from, uint64_t to);
  void Change(const proto::PlacementGroup& group, const Members& members) {
    *op_.add_changes() = ChangeTo(group, members);
  }

  const ClusterView& view_;
  const ReplicationFacts& facts_;
  const ReplicationPolicy& policy_;
  TargetChooser chooser_;
  const GroupLoads loads_;
  proto::ChangeGroupsOp op_;
  std::vector<Shortage> shortages_;
  std::vector<Shortage> crowded_;  // complete, on too few nodes; of each node one is staying
  std::unordered_map<uint64_t, uint32_t> copies_to_;
  std::unordered_map<uint64_t, uint32_t> copies_from_;
  bool all_well_ = true;  // every group that can be helped has its goal, and nothing more
  bool any_syncing_ = false;
};

proto::ChangeGroupsOp Planner::Plan() {
  CountCopies();
  for (const proto::PlacementGroup& group : view_.map().groups()) {
    if (group.targets().empty()) continue;
    auto members = ReplaceLost(view_, group, {});
    if (!members) members = RemoveSurplus(view_, loads_, group, policy_.replace_delay_ms);
    if (members) {
      Change(group, *members);
    } else {
      LookForShortage(group);
    }
  }
  AddCopies();
  SpreadCopies();
  if (op_.changes().empty() && all_well_ && !any_syncing_) EvenOutPrimaries();
  if (op_.changes().empty() && all_well_ && facts_.quiet_ms >= policy_.move_pause_ms) MoveGroups();
  return std::move(op_);
}

void Planner::CountCopies() {
  for (const proto::PlacementGroup& group : view_.map().groups()) {
    // Without a primary nothing is copied, and it keeps nobody's hands full.
    if (group.targets().empty() || !view_.HasLease(group.targets(0))) continue;
    for (const uint64_t target : group.syncing_targets()) {
      any_syncing_ = true;
      if (!view_.HasLease(target)) continue;
      ++copies_to_[target];
      ++copies_from_[group.targets(0)];
    }
  }
}

bool Planner::IsWaitedFor(uint64_t target) const {
  return view_.TakesCopies(target) && view_.Facts(target).silent_ms < policy_.replace_delay_ms;
}

void Planner::LookForShortage(const proto::PlacementGroup& group) {
  Shortage shortage;
  shortage.group = &group;
  for (const uint64_t target : group.targets()) {
    if (!view_.Counts(target)) continue;
    ++shortage.copies;
    shortage.staying.push_back(target);
  }
  // Without a primary there is nobody to copy from: it waits, and nothing waits for it.
  if (!view_.HasLease(group.targets(0))) return;
  // Nor while a member is on its way out: it must not become the primary again.
  if (shortage.copies < GoalOf(group) || static_cast<size_t>(group.targets_size()) != shortage.copies) all_well_ = false;
  for (const uint64_t target : group.syncing_targets()) {
    if (IsWaitedFor(target)) shortage.staying.push_back(target);
  }
  if (shortage.staying.size() < GoalOf(group)) return shortages_.push_back(std::move(shortage));
  std::set<std::string> nodes;
  std::erase_if(shortage.staying, [&](uint64_t target) { return !nodes.insert(view_.Node(target)).second; });
  if (nodes.size() < GoalOf(group)) crowded_.push_back(std::move(shortage));
}

void Planner::AddCopies() {
  // Fewest copies first, then those that lack most.
  std::ranges::stable_sort(shortages_, {}, [](const Shortage& shortage) {
    return std::pair(shortage.copies, -static_cast<int64_t>(GoalOf(*shortage.group)));
  });
  for (const Shortage& shortage : shortages_) AddCopy(shortage);
}

void Planner::SpreadCopies() {
  for (const Shortage& shortage : crowded_) {
    const int before = op_.changes_size();
    AddCopy(shortage);
    if (op_.changes_size() != before) all_well_ = false;
  }
}

bool Planner::MayCopy(uint64_t from, uint64_t to) {
  return copies_to_[to] < policy_.copies_per_target_max && copies_from_[from] < policy_.copies_per_target_max;
}

void Planner::AddCopy(const Shortage& shortage) {
  Members members = MembersOf(*shortage.group);
  const uint64_t source = members.in_sync.front();
  std::set<uint64_t> excluded(members.in_sync.begin(), members.in_sync.end());
  excluded.insert(members.syncing.begin(), members.syncing.end());
  // If the best one has its hands full the copy waits: a worse place would stay a worse place.
  const uint64_t target = chooser_.Choose(shortage.staying, excluded, true);
  if (target == 0 || !MayCopy(source, target)) return;
  // What was waited for in vain is replaced.
  std::erase_if(members.syncing, [&](uint64_t each) { return !IsWaitedFor(each) && !view_.HasLease(each); });
  members.syncing.push_back(target);
  chooser_.Note(shortage.staying, target);
  ++copies_to_[target];
  ++copies_from_[source];
  Change(*shortage.group, members);
}

void Planner::EvenOutPrimaries() {
  std::map<std::pair<uint32_t, uint64_t>, int64_t> primaries;  // of groups of so many copies, on a target
  for (const proto::PlacementGroup& group : view_.map().groups()) {
    if (!group.targets().empty()) ++primaries[{group.replicas(), group.targets(0)}];
  }
  for (const proto::PlacementGroup& group : view_.map().groups()) {
    if (static_cast<uint32_t>(op_.changes_size()) >= policy_.handovers_max) return;
    // One more than it should have: the primary may have handed over just now, to leave.
    if (group.targets_size() < 2 || static_cast<size_t>(group.targets_size()) > GoalOf(group)) continue;
    Members members = MembersOf(group);
    const auto count = [&](uint64_t target) -> int64_t& { return primaries[{group.replicas(), target}]; };
    const uint64_t from = members.in_sync.front();
    const uint64_t to = *std::ranges::min_element(members.in_sync, {}, [&](uint64_t each) { return count(each); });
    if (count(from) - count(to) < 2) continue;
    std::swap(members.in_sync.front(), *std::ranges::find(members.in_sync, to));
    --count(from);
    ++count(to);
    Change(group, members);
  }
}

void Planner::MoveGroups() {
  const RebalancePlan plan = PlanRebalance(view_, loads_, policy_.partners_per_target_max, policy_.moves_max);
  for (const GroupMove& move : plan.next) {
    if (plan.under_way.size() + static_cast<size_t>(op_.changes_size()) >= policy_.moves_max) return;
    const auto group = std::ranges::find(view_.map().groups(), move.group, &proto::PlacementGroup::id);
    Members members = MembersOf(*group);
    members.syncing.push_back(move.to);
    Change(*group, members);
  }
}

}  // namespace

proto::ChangeGroupsOp PlanReports(const proto::ClusterMap& map, const ReplicationFacts& facts,
                                  const std::vector<proto::GroupReport>& reports) {
  std::map<uint32_t, std::vector<proto::GroupReport>> by_group;
  for (const proto::GroupReport& report : reports) by_group[report.group()].push_back(report);
  const ClusterView view(map, facts);
  proto::ChangeGroupsOp op;
  for (const proto::PlacementGroup& group : map.groups()) {
    const auto found = by_group.find(group.id());
    if (found == by_group.end()) continue;
    std::erase_if(found->second, [&](const proto::GroupReport& report) { return report.epoch() != group.epoch(); });
    if (found->second.empty()) continue;
    if (const auto members = ReplaceLost(view, group, found->second)) *op.add_changes() = ChangeTo(group, *members);
  }
  return op;
}

proto::ChangeGroupsOp PlanReplication(const proto::ClusterMap& map, const ReplicationFacts& facts,
                                      const ReplicationPolicy& policy) {
  const ClusterView view(map, facts);
  return Planner(view, facts, policy).Plan();
}

bool AllWell(const proto::ClusterMap& map, const ReplicationFacts& facts) {
  const ClusterView view(map, facts);
  return std::ranges::all_of(map.groups(), [&](const proto::PlacementGroup& group) {
    if (group.targets().empty() || !view.HasLease(group.targets(0))) return true;
    const auto counting = std::ranges::count_if(group.targets(), [&](uint64_t target) { return view.Counts(target); });
    return counting >= static_cast<int64_t>(GoalOf(group));
  });
}

Status CheckDrain(const proto::ClusterMap& map, const ReplicationFacts& facts, const std::vector<uint64_t>& leaving) {
  const ClusterView view(map, facts);
  const std::set<uint64_t> gone(leaving.begin(), leaving.end());
  std::set<std::string> nodes;
  uint64_t room_bytes = 0;
  uint64_t needed_bytes = 0;
  for (const proto::Target& target : map.targets()) {
    const TargetFacts& known = view.Facts(target.id());
    if (gone.contains(target.id())) {
      needed_bytes += known.used_bytes;
    } else if (view.Counts(target.id())) {
      nodes.insert(view.Node(target.id()));
      room_bytes += known.available_bytes;
    }
  }
  size_t copies = 0;
  for (const proto::PlacementGroup& group : map.groups()) {
    const Members members = MembersOf(group);
    if (std::ranges::any_of(gone, [&](uint64_t target) { return members.Has(target); }))
      copies = std::max(copies, GoalOf(group));
  }
  if (nodes.size() < copies) {
    return Status(StatusCode::kNoSpace, "there is data of " + std::to_string(copies) + " copies, and only " +
                                            std::to_string(nodes.size()) + " node(s) would be left for them");
  }
  if (room_bytes < needed_bytes) {
    return Status(StatusCode::kNoSpace, "the other nodes have room for " + std::to_string(room_bytes) +
                                            " bytes more, and " + std::to_string(needed_bytes) + " are to be moved");
  }
  return Status::Ok();
}

}  // namespace tarn::meta
