// MemberService over gRPC: joining, leaving and handing over the metadata group, and the stream of a checkpoint
// (proto/member.proto).
//
// Calls run on gRPC's threads and may wait for the log.
#pragma once

#include <atomic>
#include <string>

#include "metaserver/service/member_requests.h"
#include "metaserver/service/service_context.h"
#include "metaserver/state/kv.h"
#include "proto/member.grpc.pb.h"

namespace tarn::meta {

// Thread-safe.
class MemberServiceImpl final : public proto::MemberService::Service {
 public:
  // `context` outlives the service. Checkpoints lie in `checkpoint_directory` while they are sent.
  MemberServiceImpl(ServiceContext* context, std::string checkpoint_directory)
      : context_(context), requests_(context), checkpoint_directory_(std::move(checkpoint_directory)) {}

  grpc::Status FetchCheckpoint(grpc::ServerContext* call, const proto::FetchCheckpointRequest* request,
                               grpc::ServerWriter<proto::CheckpointPiece>* writer) override;
  grpc::Status JoinGroup(grpc::ServerContext* call, const proto::JoinGroupRequest* request,
                         proto::JoinGroupReply* reply) override;
  grpc::Status ListMembers(grpc::ServerContext* call, const proto::ListMembersRequest* request,
                           proto::ListMembersReply* reply) override;
  grpc::Status RemoveMember(grpc::ServerContext* call, const proto::RemoveMemberRequest* request,
                            proto::RemoveMemberReply* reply) override;
  grpc::Status TransferLeadership(grpc::ServerContext* call, const proto::TransferLeadershipRequest* request,
                                  proto::TransferLeadershipReply* reply) override;

 private:
  Status SendCheckpoint(const proto::FetchCheckpointRequest& request,
                        grpc::ServerWriter<proto::CheckpointPiece>* writer);
  Status Join(const proto::JoinGroupRequest& request, proto::JoinGroupReply* reply);
  Status Remove(const proto::RemoveMemberRequest& request);
  Status Transfer(uint64_t member);

  ServiceContext* const context_;
  const MemberRequests requests_;
  const std::string checkpoint_directory_;
  std::atomic<int> sending_{0};
};

}  // namespace tarn::meta
