// What is to become of the members of placement groups (docs/replication.md): pure functions from the cluster map and
// what is known of its targets to the command that changes groups. The command is passed over where the map has moved
// on meanwhile, so nothing here needs a lock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "metaserver/placement/cluster_view.h"
#include "proto/cluster.pb.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

struct ReplicationPolicy {
  int64_t replace_delay_ms = 300'000;    // a silent target's copies are made elsewhere after that
  uint32_t copies_per_target_max = 16;   // groups being copied to a target at a time, and from one
  uint32_t partners_per_target_max = 12; // a target shares groups with so many others where that is possible
  uint32_t handovers_max = 8;            // primaries evened out in one plan
  // Groups are moved to where they weigh less while all has been well for the pause, so many at a time.
  uint32_t moves_max = 4;
  int64_t move_pause_ms = 10'000;
};

// Decides about reports of primaries alone, each about its group's present epoch; others are passed over. That a report
// changes nothing now does not mean that it never will: it is to be repeated.
proto::ChangeGroupsOp PlanReports(const proto::ClusterMap& map, const ReplicationFacts& facts,
                                  const std::vector<proto::GroupReport>& reports);

// One step towards every group having as many in-sync members as it should, on targets that stay, on different nodes,
// evenly loaded. Empty: nothing to do now.
proto::ChangeGroupsOp PlanReplication(const proto::ClusterMap& map, const ReplicationFacts& facts,
                                      const ReplicationPolicy& policy);

// Nothing is missing that could be made good: groups with a source have their goal, on targets that stay.
bool AllWell(const proto::ClusterMap& map, const ReplicationFacts& facts);

// kNoSpace, saying why: without these targets the others could not hold all copies (too few nodes, too little room).
Status CheckDrain(const proto::ClusterMap& map, const ReplicationFacts& facts, const std::vector<uint64_t>& leaving);

}  // namespace tarn::meta
