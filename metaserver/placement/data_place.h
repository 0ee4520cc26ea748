// Whether there is a place for new files' data, or will be soon. A pure function of the cluster map.
#pragma once

#include <cstdint>

#include "common/base/status.h"
#include "proto/cluster.pb.h"

namespace tarn::meta {

// How long after a leader has begun, or the last chunk server has registered, more of them are expected.
inline constexpr int64_t kServersExpectedMs = 10'000;

// There are placement groups of so many copies.
bool HasGroupsFor(const proto::ClusterMap& map, uint32_t replicas);

// kResourceExhausted: not yet, but soon: the groups are about to be planned, or servers may be on their way (`quiet_ms` since the last came, or a
// leader began). Clients ask again, for as long as they try anything. kNoSpace: there are too few nodes for so many copies.
Status CheckPlaceForData(const proto::ClusterMap& map, uint32_t replicas, int64_t quiet_ms);

}  // namespace tarn::meta
