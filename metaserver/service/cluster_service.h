// ClusterService over gRPC: chunk servers register and send heartbeats (proto/cluster.proto).
//
// Calls run on gRPC's threads and may wait for the log.
#pragma once

#include <string>

#include "metaserver/service/server_requests.h"
#include "metaserver/service/service_context.h"
#include "proto/cluster.grpc.pb.h"

namespace tarn::meta {

// Thread-safe.
class ClusterServiceImpl final : public proto::ClusterService::Service {
 public:
  // The context outlives the service.
  explicit ClusterServiceImpl(ServiceContext* context) : context_(context), requests_(context) {}

  grpc::Status RegisterServer(grpc::ServerContext* call, const proto::RegisterServerRequest* request,
                              proto::RegisterServerReply* reply) override;
  grpc::Status Heartbeat(grpc::ServerContext* call, const proto::HeartbeatRequest* request,
                         proto::HeartbeatReply* reply) override;
  grpc::Status ReportGroups(grpc::ServerContext* call, const proto::ReportGroupsRequest* request,
                            proto::ReportGroupsReply* reply) override;

 private:
  Status Register(const proto::RegisterServerRequest& request, proto::RegisterServerReply* reply);
  Status Report(const proto::ReportGroupsRequest& request, proto::ReportGroupsReply* reply);
  // kPermission: the server it claims to be lives at another address.
  Status CheckNotCopied(const proto::RegisterServerRequest& request) const;
  // Of the process that answers at the address.
  Result<uint64_t> IncarnationAt(const std::string& address) const;
  Status Beat(const proto::HeartbeatRequest& request, proto::HeartbeatReply* reply);

  ServiceContext* const context_;
  ServerRequests requests_;
};

}  // namespace tarn::meta
