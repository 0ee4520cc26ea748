#include "metaserver/service/member_service.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <utility>

#include "metaserver/service/checkpoint_source.h"
#include "metaserver/service/grpc_answer.h"

namespace tarn::meta {
namespace {

constexpr int kCheckpointsSentMax = 2;
constexpr auto kTransferTimeMax = std::chrono::seconds(5);

// One of the few streams at a time.
class Slot {
 public:
  explicit Slot(std::atomic<int>* used) : used_(used), number_(used->fetch_add(1)) {}
  ~Slot() { used_->fetch_sub(1); }
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;
  bool granted() const { return number_ < kCheckpointsSentMax; }

 private:
  std::atomic<int>* const used_;
  const int number_;
};

}  // namespace

grpc::Status MemberServiceImpl::FetchCheckpoint(grpc::ServerContext* /*call*/,
                                                const proto::FetchCheckpointRequest* request,
                                                grpc::ServerWriter<proto::CheckpointPiece>* writer) {
  const Status status = SendCheckpoint(*request, writer);
  if (!status.ok()) spdlog::warn("checkpoint not sent member={} reason=\"{}\"", request->member(), status.message());
  return GrpcAnswer(*context_, status);
}

Status MemberServiceImpl::SendCheckpoint(const proto::FetchCheckpointRequest& request,
                                         grpc::ServerWriter<proto::CheckpointPiece>* writer) {
  // The lease is no condition: any state with enough entries will do, and all of them were committed.
  if (!context_->serving.load(std::memory_order_acquire))
    return Status(StatusCode::kUnavailable, "the metadata server is starting");
  if (request.cluster_id() != context_->self.cluster_id)
    return Status(StatusCode::kInvalidArgument, "a member of another cluster");
  const uint64_t applied = context_->state->applied_entries();
  if (applied < request.at_least_entries()) {
    return Status(StatusCode::kUnavailable, "this member has applied " + std::to_string(applied) + " entries, not " +
                                                std::to_string(request.at_least_entries()));
  }
  const Slot slot(&sending_);
  if (!slot.granted()) return Status(StatusCode::kResourceExhausted, "other checkpoints are being sent");
  ASSIGN_OR_RETURN(const auto source, CheckpointSource::Take(context_->store, applied, checkpoint_directory_));
  spdlog::info("sends a checkpoint member={} applied_entries={} bytes={}", request.member(), applied,
               source->total_bytes());
  proto::CheckpointPiece piece;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, source->Next(&piece));
    if (!more) return Status::Ok();
    if (!writer->Write(piece)) return Status(StatusCode::kCancelled, "the receiver is gone");
  }
}

grpc::Status MemberServiceImpl::JoinGroup(grpc::ServerContext* /*call*/, const proto::JoinGroupRequest* request,
                                          proto::JoinGroupReply* reply) {
  return GrpcAnswer(*context_, Join(*request, reply));
}

Status MemberServiceImpl::Join(const proto::JoinGroupRequest& request, proto::JoinGroupReply* reply) {
  ASSIGN_OR_RETURN(proto::Mutation mutation, requests_.PlanJoin(request));
  ASSIGN_OR_RETURN(const proto::MutationReply applied, context_->SubmitForAnswer(std::move(mutation)));
  requests_.FinishJoin(request, applied, reply);
  return Status::Ok();
}

grpc::Status MemberServiceImpl::ListMembers(grpc::ServerContext* /*call*/, const proto::ListMembersRequest* /*request*/,
                                            proto::ListMembersReply* reply) {
  Status status = context_->CheckLease();
  if (status.ok()) {
    context_->FillMetaservers(reply->mutable_members());
    reply->set_leader(context_->self.member_id);
    reply->set_term(context_->replicator->term());
    status = context_->CheckLease();
  }
  return GrpcAnswer(*context_, status);
}

grpc::Status MemberServiceImpl::RemoveMember(grpc::ServerContext* /*call*/, const proto::RemoveMemberRequest* request,
                                             proto::RemoveMemberReply* /*reply*/) {
  return GrpcAnswer(*context_, Remove(*request));
}

Status MemberServiceImpl::Remove(const proto::RemoveMemberRequest& request) {
  ASSIGN_OR_RETURN(std::optional<proto::Mutation> mutation, requests_.PlanRemoval(request));
  if (!mutation) return Status::Ok();
  RETURN_IF_ERROR(context_->SubmitForAnswer(*std::move(mutation)).status());
  spdlog::info("metadata server is to leave the group member={}", request.member());
  return Status::Ok();
}

grpc::Status MemberServiceImpl::TransferLeadership(grpc::ServerContext* /*call*/,
                                                   const proto::TransferLeadershipRequest* request,
                                                   proto::TransferLeadershipReply* /*reply*/) {
  return GrpcAnswer(*context_, Transfer(request->member()));
}

Status MemberServiceImpl::Transfer(uint64_t member) {
  RETURN_IF_ERROR(requests_.CheckTransfer(member));
  if (member == context_->self.member_id) return Status::Ok();
  const auto done = std::make_shared<std::promise<Status>>();
  std::future<Status> answer = done->get_future();
  context_->replicator->TransferLeadership(member, [done](const Status& status) { done->set_value(status); });
  if (answer.wait_for(kTransferTimeMax) != std::future_status::ready)
    return Status(StatusCode::kTimeout, "leadership was not handed over in time");
  return answer.get();
}

}  // namespace tarn::meta
