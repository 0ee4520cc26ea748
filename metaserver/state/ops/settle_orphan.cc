// The end of a removal that was held (LogCommand.hold_removed): every session that might have had the inode open has
// been asked.
//
// Those that have it open hold it from now on; sessions that ended or released it meanwhile do not. Without any holder it goes.
// Settled already: nothing happens.
#include <vector>

#include "metaserver/state/ops/ops.h"
#include "metaserver/state/unsettled_orphans.h"

namespace tarn::meta::ops {

Status SettleOrphan(CommandContext* context, const proto::SettleOrphanOp& op, proto::MutationReply* /*reply*/) {
  std::vector<SessionId> sessions;
  for (const uint64_t session : op.sessions()) sessions.emplace_back(session);
  return SettleOrphanHolders(context, InodeId(op.inode()), sessions);
}

}  // namespace tarn::meta::ops
