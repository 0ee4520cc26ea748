// What operators ask about placement groups, and the way out where the only current copy of one is gone
// (docs/replication.md, "When the only current copy is gone").
//
// Thread-safe; calls block until the log has taken what they change.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/base/status.h"
#include "metaserver/placement/cluster_view.h"
#include "metaserver/service/service_context.h"
#include "proto/admin.pb.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

// "ok", "moving" (complete, and a member more on its way), "degraded" (fewer in-sync members than the goal) or
// "unavailable" (none of them has its lease).
const char* HealthOf(const ClusterView& view, const proto::PlacementGroup& group);
// Members that could go on if an operator gives up what only the in-sync ones have: of an unavailable group the syncing
// ones that answer.
std::vector<uint64_t> Promotable(const ClusterView& view, const proto::PlacementGroup& group);
// Ok: no in-sync member of the group answers, `target` does, and the loss is accepted. kBusy or kInvalidArgument,
// saying why not.
Status CheckPromotion(const ClusterView& view, const proto::PlacementGroup& group, uint64_t target,
                      bool accept_data_loss);

class GroupAdmin {
 public:
  // The context outlives it.
  explicit GroupAdmin(ServiceContext* context) : context_(context) {}

  Status List(const proto::ListGroupsRequest& request, proto::ListGroupsReply* reply) const;
  Status Promote(const proto::PromoteMemberRequest& request, proto::PromoteMemberReply* reply) const;
  // What that sends to the log, without waiting for it; the same refusals. One that was carried out already (by its
  // nonce) goes there again, where it changes nothing. Until the mutation is applied `claim` is to be
  // kept: those whose lease is over do not get it back.
  Result<proto::Mutation> PlanPromotion(const proto::PromoteMemberRequest& request, std::shared_ptr<LapsedTargets>* claim) const;

 private:
  ServiceContext* const context_;
};

}  // namespace tarn::meta
