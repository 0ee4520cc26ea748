#include "client/data/placement_routes.h"

#include <algorithm>
#include <functional>
#include <unordered_set>
#include <utility>

#include "common/layout/elastic_home.h"
#include "proto/cluster.pb.h"

namespace tarn::client {
namespace {

Status Lacking(const std::string& what, uint64_t map_version) {
  return Status(StatusCode::kUnavailable, "cluster map " + std::to_string(map_version) + " has no " + what);
}

bool MayRelay(const proto::Target& target) {
  if (target.target_class() != proto::TARGET_CLASS_DURABLE || target.address().empty()) return false;
  switch (target.state()) {
    case proto::TARGET_STATE_OFFLINE:
    case proto::TARGET_STATE_RETIRED:
    case proto::TARGET_STATE_FAILED:
      return false;
    default:
      return true;
  }
}

}  // namespace

PlacementRoutes::PlacementRoutes(const proto::ClusterMap& map)
    : map_version_(map.version()), map_incarnation_(map.incarnation()), cluster_id_(map.cluster_id()) {
  for (const proto::GroupSet& set : map.group_sets()) {
    std::vector<GroupId>& groups = group_sets_[GroupSetVersion(set.version())];
    groups.reserve(static_cast<size_t>(set.groups_size()));
    for (const uint32_t group : set.groups()) groups.emplace_back(group);
  }
  std::unordered_map<TargetId, const proto::Target*> targets;
  for (const proto::Target& target : map.targets()) {
    targets[TargetId(target.id())] = &target;
    addresses_[TargetId(target.id())] = target.address();
    incarnations_[TargetId(target.id())] = Incarnation(target.incarnation());
    if (MayRelay(target)) durable_addresses_.push_back(target.address());
    const bool elastic = target.target_class() == proto::TARGET_CLASS_ELASTIC;
    if (!elastic || target.state() != proto::TARGET_STATE_ONLINE || target.address().empty()) continue;
    elastic_of_node_[target.node()].push_back(elastic_.size());
    elastic_.push_back({.target = TargetId(target.id()), .address = target.address(), .node = target.node()});
    elastic_ids_.emplace_back(target.id());
  }
  std::sort(durable_addresses_.begin(), durable_addresses_.end());
  durable_addresses_.erase(std::unique(durable_addresses_.begin(), durable_addresses_.end()), durable_addresses_.end());
  for (const proto::PlacementGroup& group : map.groups()) {
    if (group.targets_size() == 0) continue;
    GroupRoute& route = groups_[GroupId(group.id())];
    route.group = GroupId(group.id());
    route.epoch = Epoch(group.epoch());
    for (const uint64_t id : group.targets()) {
      GroupMember member{.target = TargetId(id), .address = {}, .node = {}};
      if (const auto found = targets.find(member.target); found != targets.end()) {
        member.address = found->second->address();
        member.node = found->second->node();
      }
      route.members.push_back(std::move(member));
    }
  }
}

Result<const GroupRoute*> PlacementRoutes::OfColumn(const FileLayout& layout, uint32_t column) const {
  const auto set = group_sets_.find(layout.group_set);
  if (set == group_sets_.end() || set->second.empty()) {
    return Lacking("group set " + std::to_string(layout.group_set.value()), map_version_);
  }
  const GroupId id = set->second[GroupIndexOfColumn(layout, column, static_cast<uint32_t>(set->second.size()))];
  const auto group = groups_.find(id);
  if (group == groups_.end()) return Lacking("target for group " + std::to_string(id.value()), map_version_);
  return &group->second;
}

Result<Route> PlacementRoutes::ToPrimary(const FileLayout& layout, uint32_t column) const {
  ASSIGN_OR_RETURN(const GroupRoute* const group, OfColumn(layout, column));
  Result<Route> route = OfTarget(group->primary().target);
  if (route.ok()) {
    route->group = group->group;
    route->epoch = group->epoch;
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

bool PlacementRoutes::IsPrimary(TargetId target, GroupId group) const {
  const auto found = groups_.find(group);
  return found != groups_.end() && found->second.primary().target == target;
}

std::optional<Incarnation> PlacementRoutes::IncarnationOf(TargetId target) const {
  const auto found = incarnations_.find(target);
  return found == incarnations_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<std::string> PlacementRoutes::RelaysTo(const std::string& address, uint64_t spread) const {
  std::unordered_set<std::string> partners;
  for (const auto& [id, group] : groups_) {
    const bool is_member = std::ranges::any_of(group.members, [&](const GroupMember& each) { return each.address == address; });
    if (!is_member) continue;
    for (const GroupMember& member : group.members) partners.insert(member.address);
  }
  std::vector<std::string> relays = durable_addresses_;
  std::erase(relays, address);
  std::ranges::sort(relays, {}, [&](const std::string& relay) {
    return std::pair(!partners.contains(relay), std::hash<std::string>()(relay + std::to_string(spread)));
  });
  return relays;
}

const GroupMember* PlacementRoutes::ElasticFor(ChunkId chunk, const std::string& node) const {
  if (const auto here = node.empty() ? elastic_of_node_.end() : elastic_of_node_.find(node); here != elastic_of_node_.end()) {
    // Several on one node share its chunks.
    return &elastic_[*std::ranges::max_element(here->second, {}, [&](size_t index) { return ElasticWeight(elastic_ids_[index], chunk); })];
  }
  const std::optional<size_t> home = ElasticHome(chunk, elastic_ids_);
  return home ? &elastic_[*home] : nullptr;
}

std::vector<std::string> PlacementRoutes::AddressesLeftBy(const PlacementRoutes& newer) const {
  std::vector<std::string> left;
  for (const auto& [id, group] : groups_) {
    const auto now = newer.groups_.find(id);
    if (now != newer.groups_.end() && now->second.primary().address == group.primary().address) continue;
    left.push_back(group.primary().address);
  }
  std::sort(left.begin(), left.end());
  left.erase(std::unique(left.begin(), left.end()), left.end());
  return left;
}

}  // namespace tarn::client
