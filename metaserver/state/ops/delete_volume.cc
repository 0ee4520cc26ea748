// Deletes a volume: its name is free at once, its tree goes by and by (Purge).
//
// kNotEmpty: there is anything in its root and `recursive` is not set; kNotFound: no such volume.
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status DeleteVolume(CommandContext* context, const proto::DeleteVolumeOp& op, proto::MutationReply* reply) {
  ASSIGN_OR_RETURN(const auto id, ReadVolumeId(context->view(), op.name()));
  if (!id) return Status(StatusCode::kNotFound, "volume " + op.name() + " does not exist");
  ASSIGN_OR_RETURN(auto volume, ReadVolume(context->view(), *id));
  if (!volume) return Status(StatusCode::kCorruption, "volume " + op.name() + " has no record");
  const InodeId root_id(volume->root());
  ASSIGN_OR_RETURN(const proto::Attributes root, context->Directory(root_id));
  if (root.size_bytes() != 0 && !op.recursive()) {
    return Status(StatusCode::kNotEmpty, "volume " + op.name() + " is not empty");
  }
  volume->set_deleting(true);
  context->transaction().Put(VolumeKey(*id), Encode(*volume));
  context->transaction().Delete(VolumeNameKey(op.name()));
  context->transaction().Delete(DirectorySizeKey(root_id));
  ASSIGN_OR_RETURN(const auto counters, ReadVolumeCounters(context->view(), *id));
  context->QueuePurge(*id, root_id, counters.value_or(VolumeCounters()).used_inodes + 1);
  *reply->mutable_volume() = std::move(*volume);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
