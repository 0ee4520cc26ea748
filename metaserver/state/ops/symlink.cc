// symlink.
//
// POSIX: the target is any text and need not exist; the link's size is the target's length and its mode 0777. EEXIST;
// ENOENT: the parent was removed, or name or target empty; ENOTDIR; ENAMETOOLONG: the name above 255 bytes or the
// target above 4095; EINVAL: '/' or NUL in the name, NUL in the target; EDQUOT.
#include "metaserver/state/inode_lifecycle.h"
#include "metaserver/state/limits.h"
#include "metaserver/state/names.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

Status CheckTarget(const std::string& target) {
  if (target.empty()) return Status(StatusCode::kNotFound, "the target is empty");
  if (target.size() > kSymlinkTargetBytesMax) {
    return Status(StatusCode::kNameTooLong, "the target has " + std::to_string(target.size()) + " bytes, at most " +
                                                std::to_string(kSymlinkTargetBytesMax) + " are allowed");
  }
  if (target.find('\0') != std::string::npos) return Status(StatusCode::kInvalidArgument, "the target has a zero byte");
  return Status::Ok();
}

}  // namespace

Status Symlink(CommandContext* context, const proto::SymlinkOp& op, proto::MutationReply* reply) {
  RETURN_IF_ERROR(CheckNewName(op.name()));
  RETURN_IF_ERROR(CheckTarget(op.target()));
  ASSIGN_OR_RETURN(proto::Attributes parent, context->Directory(InodeId(op.parent())));
  RETURN_IF_ERROR(CheckNameFree(*context, parent, op.name()));
  ASSIGN_OR_RETURN(proto::Attributes link, NewInode(context, parent, proto::FILE_TYPE_SYMLINK, 0777));
  link.set_symlink_target(op.target());
  link.set_size_bytes(op.target().size());
  RETURN_IF_ERROR(AddNewEntry(context, &parent, op.name(), link));
  *reply->mutable_attributes() = std::move(link);
  *reply->mutable_parent() = std::move(parent);
  reply->set_created(true);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
