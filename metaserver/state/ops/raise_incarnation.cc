// After a restore from backup: whatever was given out between the backup and the loss is never given out again.
//
// Inode and data ids get the incarnation into their number. Ids of sessions, servers, targets, groups, group sets and
// volumes, group epochs and the map's version jump ahead: further than anything can have come since the backup was
// made. Sessions end: their clients open new ones. Dead data is kept until the operator says otherwise (SetReclaim),
// since what the state does not know may have been written after the backup. kInvalidArgument: not a higher
// incarnation, or above what ids have room for.
#include <string>
#include <vector>

#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

constexpr uint32_t kIncarnationMax = 255;
constexpr uint64_t kJump = uint64_t{1} << 32;  // of 64-bit ids
constexpr uint32_t kSmallJump = 1 << 20;       // of 32-bit ids

Result<std::vector<SessionId>> AllSessions(const CommandContext& context) {
  std::vector<SessionId> sessions;
  RETURN_IF_ERROR(context.view().Scan(KindPrefix(KeyKind::kSession), {}, [&](std::string_view key, std::string_view) {
    sessions.emplace_back(ParseTrailingId(key).value_or(0));
    return true;
  }));
  return sessions;
}

Status EndSessions(CommandContext* context) {
  ASSIGN_OR_RETURN(const std::vector<SessionId> sessions, AllSessions(*context));
  for (const SessionId session : sessions) {
    proto::CloseSessionOp close;
    close.set_session(session.value());
    close.set_expired(true);
    proto::MutationReply ignored;
    RETURN_IF_ERROR(CloseSession(context, close, &ignored));
  }
  return Status::Ok();
}

}  // namespace

Status RaiseIncarnation(CommandContext* context, const proto::RaiseIncarnationOp& op, proto::MutationReply* /*reply*/) {
  if (op.incarnation() <= context->header().incarnation() || op.incarnation() > kIncarnationMax) {
    return Status(StatusCode::kInvalidArgument, "incarnation " + std::to_string(op.incarnation()) +
                                                    " does not follow " +
                                                    std::to_string(context->header().incarnation()) + ", or is above " +
                                                    std::to_string(kIncarnationMax));
  }
  RETURN_IF_ERROR(EndSessions(context));
  proto::StateHeader& header = context->header();
  auto* earlier = header.add_earlier_incarnations();
  earlier->set_incarnation(header.incarnation());
  earlier->set_next_data_id(header.next_data_id());
  header.set_incarnation(op.incarnation());
  header.set_reclaim_disabled(true);
  header.set_next_session(header.next_session() + kJump);
  header.set_next_server(header.next_server() + kJump);
  header.set_next_target(header.next_target() + kJump);
  header.set_next_group(header.next_group() + kSmallJump);
  header.set_next_group_set(header.next_group_set() + kSmallJump);
  header.set_next_volume(header.next_volume() + kSmallJump);
  proto::ClusterMap map = context->map();
  map.clear_metaservers();  // the new group is another
  map.set_incarnation(op.incarnation());
  map.set_version(map.version() + kJump);
  for (proto::PlacementGroup& group : *map.mutable_groups()) group.set_epoch(group.epoch() + kJump);
  context->ReplaceMap(std::move(map));
  return Status::Ok();
}

}  // namespace tarn::meta::ops
