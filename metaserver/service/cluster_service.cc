#include "metaserver/service/cluster_service.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "common/rpc/frame_client.h"
#include "metaserver/service/grpc_answer.h"
#include "metaserver/service/replication_keeper.h"
#include "proto/hello.pb.h"

namespace tarn::meta {
namespace {

constexpr size_t kDeadDataPerTargetMax = 4096;  // of one heartbeat
constexpr int kReclaimedPerCommandMax = 8192;
constexpr int64_t kProbeTimeoutMs = 1'000;
// A target with less than this part of its disk left gets what was deleted back after ten seconds: longer than readers go
// on for whom it is not deleted yet (their lease).
constexpr uint64_t kShortOfRoomDivisor = 20;
constexpr int64_t kReclaimDelayMsShort = 10'000;

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

grpc::Status ClusterServiceImpl::ReportGroups(grpc::ServerContext* /*call*/, const proto::ReportGroupsRequest* request,
                                              proto::ReportGroupsReply* reply) {
  return GrpcAnswer(*context_, Report(*request, reply));
}

Status ClusterServiceImpl::Report(const proto::ReportGroupsRequest& request, proto::ReportGroupsReply* reply) {
  RETURN_IF_ERROR(context_->CheckLease());
  if (request.cluster_id() != context_->self.cluster_id)
    return Status(StatusCode::kInvalidArgument, "a report of another cluster");
  RETURN_IF_ERROR(context_->replication->Decide(request));
  *reply->mutable_map() = context_->LiveMap();
  return context_->CheckLease();
}

// Somebody may have copied its directory: two servers of one identity would both take writes.
Status ClusterServiceImpl::CheckNotCopied(const proto::RegisterServerRequest& request) const {
  const auto map = context_->state->cluster_map();
  const auto known = std::ranges::find_if(map->targets(), [&](const proto::Target& target) {
    if (request.server_id() != 0) return target.server_id() == request.server_id();
    return std::ranges::any_of(request.targets(), [&](const proto::TargetReport& report) {
      return !report.directory_id().empty() && report.directory_id() == target.directory_id();
    });
  });
  if (known == map->targets().end()) return Status::Ok();
  if (known->address() == request.address() || known->incarnation() == request.incarnation()) return Status::Ok();
  ASSIGN_OR_RETURN(const auto loop, rpc::EventLoop::Start("probe"));
  rpc::FrameClientOptions options;
  options.address = known->address();
  options.connect_timeout_ms = kProbeTimeoutMs;
  proto::HelloRequest hello;
  hello.set_role(proto::PEER_ROLE_METASERVER);
  hello.set_cluster_id(context_->self.cluster_id);
  hello.set_peer_name("a look for the chunk server that was here");
  const auto client = rpc::FrameClient::Create(loop.get(), options, hello);
  // An error of the call is an answer as well: what counts is the hello.
  static_cast<void>(client->CallAndWait(rpc::Method::kPing, proto::HelloRequest(), nullptr, kProbeTimeoutMs));
  const bool lives = client->hello_reply().incarnation() == known->incarnation();
  client->Close();
  if (!lives) return Status::Ok();
  return Status(StatusCode::kPermission, "chunk server " + std::to_string(known->server_id()) + " lives at " +
                                             known->address() + ": the directory at " + request.address() +
                                             " is a copy of its own, and a server may live only once");
}

Status ClusterServiceImpl::Register(const proto::RegisterServerRequest& request, proto::RegisterServerReply* reply) {
  RETURN_IF_ERROR(context_->CheckLease());
  RETURN_IF_ERROR(CheckNotCopied(request));
  proto::Mutation mutation;
  *mutation.mutable_register_server()->mutable_request() = request;
  ASSIGN_OR_RETURN(proto::MutationReply applied, context_->SubmitForAnswer(std::move(mutation)));
  *reply = std::move(*applied.mutable_registered());
  std::vector<TargetId> targets;
  for (const uint64_t id : reply->target_ids()) targets.emplace_back(id);
  // Before the map is read: what a decision in flight makes of it comes with the lease, by a heartbeat.
  const uint32_t lease_ms = context_->servers->RecordRegistration(targets, request);
  *reply->mutable_map() = context_->LiveMap();
  reply->set_heartbeat_interval_ms(static_cast<uint32_t>(context_->heartbeat_interval_ms));
  reply->set_lease_ms(lease_ms);
  spdlog::info("chunk server registered id={} address={} node={} targets={} version={}", reply->server_id(),
               request.address(), request.node(), request.targets_size(), request.software_version());
  return Status::Ok();
}

Status ClusterServiceImpl::Beat(const proto::HeartbeatRequest& request, proto::HeartbeatReply* reply) {
  RETURN_IF_ERROR(context_->CheckLease());
  if (request.cluster_id() != context_->self.cluster_id)
    return Status(StatusCode::kInvalidArgument, "a heartbeat of another cluster");
  // Before the map is read, likewise.
  ASSIGN_OR_RETURN(const uint32_t lease_ms,
                   context_->servers->RecordHeartbeat(*context_->state->cluster_map(), request));
  RETURN_IF_ERROR(RecordReclaimed(request));
  RETURN_IF_ERROR(ListDead(request, reply));
  if (context_->state->cluster_map()->version() > request.map_version()) *reply->mutable_map() = context_->LiveMap();
  reply->set_lease_ms(lease_ms);
  reply->set_remove_leftovers(!context_->state->header().reclaim_disabled());
  reply->set_start_scrub(context_->servers->TakeWantedScrub(request));
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

int64_t ClusterServiceImpl::ReclaimDelayMs(const proto::TargetReport& report) const {
  const bool room_is_short = report.available_bytes() < report.capacity_bytes() / kShortOfRoomDivisor;
  return room_is_short ? std::min(context_->reclaim_delay_ms, kReclaimDelayMsShort) : context_->reclaim_delay_ms;
}

Status ClusterServiceImpl::ListDead(const proto::HeartbeatRequest& request, proto::HeartbeatReply* reply) const {
  if (context_->state->header().reclaim_disabled()) return Status::Ok();
  for (const proto::TargetReport& report : request.targets()) {
    const int64_t before_ns = context_->clock->WallNs() - ReclaimDelayMs(report) * 1'000'000;
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
