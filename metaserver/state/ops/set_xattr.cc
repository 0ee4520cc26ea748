// setxattr.
//
// Linux: sets or replaces a value; ctime changes. EEXIST with `create_only`, ENODATA with `replace_only`; ERANGE: a
// name that is empty or above 255 bytes; E2BIG: a value above 64 KiB; EINVAL: NUL in the name, or both flags; ENOSPC:
// the names of the inode would exceed 64 KiB; EPERM: one that the server answers by itself; ESTALE: no such inode.
#include "metaserver/state/limits.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

Status CheckRequest(const proto::SetXattrOp& op) {
  if (op.name().empty() || op.name().size() > kXattrNameBytesMax) {
    return Status(StatusCode::kTooLong, "an attribute's name has 1 to 255 bytes");
  }
  if (op.name().starts_with(kServedXattrPrefix)) {
    return Status(StatusCode::kNotPermitted, "attributes that begin with 'tarn.' can only be read");
  }
  if (op.name().find('\0') != std::string::npos)
    return Status(StatusCode::kInvalidArgument, "the name has a zero byte");
  if (op.value().size() > kXattrValueBytesMax) {
    return Status(StatusCode::kArgumentTooBig, "an attribute's value has at most 65536 bytes");
  }
  if (op.create_only() && op.replace_only()) {
    return Status(StatusCode::kInvalidArgument, "an attribute cannot be created and replaced");
  }
  return Status::Ok();
}

Status CheckListFits(const CommandContext& context, const proto::SetXattrOp& op) {
  size_t list_bytes = op.name().size() + 1;
  RETURN_IF_ERROR(
      context.view().Scan(XattrPrefix(InodeId(op.inode())), {}, [&](std::string_view key, std::string_view) {
        list_bytes += ParseXattrKey(key).value_or("").size() + 1;
        return true;
      }));
  if (list_bytes <= kXattrListBytesMax) return Status::Ok();
  return Status(StatusCode::kNoSpace, "the names of an inode's attributes have at most 65536 bytes together");
}

}  // namespace

Status SetXattr(CommandContext* context, const proto::SetXattrOp& op, proto::MutationReply* reply) {
  RETURN_IF_ERROR(CheckRequest(op));
  ASSIGN_OR_RETURN(proto::Attributes inode, context->Inode(InodeId(op.inode())));
  const std::string key = XattrKey(InodeId(op.inode()), op.name());
  ASSIGN_OR_RETURN(const auto existing, context->view().Get(key));
  if (existing && op.create_only()) return Status(StatusCode::kExists, "the attribute exists");
  if (!existing && op.replace_only()) return Status(StatusCode::kNoAttribute, "the attribute does not exist");
  if (!existing && inode.has_xattrs()) RETURN_IF_ERROR(CheckListFits(*context, op));
  context->transaction().Put(key, op.value());
  inode.set_has_xattrs(true);
  context->Touch(&inode);
  context->PutInode(inode);
  *reply->mutable_attributes() = std::move(inode);
  return Status::Ok();
}

}  // namespace tarn::meta::ops
