// Sessions whose writes chunk servers refuse from the map version on that this makes, and those that need no fence any
// more (docs/replication.md "Fences").
//
// A repeat keeps the first fence, and the map as it is. kResourceExhausted: too many sessions are fenced.
#include <algorithm>
#include <string>

#include "metaserver/state/limits.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status FenceSessions(CommandContext* context, const proto::FenceSessionsOp& op, proto::MutationReply* /*reply*/) {
  proto::ClusterMap map = context->map();
  auto* sessions = map.mutable_fenced_sessions();
  const auto find = [&](uint64_t session) { return std::ranges::find(*sessions, session, &proto::FencedSession::session); };
  bool changed = false;
  for (const uint64_t session : op.released()) {
    const auto found = find(session);
    if (found == sessions->end()) continue;
    sessions->erase(found);
    changed = true;
  }
  for (const uint64_t session : op.fenced()) {
    if (find(session) != sessions->end()) continue;
    proto::FencedSession* fence = map.add_fenced_sessions();
    fence->set_session(session);
    fence->set_fence_epoch(map.version() + 1);  // what ReplaceMap makes it
    changed = true;
  }
  if (sessions->size() > static_cast<int>(kFencedSessionsMax)) {
    return Status(StatusCode::kResourceExhausted,
                  "the cluster map has room for " + std::to_string(kFencedSessionsMax) + " fenced sessions");
  }
  if (changed) context->ReplaceMap(std::move(map));
  return Status::Ok();
}

}  // namespace tarn::meta::ops
