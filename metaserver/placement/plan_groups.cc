#include "metaserver/placement/plan_groups.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "metaserver/placement/cluster_view.h"
#include "metaserver/placement/target_chooser.h"

namespace tarn::meta {
namespace {

// What the map itself says of its targets.
ReplicationFacts FactsOf(const proto::ClusterMap& map) {
  ReplicationFacts facts;
  for (const proto::Target& target : map.targets()) {
    TargetFacts& known = facts.targets[target.id()];
    known.lease_over = target.state() == proto::TARGET_STATE_OFFLINE;
    known.capacity_bytes = target.capacity_bytes();
    known.used_bytes = target.used_bytes();
    known.available_bytes = target.available_bytes();
  }
  return facts;
}

// Targets so ordered that neighbours are on different nodes where possible: one of each node in turn.
std::vector<uint64_t> InterleaveNodes(const ClusterView& view) {
  std::map<std::string, std::vector<uint64_t>> by_node;
  for (const proto::Target& target : view.map().targets()) {
    if (view.TakesCopies(target.id())) by_node[view.Node(target.id())].push_back(target.id());
  }
  std::vector<uint64_t> order;
  for (size_t round = 0;; ++round) {
    const size_t before = order.size();
    for (auto& [node, targets] : by_node) {
      std::sort(targets.begin(), targets.end());
      if (round < targets.size()) order.push_back(targets[round]);
    }
    if (order.size() == before) return order;
  }
}

bool HasTargetLeft(const ClusterView& view, const proto::PlacementGroup& group) {
  return std::ranges::any_of(group.targets(), [&](uint64_t target) { return !view.IsRetired(target); });
}

// One thread; plans once.
class GroupPlanner {
 public:
  GroupPlanner(const ClusterView& view, const GroupPolicy& policy)
      : view_(view), policy_(policy), chooser_(view, policy.partners_per_target_max), order_(InterleaveNodes(view)) {}

  std::optional<proto::AddGroupsOp> Plan();

 private:
  using GroupsByFirst = std::map<uint64_t, std::vector<uint32_t>>;

  // Of the policy's number of copies, with a target left.
  void ReadGroups();
  // False: there is no place for another one.
  bool AddGroup();
  void AddGroupSet();
  bool NewestSetLists(const std::set<uint32_t>& groups) const;

  const ClusterView& view_;
  const GroupPolicy& policy_;
  TargetChooser chooser_;
  const std::vector<uint64_t> order_;
  GroupsByFirst groups_of_;
  size_t group_count_ = 0;
  uint32_t next_group_ = 1;
  proto::AddGroupsOp op_;
};

void GroupPlanner::ReadGroups() {
  for (const proto::PlacementGroup& group : view_.map().groups()) {
    next_group_ = std::max(next_group_, group.id() + 1);
    if (std::max<uint32_t>(group.replicas(), 1) != policy_.replicas || !HasTargetLeft(view_, group)) continue;
    groups_of_[group.targets(0)].push_back(group.id());
    ++group_count_;
  }
}

bool GroupPlanner::AddGroup() {
  std::vector<uint64_t> members = {
      *std::ranges::min_element(order_, {}, [&](uint64_t target) { return groups_of_[target].size(); })};
  while (members.size() < policy_.replicas) {
    const uint64_t target = chooser_.Choose(members, {members.begin(), members.end()}, false);
    if (target == 0) return false;
    members.push_back(target);
  }
  proto::PlacementGroup* group = op_.add_groups();
  group->set_id(next_group_);
  group->set_epoch(1);
  group->set_replicas(policy_.replicas);
  for (size_t i = 0; i < members.size(); ++i) {
    group->add_targets(members[i]);
    chooser_.Note({members.begin(), members.begin() + static_cast<std::ptrdiff_t>(i)}, members[i]);
  }
  groups_of_[members[0]].push_back(next_group_);
  ++next_group_;
  ++group_count_;
  return true;
}

bool GroupPlanner::NewestSetLists(const std::set<uint32_t>& groups) const {
  const proto::GroupSet* newest = nullptr;
  for (const proto::GroupSet& set : view_.map().group_sets()) {
    if (set.replicas() == policy_.replicas) newest = &set;
  }
  return newest != nullptr && std::set<uint32_t>(newest->groups().begin(), newest->groups().end()) == groups;
}

void GroupPlanner::AddGroupSet() {
  uint32_t version = 1;
  for (const proto::GroupSet& set : view_.map().group_sets()) version = std::max(version, set.version() + 1);
  proto::GroupSet* set = op_.mutable_group_set();
  set->set_version(version);
  set->set_replicas(policy_.replicas);
  std::vector<uint64_t> firsts = order_;
  for (const auto& [target, groups] : groups_of_) {
    if (std::ranges::find(order_, target) == order_.end()) firsts.push_back(target);  // about to leave
  }
  for (size_t round = 0;; ++round) {
    const int before = set->groups_size();
    for (const uint64_t target : firsts) {
      const auto& groups = groups_of_[target];
      if (round < groups.size()) set->add_groups(groups[round]);
    }
    if (set->groups_size() == before) return;
  }
}

std::optional<proto::AddGroupsOp> GroupPlanner::Plan() {
  if (NodesForCopies(view_.map()) < policy_.replicas) return std::nullopt;
  ReadGroups();
  const size_t wanted = policy_.groups_per_target * order_.size();
  while (group_count_ < wanted && AddGroup()) continue;
  std::set<uint32_t> groups;
  for (const auto& [target, of_target] : groups_of_) groups.insert(of_target.begin(), of_target.end());
  if (groups.empty() || NewestSetLists(groups)) return std::nullopt;
  AddGroupSet();
  return std::move(op_);
}

}  // namespace

std::optional<proto::AddGroupsOp> PlanGroups(const proto::ClusterMap& map, const GroupPolicy& policy) {
  const ReplicationFacts facts = FactsOf(map);
  const ClusterView view(map, facts);
  return GroupPlanner(view, policy).Plan();
}

uint32_t NodesForCopies(const proto::ClusterMap& map) {
  const ReplicationFacts none;
  const ClusterView view(map, none);
  std::set<std::string> nodes;
  for (const proto::Target& target : map.targets()) {
    if (view.TakesCopies(target.id())) nodes.insert(view.Node(target.id()));
  }
  return static_cast<uint32_t>(nodes.size());
}

}  // namespace tarn::meta
