#include "metaserver/placement/plan_groups.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace tarn::meta {
namespace {

bool TakesData(const proto::Target& target) {
  return target.target_class() == proto::TARGET_CLASS_DURABLE && target.state() != proto::TARGET_STATE_DRAINING &&
         target.state() != proto::TARGET_STATE_RETIRED;
}

// Targets so ordered that neighbours are on different nodes where possible: one of each node in turn.
std::vector<uint64_t> InterleaveNodes(const proto::ClusterMap& map) {
  std::map<std::string, std::vector<uint64_t>> by_node;
  for (const proto::Target& target : map.targets()) {
    if (!TakesData(target)) continue;
    // A server that named no node is one of its own.
    const std::string node = target.node().empty() ? "server " + std::to_string(target.server_id()) : target.node();
    by_node[node].push_back(target.id());
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

}  // namespace

std::optional<proto::AddGroupsOp> PlanGroups(const proto::ClusterMap& map, const GroupPolicy& policy) {
  const std::vector<uint64_t> targets = InterleaveNodes(map);
  std::map<uint64_t, std::vector<uint32_t>> groups_of;  // by primary
  uint32_t next_group = 1;
  for (const proto::PlacementGroup& group : map.groups()) {
    next_group = std::max(next_group, group.id() + 1);
    if (!group.targets().empty()) groups_of[group.targets(0)].push_back(group.id());
  }
  proto::AddGroupsOp op;
  for (uint32_t round = 0; round < policy.groups_per_target; ++round) {
    for (const uint64_t target : targets) {
      if (groups_of[target].size() > round) continue;
      proto::PlacementGroup* group = op.add_groups();
      group->set_id(next_group);
      group->set_epoch(1);
      group->add_targets(target);
      group->set_replicas(policy.replicas);
      groups_of[target].push_back(next_group);
      ++next_group;
    }
  }
  if (op.groups().empty()) return std::nullopt;
  uint32_t version = 1;
  for (const proto::GroupSet& set : map.group_sets()) version = std::max(version, set.version() + 1);
  op.mutable_group_set()->set_version(version);
  op.mutable_group_set()->set_replicas(policy.replicas);
  for (size_t round = 0;; ++round) {
    const int before = op.group_set().groups_size();
    for (const uint64_t target : targets) {
      const auto& groups = groups_of[target];
      if (round < groups.size()) op.mutable_group_set()->add_groups(groups[round]);
    }
    if (op.group_set().groups_size() == before) break;
  }
  return op;
}

}  // namespace tarn::meta
