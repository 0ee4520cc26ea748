#include "metaserver/service/cluster_service.h"

#include <spdlog/spdlog.h>

#include <string>
#include <utility>
#include <vector>

#include "metaserver/service/grpc_answer.h"

namespace tarn::meta {
namespace {

constexpr size_t kDeadDataPerTargetMax = 4096;  // of one heartbeat
constexpr int kReclaimedPerCommandMax = 8192;

}  // namespace

grpc::Status ClusterServiceImpl::RegisterServer(grpc::ServerContext* /*call*/,
                                                const proto::RegisterServerRequest* request,
                                                proto::RegisterServerReply* reply) {
  return GrpcAnswer(*context_, Register(*request, reply));
}

grpc::Status ClusterServiceImpl::Heartbeat(grpc::ServerContext* /*call*/, const proto::HeartbeatRequest* request,
                                           proto::HeartbeatReply* reply) {
  return GrpcAnswer(*context_, Beat(*request, reply));
}

Status ClusterServiceImpl::Register(const proto::RegisterServerRequest& request, proto::RegisterServerReply* reply) {
  RETURN_IF_ERROR(context_->CheckLease());
  proto::Mutation mutation;
  *mutation.mutable_register_server()->mutable_request() = request;
  ASSIGN_OR_RETURN(proto::MutationReply applied, context_->proposer->SubmitAndWait(std::move(mutation)));
  *reply = std::move(*applied.mutable_registered());
  std::vector<TargetId> targets;
  for (const uint64_t id : reply->target_ids()) targets.emplace_back(id);
  context_->servers->RecordRegistration(targets, request);
  *reply->mutable_map() = context_->LiveMap();
  reply->set_heartbeat_interval_ms(static_cast<uint32_t>(context_->heartbeat_interval_ms));
  reply->set_lease_ms(static_cast<uint32_t>(context_->servers->lease_ms()));
  spdlog::info("chunk server registered id={} address={} node={} targets={} version={}", reply->server_id(),
               request.address(), request.node(), request.targets_size(), request.software_version());
  return Status::Ok();
}

Status ClusterServiceImpl::Beat(const proto::HeartbeatRequest& request, proto::HeartbeatReply* reply) {
  RETURN_IF_ERROR(context_->CheckLease());
  if (request.cluster_id() != context_->self.cluster_id)
    return Status(StatusCode::kInvalidArgument, "a heartbeat of another cluster");
  RETURN_IF_ERROR(context_->servers->RecordHeartbeat(*context_->state->cluster_map(), request));
  RETURN_IF_ERROR(RecordReclaimed(request));
  RETURN_IF_ERROR(ListDead(request, reply));
  if (context_->state->cluster_map()->version() > request.map_version()) *reply->mutable_map() = context_->LiveMap();
  reply->set_lease_ms(static_cast<uint32_t>(context_->servers->lease_ms()));
  return context_->CheckLease();
}

Status ClusterServiceImpl::RecordReclaimed(const proto::HeartbeatRequest& request) {
  for (const proto::TargetReport& report : request.targets()) {
    for (int first = 0; first < report.reclaimed_data_ids_size(); first += kReclaimedPerCommandMax) {
      proto::Mutation mutation;
      mutation.mutable_data_reclaimed()->set_target(report.id());
      const int end = std::min(first + kReclaimedPerCommandMax, report.reclaimed_data_ids_size());
      for (int i = first; i < end; ++i) mutation.mutable_data_reclaimed()->add_data_ids(report.reclaimed_data_ids(i));
      // Committed before the next list is made, which else would name them again.
      RETURN_IF_ERROR(context_->proposer->SubmitAndWait(std::move(mutation)).status());
    }
  }
  return Status::Ok();
}

Status ClusterServiceImpl::ListDead(const proto::HeartbeatRequest& request, proto::HeartbeatReply* reply) const {
  if (context_->state->header().reclaim_disabled()) return Status::Ok();
  const int64_t before_ns = context_->clock->WallNs() - context_->reclaim_delay_ms * 1'000'000;
  for (const proto::TargetReport& report : request.targets()) {
    std::vector<DataId> data_ids;
    RETURN_IF_ERROR(context_->state->ListDeadData(TargetId(report.id()), before_ns, kDeadDataPerTargetMax, &data_ids));
    if (data_ids.empty()) continue;
    proto::DeadData* dead = reply->add_dead_data();
    dead->set_target(report.id());
    for (const DataId data : data_ids) dead->add_data_ids(data.value());
  }
  return Status::Ok();
}

}  // namespace tarn::meta
