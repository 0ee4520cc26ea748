// Adds placement groups and, if it lists any group, a group set that new files will use.
//
// Group ids and the set's version are the next ones in order, or 0 to be given them: a plan made from an older map is
// refused with kInvalidArgument, as are unknown targets and groups, an empty group, or a target twice in one. Epochs
// begin at 1. kResourceExhausted: the map is full.
#include <set>
#include <string>

#include "metaserver/state/limits.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

Status Refuse(std::string text) { return Status(StatusCode::kInvalidArgument, std::move(text)); }

Status AddGroup(CommandContext* context, const proto::PlacementGroup& planned, const std::set<uint64_t>& known_targets,
                proto::ClusterMap* map) {
  const uint32_t id = context->header().next_group();
  if (planned.id() != 0 && planned.id() != id) {
    return Refuse("the next placement group is " + std::to_string(id) + ", not " + std::to_string(planned.id()));
  }
  const std::string name = "placement group " + std::to_string(id);
  if (planned.targets().empty()) return Refuse(name + " has no target");
  std::set<uint64_t> targets;
  for (const uint64_t target : planned.targets()) {
    if (!known_targets.contains(target)) return Refuse(name + ": target " + std::to_string(target) + " does not exist");
    if (!targets.insert(target).second) return Refuse(name + ": target " + std::to_string(target) + " is listed twice");
  }
  proto::PlacementGroup* group = map->add_groups();
  group->set_id(id);
  group->set_epoch(1);
  *group->mutable_targets() = planned.targets();
  group->set_replicas(planned.replicas() != 0 ? planned.replicas() : static_cast<uint32_t>(planned.targets_size()));
  context->header().set_next_group(id + 1);
  return Status::Ok();
}

Status AddGroupSet(CommandContext* context, const proto::GroupSet& planned, proto::ClusterMap* map) {
  const uint32_t version = context->header().next_group_set();
  if (planned.version() != 0 && planned.version() != version) {
    return Refuse("the next group set is " + std::to_string(version) + ", not " + std::to_string(planned.version()));
  }
  // Groups are numbered without gaps from 1 and never go.
  for (const uint32_t group : planned.groups()) {
    if (group == 0 || group >= context->header().next_group())
      return Refuse("group set " + std::to_string(version) + ": group " + std::to_string(group) + " does not exist");
  }
  proto::GroupSet* group_set = map->add_group_sets();
  *group_set = planned;
  group_set->set_version(version);
  if (planned.replicas() == 0) group_set->set_replicas(1);
  context->header().set_next_group_set(version + 1);
  return Status::Ok();
}

}  // namespace

Status AddGroups(CommandContext* context, const proto::AddGroupsOp& op, proto::MutationReply* /*reply*/) {
  proto::ClusterMap map = context->map();
  if (map.groups_size() + op.groups_size() > static_cast<int>(kMapGroupsMax)) {
    return Status(StatusCode::kResourceExhausted,
                  "the cluster map has room for " + std::to_string(kMapGroupsMax) + " groups");
  }
  std::set<uint64_t> known_targets;
  for (const proto::Target& target : map.targets()) known_targets.insert(target.id());
  for (const proto::PlacementGroup& group : op.groups()) {
    RETURN_IF_ERROR(AddGroup(context, group, known_targets, &map));
  }
  if (!op.group_set().groups().empty()) RETURN_IF_ERROR(AddGroupSet(context, op.group_set(), &map));
  context->ReplaceMap(std::move(map));
  return Status::Ok();
}

}  // namespace tarn::meta::ops
