// Gives the cluster its identity, once. The same again is no error; another one is kExists. kInvalidArgument: no id, or
// above 64 bytes.
#include "metaserver/state/limits.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status InitCluster(CommandContext* context, const proto::InitClusterOp& op, proto::MutationReply* /*reply*/) {
  if (op.cluster_id().empty() || op.cluster_id().size() > kClusterIdBytesMax) {
    return Status(StatusCode::kInvalidArgument, "a cluster id has 1 to 64 bytes");
  }
  proto::StateHeader& header = context->header();
  if (header.cluster_id() == op.cluster_id()) return Status::Ok();
  if (!header.cluster_id().empty()) return Status(StatusCode::kExists, "the cluster has an id already");
  header.set_cluster_id(op.cluster_id());
  proto::ClusterMap map = context->map();
  map.set_cluster_id(op.cluster_id());
  map.set_incarnation(header.incarnation());
  context->ReplaceMap(std::move(map));
  return Status::Ok();
}

}  // namespace tarn::meta::ops
