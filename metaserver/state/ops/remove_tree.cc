// Removes a directory with everything below it: the name goes at once, the rest by and by (Purge).
//
// As rm -r by root: the tree is out of reach when this returns, the parent's mtime, ctime and links change as with
// rmdir. Files below keep their other names. The volume's counters fall as the tree is purged; the sizes of the
// directories above fall at once. EPERM: the caller is not root, since then each directory's permission counts;
// ENOTDIR: the name or the parent is no directory; EINVAL: ".", "..", or '/' or NUL in the name; ENOENT; ENAMETOOLONG.
#include "metaserver/state/directory_sizes.h"
#include "metaserver/state/names.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status RemoveTree(CommandContext* context, const proto::RemoveTreeOp& op, proto::MutationReply* reply) {
  RETURN_IF_ERROR(CheckName(op.name()));
  if (IsDotOrDotDot(op.name())) return Status(StatusCode::kInvalidArgument, "'.' and '..' cannot be removed");
  if (context->caller().uid() != 0) {
    return Status(StatusCode::kNotPermitted, "only root removes a tree without looking at what is in it");
  }
  const InodeId parent_id(op.parent());
  ASSIGN_OR_RETURN(proto::Attributes parent, context->Directory(parent_id));
  ASSIGN_OR_RETURN(proto::Attributes top, context->Child(parent_id, op.name()));
  if (top.type() != proto::FILE_TYPE_DIRECTORY) {
    return Status(StatusCode::kNotDirectory, "the name is not a directory");
  }
  const InodeId top_id(top.inode());
  context->DeleteDentry(parent_id, op.name());
  context->TouchDirectory(&parent, -1, -1);
  context->PutInode(parent);
  ASSIGN_OR_RETURN(const TreeSize size, CountDirectoryGone(context, top_id, parent_id));
  context->NoteRemoved(top);
  top.set_nlink(0);
  context->Touch(&top);
  context->PutInode(top);
  context->QueuePurge(VolumeId(top.volume()), top_id, size.files + size.directories + 1);
  *reply->mutable_parent() = std::move(parent);
  *reply->mutable_removed() = std::move(top);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
