// The operator's last way out of a group whose in-sync members are all gone: an older copy becomes the only one
// (docs/replication.md, "When the only current copy is gone").
//
// What only the others had is given up; they come back as syncing and take over what the promoted one has. The
// service has looked whether it is needed. kInvalidArgument: no such group or epoch, or not a syncing member of it. A
// repeat, told by its nonce, is done and changes nothing.
#include <algorithm>
#include <string>

#include "metaserver/state/group_members.h"
#include "metaserver/state/limits.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status PromoteMember(CommandContext* context, const proto::PromoteMemberOp& op, proto::MutationReply* /*reply*/) {
  for (const proto::ForcedPromotion& before : context->header().forced_promotions()) {
    if (op.nonce() != 0 && before.nonce() == op.nonce()) return Status::Ok();
  }
  proto::ClusterMap map = context->map();
  proto::PlacementGroup* group = FindGroup(&map, op.group());
  const auto refuse = [](const std::string& text) { return Status(StatusCode::kInvalidArgument, text); };
  if (group == nullptr) return refuse("placement group " + std::to_string(op.group()) + " does not exist");
  if (group->epoch() != op.expected_epoch()) return refuse("the members of the group have just changed");
  const auto is_syncing = std::ranges::find(group->syncing_targets(), op.target()) != group->syncing_targets().end();
  const proto::Target* target = FindTarget(map, op.target());
  if (!is_syncing || target == nullptr || target->state() == proto::TARGET_STATE_RETIRED)
    return refuse("target " + std::to_string(op.target()) + " has no copy of the group that could go on");
  google::protobuf::RepeatedField<uint64_t> syncing;
  for (const auto* list : {&group->targets(), &group->syncing_targets()}) {
    for (const uint64_t each : *list) {
      const proto::Target* other = FindTarget(map, each);
      if (each != op.target() && other != nullptr && other->state() != proto::TARGET_STATE_RETIRED) syncing.Add(each);
    }
  }
  group->clear_targets();
  group->add_targets(op.target());
  *group->mutable_syncing_targets() = std::move(syncing);
  group->set_epoch(group->epoch() + 1);
  NoteLoss(group, target->incarnation());
  proto::ForcedPromotion promotion;
  promotion.set_group(group->id());
  promotion.set_epoch(group->epoch());
  promotion.set_target(op.target());
  promotion.set_at_ns(context->now_ns());
  promotion.set_nonce(op.nonce());
  auto* kept = context->header().mutable_forced_promotions();
  *kept->Add() = std::move(promotion);
  if (kept->size() > kForcedPromotionsKept) kept->erase(kept->begin());
  context->ReplaceMap(std::move(map));
  return Status::Ok();
}

}  // namespace tarn::meta::ops
