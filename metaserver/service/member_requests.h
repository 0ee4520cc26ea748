// What of a request about the members of the metadata group is decided before and after the log, apart from waiting for it.
#pragma once

#include <cstdint>
#include <optional>

#include "common/base/status.h"
#include "metaserver/service/service_context.h"
#include "proto/member.pb.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

// Thread-safe; blocks never.
class MemberRequests {
 public:
  // The context outlives it.
  explicit MemberRequests(ServiceContext* context) : context_(context) {}

  // A new member, or a repeat of its wish, which its nonce tells.
  Result<proto::Mutation> PlanJoin(const proto::JoinGroupRequest& request) const;
  // Behind it.
  void FinishJoin(const proto::JoinGroupRequest& request, const proto::MutationReply& applied, proto::JoinGroupReply* reply) const;

  // nullopt: it is gone, and that was asked for. kNotFound; kBusy: a group that would be left without a majority that
  // answers could not even carry the removal out.
  Result<std::optional<proto::Mutation>> PlanRemoval(const proto::RemoveMemberRequest& request) const;

  // Ok: the replicator may hand over to `member` (0: whichever is most up to date), unless it is this one.
  Status CheckTransfer(uint64_t member) const;

 private:
  ServiceContext* const context_;
};

}  // namespace tarn::meta
