#include "metaserver/service/cluster_service.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <future>
#include <memory>
#include <string>
#include <utility>

#include "common/rpc/frame_client.h"
#include "metaserver/service/grpc_answer.h"
#include "proto/hello.pb.h"

namespace tarn::meta {
namespace {

constexpr int64_t kProbeTimeoutMs = 1'000;

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
  const auto decided = std::make_shared<std::promise<Status>>();
  requests_.BeginReport(request, [decided](const Status& status) { decided->set_value(status); });
  RETURN_IF_ERROR(decided->get_future().get());
  return requests_.FinishReport(reply);
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
  const Result<uint64_t> living = IncarnationAt(known->address());
  if (!living.ok() || *living != known->incarnation()) return Status::Ok();
  return Status(StatusCode::kPermission, "chunk server " + std::to_string(known->server_id()) + " lives at " +
                                             known->address() + ": the directory at " + request.address() +
                                             " is a copy of its own, and a server may live only once");
}

Result<uint64_t> ClusterServiceImpl::IncarnationAt(const std::string& address) const {
  ASSIGN_OR_RETURN(const auto loop, rpc::EventLoop::Start("probe"));
  rpc::FrameClientOptions options;
  options.address = address;
  options.connect_timeout_ms = kProbeTimeoutMs;
  proto::HelloRequest hello;
  hello.set_role(proto::PEER_ROLE_METASERVER);
  hello.set_cluster_id(context_->self.cluster_id);
  hello.set_peer_name("a look for the chunk server that was here");
  const auto client = rpc::FrameClient::Create(loop.get(), options, hello);
  // An error of the call is an answer as well: what counts is the hello.
  const Status called = client->CallAndWait(rpc::Method::kPing, proto::HelloRequest(), nullptr, kProbeTimeoutMs);
  const uint64_t incarnation = client->hello_reply().incarnation();
  client->Close();
  if (incarnation == 0) return Status(StatusCode::kUnavailable, "no chunk server answers at " + address + ": " + called.message());
  return incarnation;
}

Status ClusterServiceImpl::Register(const proto::RegisterServerRequest& request, proto::RegisterServerReply* reply) {
  ASSIGN_OR_RETURN(const ServerRequests::Registration checked, requests_.CheckRegistration(request));
  RETURN_IF_ERROR(CheckNotCopied(request));
  if (checked.needs_proof) {
    const Result<uint64_t> living = IncarnationAt(request.address());
    if (!living.ok() || *living != request.incarnation()) {
      return Status(StatusCode::kUnavailable, "another process of the chunk server at " + request.address() +
                                                  " has its lease, and this one does not answer there");
    }
  }
  ASSIGN_OR_RETURN(proto::Mutation mutation, requests_.BeginRegistration(request, checked));
  RETURN_IF_ERROR(requests_.FinishRegistration(request, checked, context_->SubmitForAnswer(std::move(mutation)), reply));
  spdlog::info("chunk server registered id={} address={} node={} targets={} version={}", reply->server_id(),
               request.address(), request.node(), request.targets_size(), request.software_version());
  return Status::Ok();
}

Status ClusterServiceImpl::Beat(const proto::HeartbeatRequest& request, proto::HeartbeatReply* reply) {
  ASSIGN_OR_RETURN(ServerRequests::Heartbeat heartbeat, requests_.BeginHeartbeat(request));
  for (proto::Mutation& mutation : heartbeat.mutations)
    RETURN_IF_ERROR(context_->proposer->SubmitAndWait(std::move(mutation)).status());
  return requests_.FinishHeartbeat(request, heartbeat, reply);
}

}  // namespace tarn::meta
