#include "metaserver/placement/data_place.h"

#include <algorithm>
#include <string>

#include "metaserver/placement/plan_groups.h"

namespace tarn::meta {

bool HasGroupsFor(const proto::ClusterMap& map, uint32_t replicas) {
  return std::ranges::any_of(map.group_sets(), [&](const proto::GroupSet& set) { return set.replicas() == replicas && !set.groups().empty(); });
}

Status CheckPlaceForData(const proto::ClusterMap& map, uint32_t replicas, int64_t quiet_ms) {
  if (HasGroupsFor(map, replicas)) return Status::Ok();
  const uint32_t nodes = NodesForCopies(map);
  const std::string needs = std::to_string(replicas) + (replicas == 1 ? " copy needs a node" : " copies need as many nodes") + " with durable targets";
  if (nodes >= replicas) return Status(StatusCode::kResourceExhausted, "placement groups are being planned");
  if (quiet_ms < kServersExpectedMs) return Status(StatusCode::kResourceExhausted, needs + ": so far there are " + std::to_string(nodes));
  return Status(StatusCode::kNoSpace, "nowhere to put data: " + needs + ", there are " + std::to_string(nodes));
}

}  // namespace tarn::meta
