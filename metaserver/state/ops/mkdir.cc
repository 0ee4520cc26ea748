// mkdir.
//
// POSIX: an empty directory with two links ("." and its name); the parent gains a link (".."), mtime and ctime. In a
// set-group-id directory it inherits group and bit, as on Linux. EEXIST for any existing name, "." and ".." among them;
// ENOENT: the parent was removed, or an empty name; ENOTDIR; ENAMETOOLONG; EINVAL: '/' or NUL in the name; EMLINK;
// EDQUOT.
#include "metaserver/state/inode_lifecycle.h"
#include "metaserver/state/names.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status Mkdir(CommandContext* context, const proto::MkdirOp& op, proto::MutationReply* reply) {
  RETURN_IF_ERROR(CheckNewName(op.name()));
  ASSIGN_OR_RETURN(proto::Attributes parent, context->Directory(InodeId(op.parent())));
  RETURN_IF_ERROR(CheckNameFree(*context, parent, op.name()));
  ASSIGN_OR_RETURN(proto::Attributes directory, NewInode(context, parent, proto::FILE_TYPE_DIRECTORY, op.mode()));
  directory.set_nlink(2);
  RETURN_IF_ERROR(AddNewEntry(context, &parent, op.name(), directory));
  *reply->mutable_attributes() = std::move(directory);
  *reply->mutable_parent() = std::move(parent);
  reply->set_created(true);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
