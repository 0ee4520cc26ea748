// chmod, chown, utimensat.
//
// POSIX: what is given changes, and ctime with it. Linux: giving away anything but a directory takes its set-user-id
// bit, and its set-group-id bit where the group may execute, unless the same request sets the mode. Who may is decided
// by the caller's kernel. ESTALE: no such inode.
#include "metaserver/state/file_data.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status SetAttr(CommandContext* context, const proto::SetAttrOp& op, proto::MutationReply* reply) {
  ASSIGN_OR_RETURN(proto::Attributes inode, context->Inode(InodeId(op.inode())));
  const bool is_directory = inode.type() == proto::FILE_TYPE_DIRECTORY;
  const bool given_away = op.has_uid() || op.has_gid();
  if (op.has_uid()) inode.set_uid(op.uid());
  if (op.has_gid()) inode.set_gid(op.gid());
  if ((given_away || op.clear_suid_sgid()) && !is_directory) ClearSuidSgid(&inode);
  if (op.has_mode()) inode.set_mode(op.mode() & 07777);
  if (op.has_atime_ns()) inode.set_atime_ns(op.atime_ns());
  if (op.has_mtime_ns()) inode.set_mtime_ns(op.mtime_ns());
  if (op.atime_now()) inode.set_atime_ns(context->now_ns());
  if (op.mtime_now()) inode.set_mtime_ns(context->now_ns());
  context->Touch(&inode);
  if (op.has_ctime_ns()) inode.set_ctime_ns(op.ctime_ns());
  context->PutInode(inode);
  *reply->mutable_attributes() = std::move(inode);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
