// unlink.
//
// POSIX: removes a name; the directory's mtime and ctime and the file's ctime change. Without a name the file goes,
// unless the session says that it has it open: then it stays readable by its id, with no link, until the session
// releases it or ends. EISDIR: a directory, "." and ".." among them (Linux's answer where POSIX allows EPERM); ENOENT;
// ENOTDIR: the parent; ENAMETOOLONG; EINVAL: '/' or NUL in the name.
#include "metaserver/state/inode_lifecycle.h"
#include "metaserver/state/names.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status Unlink(CommandContext* context, const proto::UnlinkOp& op, proto::MutationReply* reply) {
  RETURN_IF_ERROR(CheckName(op.name()));
  if (IsDotOrDotDot(op.name())) return Status(StatusCode::kIsDirectory, "'" + op.name() + "' is a directory");
  const InodeId parent_id(op.parent());
  ASSIGN_OR_RETURN(proto::Attributes parent, context->Directory(parent_id));
  ASSIGN_OR_RETURN(proto::Attributes file, context->Child(parent_id, op.name()));
  if (file.type() == proto::FILE_TYPE_DIRECTORY) return Status(StatusCode::kIsDirectory, "the name is a directory");
  context->DeleteDentry(parent_id, op.name());
  context->TouchDirectory(&parent, -1, 0);
  context->PutInode(parent);
  RETURN_IF_ERROR(DropLink(context, &file, parent_id, op.held_open()));
  *reply->mutable_parent() = std::move(parent);
  *reply->mutable_removed() = std::move(file);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
