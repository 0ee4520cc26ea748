// New member lists for placement groups, each a new epoch (docs/replication.md "The parts").
//
// A change is passed over if its group has another epoch than the one it was made for. kInvalidArgument: a group that
// does not exist, or lists that break a rule; then nothing of the command is done. A command of which nothing remains
// keeps the map's version.
#include <string>

#include "metaserver/state/group_members.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status ChangeGroups(CommandContext* context, const proto::ChangeGroupsOp& op, proto::MutationReply* /*reply*/) {
  proto::ClusterMap map = context->map();
  bool changed = false;
  for (const proto::ChangeGroupsOp::Change& change : op.changes()) {
    proto::PlacementGroup* group = FindGroup(&map, change.group());
    if (group == nullptr) {
      return Status(StatusCode::kInvalidArgument,
                    "placement group " + std::to_string(change.group()) + " does not exist");
    }
    if (group->epoch() != change.expected_epoch()) continue;
    RETURN_IF_ERROR(CheckChange(map, *group, change));
    *group->mutable_targets() = change.targets();
    *group->mutable_syncing_targets() = change.syncing_targets();
    group->set_epoch(group->epoch() + 1);
    changed = true;
  }
  if (changed) context->ReplaceMap(std::move(map));
  return Status::Ok();
}

}  // namespace tarn::meta::ops
