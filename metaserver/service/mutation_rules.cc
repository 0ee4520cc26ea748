#include "metaserver/service/mutation_rules.h"

#include <string>

namespace tarn::meta {
namespace {

Status Refuse(std::string text) { return Status(StatusCode::kInvalidArgument, std::move(text)); }

}  // namespace

Status CheckClientMutation(const proto::Mutation& mutation) {
  switch (mutation.op_case()) {
    case proto::Mutation::OP_NOT_SET:
      return Refuse("a mutation without an operation that this server knows");
    case proto::Mutation::kInitCluster:
    case proto::Mutation::kRegisterServer:
    case proto::Mutation::kSetMetaservers:
    case proto::Mutation::kUpdateTargets:
    case proto::Mutation::kAddGroups:
    case proto::Mutation::kDataReclaimed:
    case proto::Mutation::kPurge:
    case proto::Mutation::kSettleOrphan:
    case proto::Mutation::kPropagateCounters:
    case proto::Mutation::kRaiseIncarnation:
    case proto::Mutation::kRepair:
    case proto::Mutation::kSetReclaim:
    case proto::Mutation::kChangeGroups:
    case proto::Mutation::kFenceSessions:
    case proto::Mutation::kNoteUnknownData:
    case proto::Mutation::kReclaimUnknownData:
    case proto::Mutation::kCloseReservations:
    case proto::Mutation::kPromoteMember:
    case proto::Mutation::kMarkWriting:
      return Refuse("an operation that clients do not send");
    case proto::Mutation::kOpenSession:
      if (mutation.session() != 0 || mutation.sequence() != 0) return Refuse("a session is opened without a session");
      return Status::Ok();
    case proto::Mutation::kCloseSession:
      if (mutation.close_session().expired()) return Refuse("a session's lease ends without its client");
      break;
    default:
      break;
  }
  if (mutation.session() == 0) return Refuse("a mutation without a session");
  if (mutation.sequence() == 0) return Refuse("a mutation without a sequence number");
  return Status::Ok();
}

}  // namespace tarn::meta
