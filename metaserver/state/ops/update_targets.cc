// The leader changes what the map says of targets: state and address, where given; usage is not replicated.
//
// An update that names an incarnation other than the target's present one is about an earlier life of its server and is
// passed over: only registration changes incarnations. kNotFound: no such target. A map that would stay as it is keeps
// its version.
#include <algorithm>

#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

bool Update(const proto::Target& update, proto::Target* target) {
  if (update.incarnation() != 0 && update.incarnation() != target->incarnation()) return false;
  bool changed = false;
  if (update.state() != proto::TARGET_STATE_UNSPECIFIED && update.state() != target->state()) {
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
  if (changed) context->ReplaceMap(std::move(map));
  return Status::Ok();
}

}  // namespace tarn::meta::ops
