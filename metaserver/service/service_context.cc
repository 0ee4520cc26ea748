#include "metaserver/service/service_context.h"

#include <algorithm>

namespace tarn::meta {

Status ServiceContext::CheckLease() const {
  if (serving.load(std::memory_order_acquire) && replicator->HoldsLease()) return Status::Ok();
  // The leader of a group of one that has only just started has no other to name.
  return Status(StatusCode::kNotLeader, "this metadata server does not lead (yet)");
}

bool ServiceContext::Leads() const {
  return serving.load(std::memory_order_acquire) && replicator->leader_member() == self.member_id;
}

proto::ClusterMap ServiceContext::LiveMap() const {
  proto::ClusterMap map = *state->cluster_map();
  servers->FillUsage(&map);
  proto::MetaserverMember* member = map.add_metaservers();
  member->set_id(self.member_id);
  member->set_address(self.address);
  member->set_grpc_address(self.grpc_address);
  member->set_role(Leads() ? "leader" : "unknown");
  member->set_pid(self.pid);
  return map;
}

Status ServiceContext::ListVolumes(proto::ListVolumesReply* reply) const {
  RETURN_IF_ERROR(state->ListVolumes(reply));
  auto* volumes = reply->mutable_volumes();
  volumes->erase(
      std::remove_if(volumes->begin(), volumes->end(), [](const proto::Volume& volume) { return volume.deleting(); }),
      volumes->end());
  return Status::Ok();
}

}  // namespace tarn::meta
