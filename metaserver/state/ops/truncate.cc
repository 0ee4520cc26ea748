// truncate and ftruncate.
//
// POSIX: the size becomes what was asked, new bytes read as zero, mtime and ctime change. To zero: the data id becomes
// dead and the file has none until the next write; nothing is left to be done on the chunks. Smaller: the truncate
// generation rises, and the cut is pending with its floor until TruncateDone. kTruncatePending: an earlier cut is not
// finished. EFBIG; EDQUOT; EISDIR; EINVAL: no regular file; ESTALE: no such inode.
#include "metaserver/state/file_data.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

Status DropData(CommandContext* context, proto::Attributes* file) {
  RETURN_IF_ERROR(MakeDataDead(context, *file));
  file->set_data_id(0);
  file->clear_layout();
  file->clear_data_parent();
  file->set_being_written(false);
  file->set_truncate_pending(false);
  file->set_truncate_floor_bytes(0);
  return Status::Ok();
}

Status Cut(uint64_t size_bytes, proto::Attributes* file) {
  if (file->truncate_pending()) {
    return Status(StatusCode::kTruncatePending,
                  "the truncate to " + std::to_string(file->truncate_floor_bytes()) + " bytes is not finished");
  }
  file->set_truncate_generation(file->truncate_generation() + 1);
  file->set_truncate_floor_bytes(size_bytes);
  file->set_truncate_pending(true);
  return Status::Ok();
}

}  // namespace

Status Truncate(CommandContext* context, const proto::TruncateOp& op, proto::MutationReply* reply) {
  ASSIGN_OR_RETURN(proto::Attributes file, RegularFile(*context, InodeId(op.inode())));
  if (file.data_id() != 0 && op.size_bytes() == 0) {
    RETURN_IF_ERROR(DropData(context, &file));
  } else if (file.data_id() != 0 && op.size_bytes() < file.size_bytes()) {
    RETURN_IF_ERROR(Cut(op.size_bytes(), &file));
  }
  RETURN_IF_ERROR(Resize(context, &file, op.size_bytes()));
  if (op.clear_suid_sgid()) ClearSuidSgid(&file);
  file.set_data_generation(file.data_generation() + 1);
  file.set_mtime_ns(context->now_ns());
  context->Touch(&file);
  context->PutInode(file);
  *reply->mutable_attributes() = std::move(file);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
