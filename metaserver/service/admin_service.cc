#include "metaserver/service/admin_service.h"

#include <spdlog/spdlog.h>

#include <utility>
#include <vector>

#include "metaserver/service/backup_format.h"
#include "metaserver/service/checkpoint_source.h"
#include "metaserver/service/data_reconciler.h"
#include "metaserver/service/fsck_job.h"
#include "metaserver/service/group_health.h"
#include "metaserver/service/group_keeper.h"
#include "metaserver/service/grpc_answer.h"
#include "metaserver/service/replication_keeper.h"

namespace tarn::meta {

grpc::Status AdminServiceImpl::Status(grpc::ServerContext* /*call*/, const proto::StatusRequest* /*request*/,
                                      proto::StatusReply* reply) {
  return GrpcAnswer(*context_, FillStatus(reply));
}

tarn::Status AdminServiceImpl::FillStatus(proto::StatusReply* reply) const {
  RETURN_IF_ERROR(context_->CheckLease());
  proto::ClusterMap map = context_->LiveMap();
  std::vector<std::string> problems;
  ASSIGN_OR_RETURN(*reply->mutable_repair(), context_->replication->Progress());
  *reply->mutable_rebalance() = context_->replication->Rebalancing();
  FillSpace(map, reply->mutable_space());
  reply->set_health(JudgeHealth(map, reply->repair(), &problems));
  ASSIGN_OR_RETURN(const auto progress, context_->replicator->Progress());
  if (JudgeGroup(progress, &problems) && reply->health() == "ok") reply->set_health("degraded");
  for (std::string& problem : problems) reply->add_problems(std::move(problem));
  reply->set_cluster_id(context_->self.cluster_id);
  reply->set_map_version(map.version());
  reply->set_placement_groups(static_cast<uint32_t>(map.groups_size()));
  reply->mutable_metaservers()->Swap(map.mutable_metaservers());
  reply->mutable_targets()->Swap(map.mutable_targets());
  proto::ListVolumesReply volumes;
  RETURN_IF_ERROR(context_->ListVolumes(&volumes));
  reply->mutable_volumes()->Swap(volumes.mutable_volumes());
  reply->set_sessions(static_cast<uint32_t>(context_->sessions->size()));
  ASSIGN_OR_RETURN(const uint64_t dead, context_->state->CountDeadData());
  reply->set_dead_data_ids(dead);
  const proto::StateHeader header = context_->state->header();
  reply->set_removing_inodes(header.purge_inodes());
  reply->set_unsettled_directories(header.unpropagated());
  reply->set_reclaim_disabled(header.reclaim_disabled());
  *reply->mutable_forced_promotions() = header.forced_promotions();
  if (!header.forced_promotions().empty()) {
    reply->add_problems(std::to_string(header.forced_promotions_size()) +
                        " placement group(s) went on from an older copy on an operator's word: `tarn fsck`");
  }
  if (header.reclaim_disabled()) {
    reply->add_problems("dead data is kept since the metadata was restored: `tarn meta reclaim on` when all is well");
  }
  reply->set_software_version(context_->self.software_version);
  return context_->CheckLease();
}

void AdminServiceImpl::FillSpace(const proto::ClusterMap& map, proto::SpaceProgress* space) const {
  context_->reconciler->Fill(space);
  context_->servers->FillSpace(map, space);
}

grpc::Status AdminServiceImpl::ChangeVolume(proto::Mutation mutation, proto::VolumeReply* reply) {
  if (const tarn::Status status = context_->CheckLease(); !status.ok()) return GrpcAnswer(*context_, status);
  // A session that only waits for this answer is as alive as one that sends frames.
  if (mutation.session() != 0) context_->sessions->Touch(SessionId(mutation.session()));
  auto applied = context_->SubmitForAnswer(std::move(mutation));
  if (!applied.ok()) return GrpcAnswer(*context_, applied.status());
  *reply->mutable_volume() = std::move(*applied->mutable_volume());
  return grpc::Status::OK;
}

tarn::Status AdminServiceImpl::StreamBackup(grpc::ServerContext* call,
                                            grpc::ServerWriter<proto::BackupPiece>* pieces) const {
  RETURN_IF_ERROR(context_->CheckLease());
  const proto::StateHeader header = context_->state->header();
  ASSIGN_OR_RETURN(const auto source,
                   CheckpointSource::Take(context_->store, header.applied_entries(), context_->checkpoints_path));
  // Until here it was this member's state that counted; the copy cannot change any more.
  RETURN_IF_ERROR(context_->CheckLease());
  proto::BackupPiece message;
  message.mutable_header()->set_version(kBackupVersion);
  message.mutable_header()->set_cluster_id(header.cluster_id());
  message.mutable_header()->set_incarnation(header.incarnation());
  message.mutable_header()->set_applied_entries(header.applied_entries());
  message.mutable_header()->set_made_ns(context_->clock->WallNs());
  message.mutable_header()->set_software_version(context_->self.software_version);
  const auto gone = [] { return tarn::Status(StatusCode::kCancelled, "nobody reads the backup any more"); };
  if (!pieces->Write(message)) return gone();
  message.Clear();
  while (true) {
    ASSIGN_OR_RETURN(const bool more, source->Next(message.mutable_piece()));
    if (!more) return tarn::Status::Ok();
    if (call->IsCancelled() || !pieces->Write(message)) return gone();
  }
}

grpc::Status AdminServiceImpl::Backup(grpc::ServerContext* call, const proto::BackupRequest* /*request*/,
                                      grpc::ServerWriter<proto::BackupPiece>* pieces) {
  const tarn::Status status = StreamBackup(call, pieces);
  if (status.ok()) {
    spdlog::info("backup sent");
  } else {
    spdlog::warn("backup not sent: {}", status.ToString());
  }
  return GrpcAnswer(*context_, status);
}

grpc::Status AdminServiceImpl::Fsck(grpc::ServerContext* call, const proto::FsckRequest* request,
                                    grpc::ServerWriter<proto::FsckEvent>* events) {
  if (const tarn::Status status = context_->CheckLease(); !status.ok()) return GrpcAnswer(*context_, status);
  spdlog::info("fsck begins volume={} repair={}", request->volume().empty() ? "(all)" : request->volume(),
               request->repair());
  FsckJob job(context_, *request,
              [&](const proto::FsckEvent& event) { return !call->IsCancelled() && events->Write(event); });
  const tarn::Status status = job.Run();
  spdlog::info("fsck ends: {}", status.ToString());
  return GrpcAnswer(*context_, status);
}

grpc::Status AdminServiceImpl::SetReclaim(grpc::ServerContext* /*call*/, const proto::SetReclaimRequest* request,
                                          proto::SetReclaimReply* /*reply*/) {
  if (const tarn::Status status = context_->CheckLease(); !status.ok()) return GrpcAnswer(*context_, status);
  proto::Mutation mutation;
  mutation.mutable_set_reclaim()->set_enabled(request->enabled());
  const auto applied = context_->proposer->SubmitAndWait(std::move(mutation));
  if (applied.ok()) spdlog::info("reclaiming of dead data is {}", request->enabled() ? "on" : "off");
  return GrpcAnswer(*context_, applied.status());
}

grpc::Status AdminServiceImpl::CreateVolume(grpc::ServerContext* /*call*/, const proto::CreateVolumeRequest* request,
                                            proto::VolumeReply* reply) {
  if (const tarn::Status made = nodes_.MakeGroupsFor(request->volume().replicas()); !made.ok())
    return GrpcAnswer(*context_, made);
  proto::Mutation mutation;
  mutation.set_session(request->session());
  mutation.set_sequence(request->sequence());
  *mutation.mutable_create_volume()->mutable_volume() = request->volume();
  grpc::Status status = ChangeVolume(std::move(mutation), reply);
  if (status.ok()) spdlog::info("volume created name={} id={}", reply->volume().name(), reply->volume().id());
  return status;
}

grpc::Status AdminServiceImpl::DeleteVolume(grpc::ServerContext* /*call*/, const proto::DeleteVolumeRequest* request,
                                            proto::VolumeReply* reply) {
  proto::Mutation mutation;
  mutation.set_session(request->session());
  mutation.set_sequence(request->sequence());
  mutation.mutable_delete_volume()->set_name(request->name());
  mutation.mutable_delete_volume()->set_recursive(request->recursive());
  grpc::Status status = ChangeVolume(std::move(mutation), reply);
  if (status.ok()) spdlog::info("volume deleted name={} id={}", request->name(), reply->volume().id());
  return status;
}

grpc::Status AdminServiceImpl::ResizeVolume(grpc::ServerContext* /*call*/, const proto::ResizeVolumeRequest* request,
                                            proto::VolumeReply* reply) {
  proto::Mutation mutation;
  mutation.set_session(request->session());
  mutation.set_sequence(request->sequence());
  proto::ResizeVolumeOp* op = mutation.mutable_resize_volume();
  op->set_name(request->name());
  if (request->has_quota_bytes()) op->set_quota_bytes(request->quota_bytes());
  if (request->has_quota_inodes()) op->set_quota_inodes(request->quota_inodes());
  return ChangeVolume(std::move(mutation), reply);
}

grpc::Status AdminServiceImpl::GetVolume(grpc::ServerContext* /*call*/, const proto::GetVolumeRequest* request,
                                         proto::GetVolumeReply* reply) {
  tarn::Status status = context_->CheckLease();
  if (status.ok()) status = context_->state->GetVolume(*request, reply);
  if (status.ok()) status = context_->CheckLease();
  return GrpcAnswer(*context_, status);
}

grpc::Status AdminServiceImpl::ListVolumes(grpc::ServerContext* /*call*/, const proto::ListVolumesRequest* /*request*/,
                                           proto::ListVolumesReply* reply) {
  tarn::Status status = context_->CheckLease();
  if (status.ok()) status = context_->ListVolumes(reply);
  if (status.ok()) status = context_->CheckLease();
  return GrpcAnswer(*context_, status);
}

grpc::Status AdminServiceImpl::ListNodes(grpc::ServerContext* /*call*/, const proto::ListNodesRequest* /*request*/,
                                         proto::ListNodesReply* reply) {
  return GrpcAnswer(*context_, nodes_.List(reply));
}

grpc::Status AdminServiceImpl::DrainNode(grpc::ServerContext* /*call*/, const proto::DrainNodeRequest* request,
                                         proto::DrainNodeReply* reply) {
  return GrpcAnswer(*context_, nodes_.Drain(*request, reply));
}

grpc::Status AdminServiceImpl::UncordonNode(grpc::ServerContext* /*call*/, const proto::UncordonNodeRequest* request,
                                            proto::UncordonNodeReply* reply) {
  return GrpcAnswer(*context_, nodes_.Uncordon(*request, reply));
}

grpc::Status AdminServiceImpl::RemoveNode(grpc::ServerContext* /*call*/, const proto::RemoveNodeRequest* request,
                                          proto::RemoveNodeReply* reply) {
  return GrpcAnswer(*context_, nodes_.Remove(*request, reply));
}

grpc::Status AdminServiceImpl::ListGroups(grpc::ServerContext* /*call*/, const proto::ListGroupsRequest* request,
                                          proto::ListGroupsReply* reply) {
  return GrpcAnswer(*context_, groups_.List(*request, reply));
}

grpc::Status AdminServiceImpl::PromoteMember(grpc::ServerContext* /*call*/, const proto::PromoteMemberRequest* request,
                                             proto::PromoteMemberReply* reply) {
  return GrpcAnswer(*context_, groups_.Promote(*request, reply));
}

grpc::Status AdminServiceImpl::RetireTarget(grpc::ServerContext* /*call*/, const proto::RetireTargetRequest* request,
                                            proto::RetireTargetReply* reply) {
  return GrpcAnswer(*context_, nodes_.Retire(*request, reply));
}

grpc::Status AdminServiceImpl::StartScrub(grpc::ServerContext* /*call*/, const proto::StartScrubRequest* request,
                                          proto::StartScrubReply* /*reply*/) {
  return GrpcAnswer(*context_, nodes_.StartScrub(*request));
}

grpc::Status AdminServiceImpl::ScrubStatus(grpc::ServerContext* /*call*/, const proto::ScrubStatusRequest* /*request*/,
                                           proto::ScrubStatusReply* reply) {
  return GrpcAnswer(*context_, nodes_.ScrubStatus(reply));
}

}  // namespace tarn::meta
