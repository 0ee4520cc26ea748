// rmdir.
//
// POSIX: removes an empty directory; the parent loses a link (".."), its mtime and ctime change. ENOTEMPTY: there are
// names in it; EINVAL: ".", or '/' or NUL in the name; ENOTEMPTY: ".."; ENOENT; ENOTDIR: the name or the parent is no
// directory; ENAMETOOLONG.
#include "metaserver/state/directory_sizes.h"
#include "metaserver/state/inode_lifecycle.h"
#include "metaserver/state/names.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status Rmdir(CommandContext* context, const proto::RmdirOp& op, proto::MutationReply* reply) {
  RETURN_IF_ERROR(CheckName(op.name()));
  if (op.name() == ".") return Status(StatusCode::kInvalidArgument, "'.' cannot be removed");
  if (op.name() == "..") return Status(StatusCode::kNotEmpty, "'..' is not empty");
  const InodeId parent_id(op.parent());
  ASSIGN_OR_RETURN(proto::Attributes parent, context->Directory(parent_id));
  ASSIGN_OR_RETURN(proto::Attributes directory, context->Child(parent_id, op.name()));
  if (directory.type() != proto::FILE_TYPE_DIRECTORY) {
    return Status(StatusCode::kNotDirectory, "the name is not a directory");
  }
  if (directory.size_bytes() != 0) return Status(StatusCode::kNotEmpty, "the directory is not empty");
  context->DeleteDentry(parent_id, op.name());
  context->TouchDirectory(&parent, -1, -1);
  context->PutInode(parent);
  context->NoteRemoved(directory);
  ASSIGN_OR_RETURN([[maybe_unused]] const TreeSize size,
                   CountDirectoryGone(context, InodeId(directory.inode()), parent_id));
  RETURN_IF_ERROR(RemoveInode(context, directory));
  directory.set_nlink(0);
  context->Touch(&directory);
  *reply->mutable_parent() = std::move(parent);
  *reply->mutable_removed() = std::move(directory);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
