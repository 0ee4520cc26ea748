// removexattr.
//
// Linux: ctime changes. ENODATA: no such attribute; ERANGE: a name that is empty or above 255 bytes; EPERM: one
// that the server answers by itself; ESTALE: no such inode.
#include "metaserver/state/limits.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status RemoveXattr(CommandContext* context, const proto::RemoveXattrOp& op, proto::MutationReply* reply) {
  if (op.name().empty() || op.name().size() > kXattrNameBytesMax) {
    return Status(StatusCode::kTooLong, "an attribute's name has 1 to 255 bytes");
  }
  if (op.name().starts_with(kServedXattrPrefix)) {
    return Status(StatusCode::kNotPermitted, "attributes that begin with 'tarn.' can only be read");
  }
  const InodeId inode_id(op.inode());
  ASSIGN_OR_RETURN(proto::Attributes inode, context->Inode(inode_id));
  const std::string key = XattrKey(inode_id, op.name());
  ASSIGN_OR_RETURN(const auto existing, context->view().Get(key));
  if (!existing) return Status(StatusCode::kNoAttribute, "the attribute does not exist");
  context->transaction().Delete(key);
  bool any_left = false;
  RETURN_IF_ERROR(context->view().Scan(XattrPrefix(inode_id), {}, [&](std::string_view, std::string_view) {
    any_left = true;
    return false;
  }));
  inode.set_has_xattrs(any_left);
  context->Touch(&inode);
  context->PutInode(inode);
  *reply->mutable_attributes() = std::move(inode);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
