// rename and renameat2.
//
// POSIX: the name moves in one step, replacing what has the new name: a file replaces a file, a directory an empty
// directory. Both names on one inode: success, nothing changes. mtime and ctime of both directories and ctime of what
// moved change; ".." of a directory that gets another parent is re-counted. A replaced file that the session has open
// becomes an orphan of the session. RENAME_NOREPLACE: EEXIST if the new name exists. RENAME_EXCHANGE: both must exist,
// and change places whatever their types. ENOENT: no old name, a removed directory, or an empty name; EISDIR: a file
// over a directory; ENOTDIR: a directory over a file, or a parent is no directory; ENOTEMPTY; EINVAL: a directory into
// its own subtree, "." or "..", '/' or NUL in a name, or both flags; EXDEV: another volume; EMLINK: too many
// subdirectories; ENAMETOOLONG.
#include <optional>

#include "metaserver/state/directory_sizes.h"
#include "metaserver/state/inode_lifecycle.h"
#include "metaserver/state/limits.h"
#include "metaserver/state/names.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

// What a rename is about. The two parents may be one directory, which must then be one object.
struct Ends {
  proto::Attributes old_parent;
  std::optional<proto::Attributes> other_parent;
  proto::Attributes source;
  std::optional<proto::Attributes> target;

  proto::Attributes& new_parent() { return other_parent ? *other_parent : old_parent; }
  bool same_parent() const { return !other_parent; }
};

bool IsDirectory(const proto::Attributes& inode) { return inode.type() == proto::FILE_TYPE_DIRECTORY; }

Status CheckRequest(const proto::RenameOp& op) {
  RETURN_IF_ERROR(CheckName(op.name()));
  RETURN_IF_ERROR(CheckName(op.new_name()));
  if (IsDotOrDotDot(op.name()) || IsDotOrDotDot(op.new_name())) {
    return Status(StatusCode::kInvalidArgument, "'.' and '..' cannot be renamed");
  }
  if (op.no_replace() && op.exchange()) {
    return Status(StatusCode::kInvalidArgument, "an exchange cannot refuse to replace");
  }
  return Status::Ok();
}

Result<Ends> FindEnds(const CommandContext& context, const proto::RenameOp& op) {
  Ends ends;
  ASSIGN_OR_RETURN(ends.old_parent, context.Directory(InodeId(op.parent())));
  if (op.new_parent() != op.parent()) {
    ASSIGN_OR_RETURN(ends.other_parent, context.Directory(InodeId(op.new_parent())));
  }
  if (ends.new_parent().volume() != ends.old_parent.volume()) {
    return Status(StatusCode::kCrossDevice, "the directories are in different volumes");
  }
  ASSIGN_OR_RETURN(ends.source, context.Child(InodeId(op.parent()), op.name()));
  ASSIGN_OR_RETURN(ends.target, context.FindChild(InodeId(op.new_parent()), op.new_name()));
  return ends;
}

// True if `ancestor` is `directory` or lies above it.
Result<bool> IsInSubtree(const CommandContext& context, const proto::Attributes& directory, uint64_t ancestor) {
  uint64_t inode = directory.inode();
  uint64_t parent = directory.parent();
  for (uint32_t depth = 0; depth < kDirectoryDepthMax; ++depth) {
    if (inode == ancestor) return true;
    if (parent == inode) return false;
    inode = parent;
    ASSIGN_OR_RETURN(const proto::Attributes above, context.Directory(InodeId(inode)));
    parent = above.parent();
  }
  return Status(StatusCode::kInternal, "directory " + std::to_string(directory.inode()) + " has no way to a root");
}

Status CheckNoCircle(const CommandContext& context, const proto::RenameOp& op, Ends* ends) {
  if (ends->same_parent()) return Status::Ok();
  if (IsDirectory(ends->source)) {
    ASSIGN_OR_RETURN(const bool circle, IsInSubtree(context, ends->new_parent(), ends->source.inode()));
    if (circle) return Status(StatusCode::kInvalidArgument, "a directory cannot move into its own subtree");
  }
  if (op.exchange() && ends->target && IsDirectory(*ends->target)) {
    ASSIGN_OR_RETURN(const bool circle, IsInSubtree(context, ends->old_parent, ends->target->inode()));
    if (circle) return Status(StatusCode::kInvalidArgument, "a directory cannot move into its own subtree");
  }
  return Status::Ok();
}

Status CheckReplaceable(const Ends& ends) {
  if (!ends.target) return Status::Ok();
  if (IsDirectory(ends.source) && !IsDirectory(*ends.target)) {
    return Status(StatusCode::kNotDirectory, "a directory replaces only a directory");
  }
  if (!IsDirectory(ends.source) && IsDirectory(*ends.target)) {
    return Status(StatusCode::kIsDirectory, "the new name is a directory");
  }
  if (IsDirectory(*ends.target) && ends.target->size_bytes() != 0) {
    return Status(StatusCode::kNotEmpty, "the directory to be replaced is not empty");
  }
  return Status::Ok();
}

// `child`, which had a name in `from`, now lies in `parent`: writes its dentry, its parent and its ctime.
Status Settle(CommandContext* context, InodeId from, const proto::Attributes& parent, const std::string& name,
              proto::Attributes* child) {
  RETURN_IF_ERROR(CountMove(context, *child, from, InodeId(parent.inode())));
  if (!IsDirectory(*child) && child->parent() != parent.inode()) {
    context->NoteLeaves(InodeId(child->parent()), InodeId(child->inode()));
  }
  if (IsDirectory(*child) || child->nlink() == 1) child->set_parent(parent.inode());
  context->Touch(child);
  context->PutInode(*child);
  context->PutDentry(InodeId(parent.inode()), name, *child);
  return Status::Ok();
}

void PutParents(CommandContext* context, const Ends& ends) {
  context->PutInode(ends.old_parent);
  if (ends.other_parent) context->PutInode(*ends.other_parent);
}

Status CheckSubdirectoryFits(const proto::Attributes& parent, int subdirectories_delta) {
  if (subdirectories_delta <= 0 || parent.nlink() < kDirectoryLinksMax) return Status::Ok();
  return Status(StatusCode::kTooManyLinks, "the directory has too many subdirectories");
}

Status Exchange(CommandContext* context, const proto::RenameOp& op, Ends* ends) {
  const int moved = (IsDirectory(ends->source) ? 1 : 0) - (IsDirectory(*ends->target) ? 1 : 0);
  const int subdirectories_delta = ends->same_parent() ? 0 : moved;
  RETURN_IF_ERROR(CheckSubdirectoryFits(ends->new_parent(), subdirectories_delta));
  RETURN_IF_ERROR(CheckSubdirectoryFits(ends->old_parent, -subdirectories_delta));
  const InodeId old_parent(op.parent());
  RETURN_IF_ERROR(Settle(context, old_parent, ends->new_parent(), op.new_name(), &ends->source));
  RETURN_IF_ERROR(Settle(context, InodeId(op.new_parent()), ends->old_parent, op.name(), &*ends->target));
  context->TouchDirectory(&ends->old_parent, 0, -subdirectories_delta);
  if (!ends->same_parent()) context->TouchDirectory(&ends->new_parent(), 0, subdirectories_delta);
  PutParents(context, *ends);
  return Status::Ok();
}

Status RemoveTarget(CommandContext* context, const proto::RenameOp& op, proto::Attributes target,
                    proto::MutationReply* reply) {
  if (IsDirectory(target)) {
    context->NoteRemoved(target);
    ASSIGN_OR_RETURN([[maybe_unused]] const TreeSize size,
                     CountDirectoryGone(context, InodeId(target.inode()), InodeId(op.new_parent())));
    RETURN_IF_ERROR(RemoveInode(context, target));
    target.set_nlink(0);
    context->Touch(&target);
  } else {
    RETURN_IF_ERROR(DropLink(context, &target, InodeId(op.new_parent()), op.replaced_held_open()));
  }
  *reply->mutable_removed() = std::move(target);
  return Status::Ok();
}

Status Move(CommandContext* context, const proto::RenameOp& op, Ends* ends, proto::MutationReply* reply) {
  const int source_directories = IsDirectory(ends->source) ? 1 : 0;
  const int target_directories = ends->target && IsDirectory(*ends->target) ? 1 : 0;
  const int gained = source_directories - target_directories;
  if (!ends->same_parent()) RETURN_IF_ERROR(CheckSubdirectoryFits(ends->new_parent(), gained));
  context->DeleteDentry(InodeId(op.parent()), op.name());
  if (ends->target) RETURN_IF_ERROR(RemoveTarget(context, op, *ends->target, reply));
  const int entries_gained = ends->target ? 0 : 1;
  if (ends->same_parent()) {
    context->TouchDirectory(&ends->old_parent, entries_gained - 1, -target_directories);
  } else {
    context->TouchDirectory(&ends->old_parent, -1, -source_directories);
    context->TouchDirectory(&ends->new_parent(), entries_gained, gained);
  }
  RETURN_IF_ERROR(Settle(context, InodeId(op.parent()), ends->new_parent(), op.new_name(), &ends->source));
  PutParents(context, *ends);
  return Status::Ok();
}

}  // namespace

Status Rename(CommandContext* context, const proto::RenameOp& op, proto::MutationReply* reply) {
  RETURN_IF_ERROR(CheckRequest(op));
  ASSIGN_OR_RETURN(Ends ends, FindEnds(*context, op));
  if (op.no_replace() && ends.target) return Status(StatusCode::kExists, "the new name exists");
  if (op.exchange() && !ends.target) return Status(StatusCode::kNotFound, "there is nothing to exchange with");
  RETURN_IF_ERROR(CheckNoCircle(*context, op, &ends));
  const bool same_inode = ends.target && ends.target->inode() == ends.source.inode();
  if (!same_inode) {
    if (op.exchange()) {
      RETURN_IF_ERROR(Exchange(context, op, &ends));
    } else {
      RETURN_IF_ERROR(CheckReplaceable(ends));
      RETURN_IF_ERROR(Move(context, op, &ends, reply));
    }
    *reply->mutable_parent() = std::move(ends.old_parent);
    if (ends.other_parent) *reply->mutable_new_parent() = *std::move(ends.other_parent);
  }
  *reply->mutable_attributes() = std::move(ends.source);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
