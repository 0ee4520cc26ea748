// Which placement groups a cluster needs. A pure function: from the cluster map to the command that adds them.
#pragma once

#include <cstdint>
#include <optional>

#include "proto/cluster.pb.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

struct GroupPolicy {
  uint32_t groups_per_target = 16;  // some dozens of groups share a target in the end; groups are never renumbered
  uint32_t replicas = 1;            // more are refused elsewhere
};

// Gives each durable target that is the first of fewer groups than the policy wants (and is neither retired nor
// draining) as many new ones as it lacks. The new group set lists all groups of targets that take data, in an order in
// which neighbours lie on different targets and, as far as the numbers allow, on different nodes: the columns of a file
// fall on neighbours. nullopt: nothing to add.
std::optional<proto::AddGroupsOp> PlanGroups(const proto::ClusterMap& map, const GroupPolicy& policy);

}  // namespace tarn::meta
