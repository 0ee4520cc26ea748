// The members of placement groups in the cluster map (docs/replication.md "The parts").
//
// Pure functions, thread-safe.
#pragma once

#include <cstdint>

#include "common/base/status.h"
#include "proto/cluster.pb.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

// Null: there is none.
const proto::PlacementGroup* FindGroup(const proto::ClusterMap& map, uint32_t id);
proto::PlacementGroup* FindGroup(proto::ClusterMap* map, uint32_t id);
const proto::Target* FindTarget(const proto::ClusterMap& map, uint64_t id);
proto::Target* FindTarget(proto::ClusterMap* map, uint64_t id);

// kInvalidArgument unless `change` may be the next epoch of `group`: in-sync members never run out, come from the
// members there were, and the primary was in-sync; new members exist and are not retired; nobody is listed twice.
Status CheckChange(const proto::ClusterMap& map, const proto::PlacementGroup& group,
                   const proto::ChangeGroupsOp::Change& change);

// What was acknowledged in the group and not durable may be lost as of its present epoch; the server of this incarnation sees every change from
// here on.
void NoteLoss(proto::PlacementGroup* group, uint64_t incarnation);

// A target of this id lives anew, under this incarnation of its server, and may have lost what it had not made durable: each group of it gets a
// new epoch, in which it is not in-sync any more if another member is; if none is, the group has had a loss.
void DistrustTarget(proto::ClusterMap* map, uint64_t target, uint64_t incarnation);

// A target of this id lives anew and has lost nothing but its memory: groups that it orders (as the primary, of one copy too) or is being brought
// up to date in get a new epoch, in which its process begins anew. What was sent to the process before and comes late is refused by it: which
// writes of a session were applied is forgotten. A member that is in-sync needs none.
void RenewEpochs(proto::ClusterMap* map, uint64_t target);

}  // namespace tarn::meta
