// link.
//
// POSIX: another name of a file, symbolic link or special file; its link count and ctime change, the directory's mtime
// and ctime too. EPERM: a directory; EEXIST; ENOENT: the file has no name any more, the directory was removed, or an
// empty name; ESTALE: no such inode; ENOTDIR; EXDEV: another volume; EMLINK; ENAMETOOLONG; EINVAL: '/' or NUL in the
// name.
#include "metaserver/state/directory_sizes.h"
#include "metaserver/state/inode_lifecycle.h"
#include "metaserver/state/limits.h"
#include "metaserver/state/names.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status Link(CommandContext* context, const proto::LinkOp& op, proto::MutationReply* reply) {
  RETURN_IF_ERROR(CheckNewName(op.new_name()));
  const InodeId parent_id(op.new_parent());
  ASSIGN_OR_RETURN(proto::Attributes parent, context->Directory(parent_id));
  ASSIGN_OR_RETURN(proto::Attributes file, context->Inode(InodeId(op.inode())));
  if (file.type() == proto::FILE_TYPE_DIRECTORY) {
    return Status(StatusCode::kNotPermitted, "a directory has one name only");
  }
  if (file.volume() != parent.volume()) return Status(StatusCode::kCrossDevice, "the directory is in another volume");
  RETURN_IF_ERROR(CheckNameFree(*context, parent, op.new_name()));
  if (file.nlink() == 0) return Status(StatusCode::kNotFound, "the file was unlinked");
  if (file.nlink() >= kFileLinksMax) {
    return Status(StatusCode::kTooManyLinks, "the file has " + std::to_string(file.nlink()) + " links");
  }
  context->NoteLeaves(InodeId(file.parent()), InodeId(file.inode()));
  CountAnotherName(context, file);
  file.set_parent(0);
  file.set_nlink(file.nlink() + 1);
  context->Touch(&file);
  context->PutInode(file);
  context->PutDentry(parent_id, op.new_name(), file);
  context->TouchDirectory(&parent, 1, 0);
  context->PutInode(parent);
  *reply->mutable_attributes() = std::move(file);
  *reply->mutable_new_parent() = std::move(parent);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
