// What the leader does next to make the log's own list of members (voters and learners) follow the replicated map,
// which says who shall belong to the group. A pure function; one step at a time.
//
// Order: first goes what the map has no more, then a learner that has caught up gets its vote, then a new member
// becomes a learner. A member goes from the map when another one that replaces it votes (it was named by it, or has its
// address): so the group never has fewer voters than before.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "metaserver/replication/replicator.h"
#include "proto/cluster.pb.h"

namespace tarn::meta {

struct MembershipStep {
  enum class Kind {
    kForget,     // takes the member out of the map
    kRemove,     // takes it out of the log's list
    kStepAside,  // this leader is to be removed: another one leads first
    kPromote,
    kAddLearner,  // again if an earlier leader got halfway
  };
  Kind kind = Kind::kForget;
  uint64_t member = 0;
};

// `progress` is of all members of the log's list. nullopt: they agree, or what is missing has to come from elsewhere (a
// learner that has not caught up).
std::optional<MembershipStep> PlanMembership(const proto::ClusterMap& map, const std::vector<MemberProgress>& progress,
                                             uint64_t self);

}  // namespace tarn::meta
