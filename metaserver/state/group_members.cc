#include "metaserver/state/group_members.h"

#include <algorithm>
#include <set>
#include <string>
#include <type_traits>

#include "metaserver/state/limits.h"

namespace tarn::meta {
namespace {

// Groups and targets are numbered in the order of the map.
template <typename Items, typename Id>
auto FindById(Items& items, Id id) -> decltype(&*items.begin()) {
  using Item = std::remove_cvref_t<decltype(*items.begin())>;
  const auto found = std::ranges::lower_bound(items, id, {}, &Item::id);
  return found != items.end() && found->id() == id ? &*found : nullptr;
}

bool Contains(const google::protobuf::RepeatedField<uint64_t>& targets, uint64_t target) {
  return std::ranges::find(targets, target) != targets.end();
}

}  // namespace

const proto::PlacementGroup* FindGroup(const proto::ClusterMap& map, uint32_t id) { return FindById(map.groups(), id); }
proto::PlacementGroup* FindGroup(proto::ClusterMap* map, uint32_t id) { return FindById(*map->mutable_groups(), id); }

const proto::Target* FindTarget(const proto::ClusterMap& map, uint64_t id) { return FindById(map.targets(), id); }
proto::Target* FindTarget(proto::ClusterMap* map, uint64_t id) { return FindById(*map->mutable_targets(), id); }

Status CheckChange(const proto::ClusterMap& map, const proto::PlacementGroup& group,
                   const proto::ChangeGroupsOp::Change& change) {
  const auto refuse = [&](const std::string& text) {
    return Status(StatusCode::kInvalidArgument, "placement group " + std::to_string(group.id()) + ": " + text);
  };
  const auto name = [](uint64_t target) { return "target " + std::to_string(target); };
  if (change.targets().empty()) return refuse("its last in-sync member never leaves");
  if (change.targets_size() + change.syncing_targets_size() > kGroupMembersMax) return refuse("too many members");
  std::set<uint64_t> seen;
  for (const auto* list : {&change.targets(), &change.syncing_targets()}) {
    for (const uint64_t target : *list) {
      if (!seen.insert(target).second) return refuse(name(target) + " is listed twice");
      const proto::Target* known = FindTarget(map, target);
      if (known == nullptr) return refuse(name(target) + " does not exist");
      const bool was_member = Contains(group.targets(), target) || Contains(group.syncing_targets(), target);
      if (was_member) continue;
      if (list == &change.targets()) return refuse(name(target) + " becomes in-sync without having been syncing");
      if (known->state() == proto::TARGET_STATE_RETIRED) return refuse(name(target) + " is retired");
    }
  }
  if (!Contains(group.targets(), change.targets(0)))
    return refuse(name(change.targets(0)) + " becomes its primary without having been in-sync");
  return Status::Ok();
}

void NoteLoss(proto::PlacementGroup* group, uint64_t incarnation) {
  group->set_intact_since_before(group->intact_since());
  group->set_intact_since(group->epoch());
  group->set_intact_incarnation(incarnation);
}

void DistrustTarget(proto::ClusterMap* map, uint64_t target, uint64_t incarnation) {
  for (proto::PlacementGroup& group : *map->mutable_groups()) {
    const bool in_sync = Contains(group.targets(), target);
    if (!in_sync && !Contains(group.syncing_targets(), target)) continue;
    group.set_epoch(group.epoch() + 1);
    if (!in_sync) continue;
    if (group.targets_size() == 1) {
      NoteLoss(&group, incarnation);
      continue;
    }
    auto* targets = group.mutable_targets();
    targets->erase(std::remove(targets->begin(), targets->end(), target), targets->end());
    group.add_syncing_targets(target);
  }
}

void RenewEpochs(proto::ClusterMap* map, uint64_t target) {
  for (proto::PlacementGroup& group : *map->mutable_groups()) {
    const bool is_primary = group.targets_size() > 0 && group.targets(0) == target;
    if (!is_primary && !Contains(group.syncing_targets(), target)) continue;
    group.set_epoch(group.epoch() + 1);
  }
}

}  // namespace tarn::meta
