// The chunks of a file have been cut as its pending truncate says.
//
// A generation that is not the pending one (finished by someone else, or overtaken by a truncate to zero) changes
// nothing. ESTALE: no such inode; EISDIR; EINVAL: no regular file.
#include "metaserver/state/file_data.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status TruncateDone(CommandContext* context, const proto::TruncateDoneOp& op, proto::MutationReply* reply) {
  ASSIGN_OR_RETURN(proto::Attributes file, RegularFile(*context, InodeId(op.inode())));
  if (file.truncate_pending() && file.truncate_generation() == op.truncate_generation()) {
    file.set_truncate_pending(false);
    file.set_truncate_floor_bytes(0);
    file.set_change(file.change() + 1);
    context->PutInode(file);
  }
  *reply->mutable_attributes() = std::move(file);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
