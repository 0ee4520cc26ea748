// What becomes of the members of one placement group (docs/replication.md "A member fails", "Coming back and repair").
//
// Pure functions. A removed member must not go on as the primary of an epoch it takes for the present one: so one that
// has its lease only leaves while another is the primary and its server has adopted the epoch that says so.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "metaserver/placement/cluster_view.h"
#include "metaserver/placement/group_loads.h"
#include "proto/cluster.pb.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

struct Members {
  std::vector<uint64_t> in_sync;  // the first is the primary
  std::vector<uint64_t> syncing;

  bool Has(uint64_t target) const;
  friend bool operator==(const Members&, const Members&) = default;
};

Members MembersOf(const proto::PlacementGroup& group);
proto::ChangeGroupsOp::Change ChangeTo(const proto::PlacementGroup& group, const Members& members);

// In-sync members whose lease is over, that fail or that the primary reports leave (to the syncing ones, unless their
// disk failed), as long as one with a lease stays; syncing ones that the primary reports as equal become in-sync. One that
// it reports as failing stays syncing, in a new epoch.
// `reports` are those of the group's present epoch by its primary. nullopt: as before.
std::optional<Members> ReplaceLost(const ClusterView& view, const proto::PlacementGroup& group,
                                   const std::vector<proto::GroupReport>& reports);

// With enough copies in-sync those that are too many leave: first on draining and retired targets, then where the rest
// is spread best over nodes and zones, then on the target that carries most. The primary hands over in an epoch before.
// Syncing members that nobody waits for leave as well. nullopt: as before.
std::optional<Members> RemoveSurplus(const ClusterView& view, const GroupLoads& loads,
                                     const proto::PlacementGroup& group, int64_t replace_delay_ms);

// Of these members of the group, whose first is preferred to stay: the one that is to leave.
uint64_t WorstPlaced(const ClusterView& view, const GroupLoads& loads, const proto::PlacementGroup& group,
                     const std::vector<uint64_t>& members);

}  // namespace tarn::meta
