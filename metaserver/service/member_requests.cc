#include "metaserver/service/member_requests.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <string>

namespace tarn::meta {
namespace {

constexpr int64_t kAnsweringMsMax = 3'000;

}  // namespace

Result<proto::Mutation> MemberRequests::PlanJoin(const proto::JoinGroupRequest& request) const {
  RETURN_IF_ERROR(context_->CheckLease());
  if (!request.cluster_id().empty() && request.cluster_id() != context_->self.cluster_id)
    return Status(StatusCode::kInvalidArgument, "this is another cluster");
  if (context_->state->cluster_map()->metaservers().empty())
    return Status(StatusCode::kUnavailable, "the group is only being made");
  proto::Mutation mutation;
  proto::MetaserverMember* member = mutation.mutable_set_metaservers()->add_members();
  member->set_address(request.address());
  member->set_grpc_address(request.grpc_address());
  member->set_nonce(request.nonce());
  member->set_replaces(request.replaces());
  return mutation;
}

void MemberRequests::FinishJoin(const proto::JoinGroupRequest& request, const proto::MutationReply& applied,
                                proto::JoinGroupReply* reply) const {
  spdlog::info("metadata server joins member={} address={} replaces={}", applied.member(), request.address(),
               request.replaces());
  reply->set_cluster_id(context_->self.cluster_id);
  reply->set_member(applied.member());
  *reply->mutable_members() = context_->state->cluster_map()->metaservers();
}

Result<std::optional<proto::Mutation>> MemberRequests::PlanRemoval(const proto::RemoveMemberRequest& request) const {
  RETURN_IF_ERROR(context_->CheckLease());
  const uint64_t member = request.member();
  const bool in_map = FindMetaserver(*context_->state->cluster_map(), member) != nullptr;
  // Ids are never given twice.
  const bool has_been = member != 0 && member < context_->state->header().next_member();
  if (request.asked_before() && has_been && !in_map) return std::optional<proto::Mutation>();
  ASSIGN_OR_RETURN(const auto progress, context_->replicator->Progress());
  const bool in_log = std::ranges::any_of(progress, [&](const auto& each) { return each.member.member == member; });
  if (!in_log && !in_map) return Status(StatusCode::kNotFound, "there is no metadata server " + std::to_string(member));
  size_t left = 0;
  size_t answering = 0;
  for (const MemberProgress& each : progress) {
    if (each.member.role != MemberRole::kVoter || each.member.member == member) continue;
    ++left;
    if (each.heard_ms_ago >= 0 && each.heard_ms_ago < kAnsweringMsMax) ++answering;
  }
  if (left == 0) return Status(StatusCode::kBusy, "it is the only metadata server that votes");
  if (answering <= left / 2) {
    return Status(StatusCode::kBusy, "of the " + std::to_string(left) + " metadata servers that would be left only " +
                                         std::to_string(answering) + " answer: no majority");
  }
  proto::Mutation mutation;
  mutation.mutable_set_metaservers()->add_removed(member);
  return std::optional<proto::Mutation>(std::move(mutation));
}

Status MemberRequests::CheckTransfer(uint64_t member) const {
  RETURN_IF_ERROR(context_->CheckLease());
  if (member == 0 || member == context_->self.member_id) return Status::Ok();
  const auto members = context_->replicator->members();
  const auto found = std::ranges::find(members, member, &GroupMember::member);
  if (found == members.end()) return Status(StatusCode::kNotFound, "there is no metadata server " + std::to_string(member));
  if (found->role != MemberRole::kVoter)
    return Status(StatusCode::kBusy, "metadata server " + std::to_string(member) + " has no vote yet");
  return Status::Ok();
}

}  // namespace tarn::meta
