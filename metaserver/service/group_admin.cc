#include "metaserver/service/group_admin.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "metaserver/state/group_members.h"

namespace tarn::meta {
namespace {

std::string NamesOf(const ClusterView& view, const google::protobuf::RepeatedField<uint64_t>& targets) {
  std::string text;
  for (const uint64_t target : targets)
    text += (text.empty() ? "" : ", ") + std::to_string(target) + " (node " + view.Node(target) + ")";
  return text;
}

}  // namespace

const char* HealthOf(const ClusterView& view, const proto::PlacementGroup& group) {
  const auto answering = std::ranges::count_if(group.targets(), [&](uint64_t target) { return view.HasLease(target); });
  if (answering == 0) return "unavailable";
  if (answering < static_cast<int64_t>(std::max<uint32_t>(group.replicas(), 1))) return "degraded";
  return group.syncing_targets().empty() ? "ok" : "moving";
}

std::vector<uint64_t> Promotable(const ClusterView& view, const proto::PlacementGroup& group) {
  std::vector<uint64_t> promotable;
  if (std::ranges::any_of(group.targets(), [&](uint64_t target) { return view.HasLease(target); })) return promotable;
  std::ranges::copy_if(group.syncing_targets(), std::back_inserter(promotable), [&](uint64_t target) {
    return view.HasLease(target) && !view.IsFailed(target) && !view.IsRetired(target);
  });
  return promotable;
}

Status CheckPromotion(const ClusterView& view, const proto::PlacementGroup& group, uint64_t target,
                      bool accept_data_loss) {
  const std::string name = "placement group " + std::to_string(group.id());
  for (const uint64_t member : group.targets()) {
    if (view.HasLease(member))
      return Status(StatusCode::kBusy, name + " has a current copy on target " + std::to_string(member) + ", which answers: nothing is to be promoted");
    // A new leader gives everybody a lease to be heard of.
    if (!view.LeaseOver(member) && !view.IsRetired(member))
      return Status(StatusCode::kBusy, "it is not known yet whether target " + std::to_string(member) + ", which has a current copy of " + name + ", answers");
  }
  const std::vector<uint64_t> promotable = Promotable(view, group);
  if (std::ranges::find(promotable, target) == promotable.end()) {
    return Status(StatusCode::kInvalidArgument, "target " + std::to_string(target) + " has no older copy of " + name +
                                                    " that could go on, or does not answer (`tarn group list --unhealthy`)");
  }
  if (accept_data_loss) return Status::Ok();
  return Status(StatusCode::kBusy, "what was written to " + name + " since target " + std::to_string(target) +
                                       " fell behind is only on target(s) " + NamesOf(view, group.targets()) +
                                       ": start their chunk server again if that is possible; --accept-data-loss gives it up for good");
}

Status GroupAdmin::List(const proto::ListGroupsRequest& request, proto::ListGroupsReply* reply) const {
  RETURN_IF_ERROR(context_->CheckLease());
  const proto::ClusterMap map = context_->LiveMap();
  ASSIGN_OR_RETURN(const proto::ClusterMap used, context_->MapOfUsedGroups());
  std::set<uint32_t> used_groups;
  for (const proto::PlacementGroup& group : used.groups()) used_groups.insert(group.id());
  ReplicationFacts facts;
  facts.targets = context_->servers->Facts();
  const auto bytes = context_->servers->GroupBytes();
  const ClusterView view(map, facts);
  for (const proto::PlacementGroup& group : map.groups()) {
    const std::string health = HealthOf(view, group);
    const bool healthy = health == "ok" || health == "moving";
    if (request.unhealthy_only() && (healthy || !used_groups.contains(group.id()))) continue;
    proto::GroupInfo* info = reply->add_groups();
    *info->mutable_group() = group;
    info->set_health(health);
    info->set_used(used_groups.contains(group.id()));
    if (const auto measured = bytes.find(group.id()); measured != bytes.end()) info->set_bytes(measured->second);
    for (const uint64_t target : Promotable(view, group)) info->add_promotable(target);
  }
  return context_->CheckLease();
}

Result<proto::Mutation> GroupAdmin::PlanPromotion(const proto::PromoteMemberRequest& request,
                                                  std::shared_ptr<LapsedTargets>* claim) const {
  const auto map = context_->state->cluster_map();
  const proto::PlacementGroup* group = FindGroup(*map, request.group());
  if (group == nullptr)
    return Status(StatusCode::kInvalidArgument, "there is no placement group " + std::to_string(request.group()));
  proto::Mutation mutation;
  proto::PromoteMemberOp* op = mutation.mutable_promote_member();
  op->set_group(group->id());
  op->set_expected_epoch(group->epoch());
  op->set_target(request.target());
  op->set_nonce(request.nonce());
  const proto::StateHeader header = context_->state->header();
  const auto repeats = [&](const proto::ForcedPromotion& before) { return request.nonce() != 0 && before.nonce() == request.nonce(); };
  if (std::ranges::any_of(header.forced_promotions(), repeats)) return mutation;
  ReplicationFacts facts;
  facts.targets = context_->servers->Facts(claim);
  const ClusterView view(*map, facts);
  RETURN_IF_ERROR(CheckPromotion(view, *group, request.target(), request.accept_data_loss()));
  spdlog::error("an older copy is promoted on an operator's word: what only others had is given up group={} epoch={} target={} given_up={}",
                group->id(), group->epoch(), request.target(), NamesOf(view, group->targets()));
  return mutation;
}

Status GroupAdmin::Promote(const proto::PromoteMemberRequest& request, proto::PromoteMemberReply* reply) const {
  RETURN_IF_ERROR(context_->CheckLease());
  std::shared_ptr<LapsedTargets> claim;
  ASSIGN_OR_RETURN(proto::Mutation mutation, PlanPromotion(request, &claim));
  RETURN_IF_ERROR(context_->SubmitForAnswer(std::move(mutation)).status());
  const auto after = context_->state->cluster_map();
  if (const proto::PlacementGroup* promoted = FindGroup(*after, request.group())) {
    *reply->mutable_group()->mutable_group() = *promoted;
    ReplicationFacts facts;
    facts.targets = context_->servers->Facts();
    const ClusterView now(*after, facts);
    reply->mutable_group()->set_health(HealthOf(now, *promoted));
  }
  return Status::Ok();
}

}  // namespace tarn::meta
