// Makes a volume: a subtree of its own with a root directory that belongs to the caller (mode 0755).
//
// Zero fields take the defaults (one replica, 1 MiB stripe units over 8 groups, 64 MiB chunks). kExists;
// kInvalidArgument: a bad name, layout, list of parameters or number of replicas.
#include <algorithm>
#include <vector>

#include "common/layout/layout.h"
#include "metaserver/state/directory_sizes.h"
#include "metaserver/state/limits.h"
#include "metaserver/state/names.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

Status CheckReplicas(uint32_t replicas) {
  if (replicas <= kReplicasMax) return Status::Ok();
  return Status(StatusCode::kInvalidArgument,
                "a volume has from 1 to " + std::to_string(kReplicasMax) + " copies, not " + std::to_string(replicas));
}

Status SetLayout(const proto::Volume& asked, proto::Volume* volume) {
  FileLayout layout;
  if (asked.stripe_unit_bytes() != 0) layout.stripe_unit_bytes = asked.stripe_unit_bytes();
  if (asked.stripe_width() != 0) layout.width = asked.stripe_width();
  if (asked.chunk_size_bytes() != 0) layout.chunk_size_bytes = asked.chunk_size_bytes();
  RETURN_IF_ERROR(ValidateLayout(layout));
  volume->set_stripe_unit_bytes(layout.stripe_unit_bytes);
  volume->set_stripe_width(layout.width);
  volume->set_chunk_size_bytes(layout.chunk_size_bytes);
  return Status::Ok();
}

Status SetParameters(const proto::Volume& asked, proto::Volume* volume) {
  if (asked.parameters_size() > kVolumeParametersMax) {
    return Status(StatusCode::kInvalidArgument,
                  "a volume has at most " + std::to_string(kVolumeParametersMax) + " parameters");
  }
  std::vector<proto::Parameter> sorted(asked.parameters().begin(), asked.parameters().end());
  std::ranges::sort(sorted, {}, [](const proto::Parameter& parameter) { return parameter.key(); });
  for (size_t i = 0; i < sorted.size(); ++i) {
    const proto::Parameter& parameter = sorted[i];
    if (parameter.key().empty() || parameter.key().size() + parameter.value().size() > kVolumeParameterBytesMax) {
      return Status(StatusCode::kInvalidArgument, "a parameter has a key, and at most 4096 bytes with its value");
    }
    if (i > 0 && sorted[i - 1].key() == parameter.key()) {
      return Status(StatusCode::kInvalidArgument, "parameter " + parameter.key() + " is given twice");
    }
    *volume->add_parameters() = parameter;
  }
  return Status::Ok();
}

proto::Attributes MakeRoot(const CommandContext& context, InodeId inode, uint32_t volume) {
  proto::Attributes root;
  root.set_inode(inode.value());
  root.set_type(proto::FILE_TYPE_DIRECTORY);
  root.set_mode(0755);
  root.set_nlink(2);
  root.set_uid(context.caller().uid());
  root.set_gid(context.caller().gid());
  root.set_atime_ns(context.now_ns());
  root.set_mtime_ns(context.now_ns());
  root.set_ctime_ns(context.now_ns());
  root.set_btime_ns(context.now_ns());
  root.set_volume(volume);
  root.set_change(1);
  root.set_parent(inode.value());  // as in every file system, ".." of the root is the root
  return root;
}

}  // namespace

Status CreateVolume(CommandContext* context, const proto::CreateVolumeOp& op, proto::MutationReply* reply) {
  const proto::Volume& asked = op.volume();
  RETURN_IF_ERROR(CheckVolumeName(asked.name()));
  proto::Volume volume;
  volume.set_name(asked.name());
  volume.set_replicas(asked.replicas() != 0 ? asked.replicas() : 1);
  RETURN_IF_ERROR(CheckReplicas(volume.replicas()));
  RETURN_IF_ERROR(SetLayout(asked, &volume));
  RETURN_IF_ERROR(SetParameters(asked, &volume));
  ASSIGN_OR_RETURN(const auto existing, ReadVolumeId(context->view(), asked.name()));
  if (existing) return Status(StatusCode::kExists, "volume " + asked.name() + " exists");
  ASSIGN_OR_RETURN(const InodeId root, context->TakeInodeId());

  proto::StateHeader& header = context->header();
  const VolumeId id(header.next_volume());
  header.set_next_volume(id.value() + 1);
  volume.set_id(id.value());
  volume.set_root(root.value());
  volume.set_quota_bytes(asked.quota_bytes());
  volume.set_quota_inodes(asked.quota_inodes());
  volume.set_created_ns(context->now_ns());
  volume.set_metadata_group(header.metadata_group());
  const proto::Attributes attributes = MakeRoot(*context, root, id.value());
  context->PutInode(attributes);
  StartDirectorySize(context, root);
  context->transaction().Put(VolumeKey(id), Encode(volume));
  context->transaction().Put(VolumeNameKey(asked.name()), EncodeU64(id.value()));
  context->transaction().Put(VolumeCountersKey(id), EncodeVolumeCounters({}));
  *reply->mutable_volume() = std::move(volume);
  *reply->mutable_attributes() = attributes;
  return Status::Ok();
}

}  // namespace tarn::meta::ops
