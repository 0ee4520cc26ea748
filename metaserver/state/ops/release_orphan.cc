// The session has closed an unlinked file for good: the inode and its data go.
//
// No error if it is not an orphan of this session: the file may have had another name left when it was unlinked.
#include "metaserver/state/ops/ops.h"
#include "metaserver/state/unsettled_orphans.h"

namespace tarn::meta::ops {

Status ReleaseOrphan(CommandContext* context, const proto::ReleaseOrphanOp& op, proto::MutationReply* /*reply*/) {
  return ReleaseOrphanHolder(context, context->session(), InodeId(op.inode()));
}

}  // namespace tarn::meta::ops
