// How well the cluster is: what `tarn status` shows of targets, groups and repair.
//
// Pure functions, thread-safe.
#pragma once

#include <string>
#include <vector>

#include "metaserver/placement/cluster_view.h"
#include "proto/admin.pb.h"
#include "proto/cluster.pb.h"

namespace tarn::meta {

// The counts of groups, and the bytes of the primaries' reports; no rate.
proto::RepairProgress SumRepair(const proto::ClusterMap& map, const ReplicationFacts& facts,
                                const std::vector<proto::SyncProgress>& syncs);

// "ok", "degraded" (a target is away or fails, or a group has fewer copies than it should) or "unavailable" (there is no
// group set or no durable target online, or a group has no member that could serve), with the reasons.
std::string JudgeHealth(const proto::ClusterMap& map, const proto::RepairProgress& repair,
                        std::vector<std::string>* problems);

}  // namespace tarn::meta
