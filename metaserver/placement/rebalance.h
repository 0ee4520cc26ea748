// Which groups are to be moved so that every target carries as much as befits its size (group_loads.h): a pure function.
//
// A move pays if it narrows the gap between two targets by more than it opens one: with equal groups, where one has two
// more than the other. Each makes the sum of squared loads smaller, by more than measuring errors could: so they come to
// an end, and nothing moves back and forth.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "metaserver/placement/cluster_view.h"
#include "metaserver/placement/group_loads.h"

namespace tarn::meta {

struct GroupMove {
  uint32_t group = 0;
  uint64_t from = 0;
  uint64_t to = 0;
  uint64_t bytes = 0;  // as measured
};

struct RebalancePlan {
  std::vector<GroupMove> under_way;  // a syncing member of a group that is at its goal; which one it is for, as it looks
  std::vector<GroupMove> next;       // those that pay, the most useful of each number of copies first
};

// At most `moves_max` next ones. Between targets that count only; members stay on different nodes, and as far as they are
// in different zones. `partners_max`: a target shares groups with so many others where that is possible.
RebalancePlan PlanRebalance(const ClusterView& view, const GroupLoads& loads, uint32_t partners_max, size_t moves_max);

}  // namespace tarn::meta
