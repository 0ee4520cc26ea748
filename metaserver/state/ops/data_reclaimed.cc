// A target has deleted these data ids; those that no target has any more are forgotten. Unknown ones are no error:
// reports repeat.
#include "metaserver/state/file_data.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status DataReclaimed(CommandContext* context, const proto::DataReclaimedOp& op, proto::MutationReply* /*reply*/) {
  for (const uint64_t data : op.data_ids()) {
    RETURN_IF_ERROR(DataReclaimedFrom(context, TargetId(op.target()), DataId(data)));
  }
  return Status::Ok();
}

}  // namespace tarn::meta::ops
