// The session has closed an unlinked file for good: the inode and its data go.
//
// No error if it is not an orphan of this session: the file may have had another name left when it was unlinked.
#include "metaserver/state/inode_lifecycle.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status ReleaseOrphan(CommandContext* context, const proto::ReleaseOrphanOp& op, proto::MutationReply* /*reply*/) {
  const InodeId inode_id(op.inode());
  const std::string key = OrphanKey(context->session(), inode_id);
  ASSIGN_OR_RETURN(const auto orphan, context->view().Get(key));
  if (!orphan) return Status::Ok();
  context->transaction().Delete(key);
  ASSIGN_OR_RETURN(const auto inode, ReadInode(context->view(), inode_id));
  return inode ? RemoveInode(context, *inode) : Status::Ok();
}

}  // namespace tarn::meta::ops
