// Which placement groups a cluster needs. A pure function: from the cluster map to the command that adds them.
#pragma once

#include <cstdint>
#include <optional>

#include "proto/cluster.pb.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

struct GroupPolicy {
  uint32_t groups_per_target = 16;  // some dozens of groups share a target in the end; groups are never renumbered
  uint32_t replicas = 1;            // each number of copies has groups, and group sets, of its own
  uint32_t partners_per_target_max = 12;  // a target shares groups with so many others where that is possible
};

// Adds groups of that many copies until there are as many for each durable target (that is neither failed, retired nor
// draining) as the policy wants; targets that are the first of fewest get them. The members of a group lie on different
// nodes (where there are too few nodes: no groups) and, as far as possible, in different zones, evenly for their size.
// The new group set lists all groups that have a target left, in an order in which neighbours have their first members
// on different targets and, as far as the numbers allow, on different nodes: the columns of a file fall on neighbours.
// nullopt: nothing to add, and the newest set of that many copies lists no group that is lost.
std::optional<proto::AddGroupsOp> PlanGroups(const proto::ClusterMap& map, const GroupPolicy& policy);

// On how many nodes copies can be placed: those with a durable target that is neither failed, retired nor draining.
uint32_t NodesForCopies(const proto::ClusterMap& map);

}  // namespace tarn::meta
