// Changes a volume's quotas; 0 is none. One below what is used refuses growth only. kNotFound: no such volume.
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status ResizeVolume(CommandContext* context, const proto::ResizeVolumeOp& op, proto::MutationReply* reply) {
  ASSIGN_OR_RETURN(const auto id, ReadVolumeId(context->view(), op.name()));
  if (!id) return Status(StatusCode::kNotFound, "volume " + op.name() + " does not exist");
  ASSIGN_OR_RETURN(auto volume, ReadVolume(context->view(), *id));
  if (!volume) return Status(StatusCode::kCorruption, "volume " + op.name() + " has no record");
  if (op.has_quota_bytes()) volume->set_quota_bytes(op.quota_bytes());
  if (op.has_quota_inodes()) volume->set_quota_inodes(op.quota_inodes());
  context->transaction().Put(VolumeKey(*id), Encode(*volume));
  ASSIGN_OR_RETURN(const auto counters, ReadVolumeCounters(context->view(), *id));
  *reply->mutable_volume() = std::move(*volume);
  reply->mutable_volume()->set_used_bytes(counters ? counters->used_bytes : 0);
  reply->mutable_volume()->set_used_inodes(counters ? counters->used_inodes : 0);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
