// Gives a file without data its data id and layout, before its first write. A file that has them keeps them.
//
// Nothing that stat shows changes. ENOSPC: there are no placement groups yet; EISDIR; EINVAL: no regular file; ESTALE:
// no such inode.
#include "metaserver/state/file_data.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status AllocateData(CommandContext* context, const proto::AllocateDataOp& op, proto::MutationReply* reply) {
  ASSIGN_OR_RETURN(proto::Attributes file, RegularFile(*context, InodeId(op.inode())));
  if (file.data_id() == 0) {
    ASSIGN_OR_RETURN(const auto volume, ReadVolume(context->view(), VolumeId(file.volume())));
    if (!volume) {
      return Status(StatusCode::kStaleHandle, "volume " + std::to_string(file.volume()) + " was deleted");
    }
    ASSIGN_OR_RETURN(proto::Layout layout, LayoutForNewFile(context->map(), *volume));
    layout.set_seed(context->random_seed());
    ASSIGN_OR_RETURN(const DataId data, context->TakeDataIds(1));
    file.set_data_id(data.value());
    *file.mutable_layout() = std::move(layout);
    file.set_change(file.change() + 1);
    context->PutInode(file);
  }
  *reply->mutable_attributes() = std::move(file);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
