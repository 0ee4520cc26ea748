// The leader changes what the map says of targets: state and address, where given; usage is not replicated.
//
// An update that names an incarnation other than the target's present one is about an earlier life of its server and is
// passed over: only registration changes incarnations. It is what the leader has observed, and may come after an operator's word: whether a target
// answers does not end a drain, and nothing ends a retirement. Elastic targets that are offline can be forgotten. kNotFound: no such target. A map that would stay as it is keeps
// its version.
#include <algorithm>
#include <set>

#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

bool SaysWhetherItAnswers(proto::TargetState state) { return state == proto::TARGET_STATE_ONLINE || state == proto::TARGET_STATE_OFFLINE; }

bool MayBecome(const proto::Target& update, const proto::Target& target) {
  if (target.state() == proto::TARGET_STATE_RETIRED) return false;
  const bool is_observed = update.incarnation() != 0;
  return !is_observed || !SaysWhetherItAnswers(update.state()) || SaysWhetherItAnswers(target.state());
}

bool Update(const proto::Target& update, proto::Target* target) {
  if (update.incarnation() != 0 && update.incarnation() != target->incarnation()) return false;
  bool changed = false;
  if (update.state() != proto::TARGET_STATE_UNSPECIFIED && update.state() != target->state() && MayBecome(update, *target)) {
    target->set_state(update.state());
    changed = true;
  }
  if (!update.address().empty() && update.address() != target->address()) {
    target->set_address(update.address());
    changed = true;
  }
  return changed;
}

}  // namespace

Status UpdateTargets(CommandContext* context, const proto::UpdateTargetsOp& op, proto::MutationReply* /*reply*/) {
  proto::ClusterMap map = context->map();
  bool changed = false;
  for (const proto::Target& update : op.targets()) {
    auto* targets = map.mutable_targets();
    const auto target = std::find_if(targets->begin(), targets->end(),
                                     [&](const proto::Target& each) { return each.id() == update.id(); });
    if (target == targets->end()) {
      return Status(StatusCode::kNotFound, "target " + std::to_string(update.id()) + " does not exist");
    }
    changed = Update(update, &*target) || changed;
  }
  const std::set<uint64_t> forgotten(op.forgotten().begin(), op.forgotten().end());
  if (!forgotten.empty()) {
    auto* targets = map.mutable_targets();
    // One that has come back meanwhile stays.
    const auto gone = std::remove_if(targets->begin(), targets->end(), [&](const proto::Target& each) {
      return forgotten.contains(each.id()) && each.target_class() == proto::TARGET_CLASS_ELASTIC &&
             each.state() == proto::TARGET_STATE_OFFLINE;
    });
    changed = changed || gone != targets->end();
    targets->erase(gone, targets->end());
  }
  if (changed) context->ReplaceMap(std::move(map));
  return Status::Ok();
}

}  // namespace tarn::meta::ops
