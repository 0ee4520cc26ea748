// The end of a removal that was held (LogCommand.hold_removed): every session that might have had the inode open has
// been asked.
//
// Those that have it open hold it from now on; sessions that ended meanwhile do not. Without any holder it goes.
// Settled already: nothing happens.
#include "metaserver/state/inode_lifecycle.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status SettleOrphan(CommandContext* context, const proto::SettleOrphanOp& op, proto::MutationReply* /*reply*/) {
  const InodeId inode(op.inode());
  ASSIGN_OR_RETURN(const auto unsettled, context->view().Get(OrphanKey(kUnsettled, inode)));
  if (!unsettled) return Status::Ok();
  for (const uint64_t id : op.sessions()) {
    ASSIGN_OR_RETURN(const auto session, ReadSession(context->view(), SessionId(id)));
    if (session) AddOrphanHolder(context, SessionId(id), inode);
  }
  return RemoveOrphanHolder(context, kUnsettled, inode);
}

}  // namespace tarn::meta::ops
