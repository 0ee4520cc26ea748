// Turns the deletion of dead data on or off (off: after a restore).
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status SetReclaim(CommandContext* context, const proto::SetReclaimOp& op, proto::MutationReply* /*reply*/) {
  context->header().set_reclaim_disabled(!op.enabled());
  return Status::Ok();
}

}  // namespace tarn::meta::ops
