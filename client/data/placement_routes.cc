#include "client/data/placement_routes.h"

#include "proto/cluster.pb.h"

namespace tarn::client {
namespace {

Status Lacking(const std::string& what, uint64_t map_version) {
  return Status(StatusCode::kUnavailable, "cluster map " + std::to_string(map_version) + " has no " + what);
}

}  // namespace

PlacementRoutes::PlacementRoutes(const proto::ClusterMap& map)
    : map_version_(map.version()), cluster_id_(map.cluster_id()) {
  for (const proto::GroupSet& set : map.group_sets()) {
    std::vector<GroupId>& groups = group_sets_[GroupSetVersion(set.version())];
    groups.reserve(static_cast<size_t>(set.groups_size()));
    for (const uint32_t group : set.groups()) groups.emplace_back(group);
  }
  for (const proto::PlacementGroup& group : map.groups()) {
    if (group.targets_size() == 0) continue;
    groups_[GroupId(group.id())] = Group{Epoch(group.epoch()), TargetId(group.targets(0))};
  }
  for (const proto::Target& target : map.targets()) addresses_[TargetId(target.id())] = target.address();
}

Result<Route> PlacementRoutes::OfColumn(const FileLayout& layout, uint32_t column) const {
  const auto set = group_sets_.find(layout.group_set);
  if (set == group_sets_.end() || set->second.empty()) {
    return Lacking("group set " + std::to_string(layout.group_set.value()), map_version_);
  }
  const GroupId id = set->second[GroupIndexOfColumn(layout, column, static_cast<uint32_t>(set->second.size()))];
  const auto group = groups_.find(id);
  if (group == groups_.end()) return Lacking("target for group " + std::to_string(id.value()), map_version_);
  Result<Route> route = OfTarget(group->second.primary);
  if (route.ok()) {
    route->group = id;
    route->epoch = group->second.epoch;
  }
  return route;
}

Result<Route> PlacementRoutes::OfTarget(TargetId target) const {
  const auto address = addresses_.find(target);
  if (address == addresses_.end() || address->second.empty()) {
    return Lacking("address of target " + std::to_string(target.value()), map_version_);
  }
  return Route{.group = {}, .epoch = {}, .target = target, .address = address->second};
}

}  // namespace tarn::client
