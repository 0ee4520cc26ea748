// Ends a session: its locks are released, its unlinked files that it held open go, its remembered results are forgotten.
//
// A client closes its own session only; the leader closes those that expired. kUnknownSession: it is not open (any
// more); kInvalidArgument: another client's.
#include <string>
#include <vector>

#include "metaserver/state/file_locks.h"
#include "metaserver/state/inode_lifecycle.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

Result<std::vector<std::string>> KeysWith(const CommandContext& context, const std::string& prefix) {
  std::vector<std::string> keys;
  RETURN_IF_ERROR(context.view().Scan(prefix, {}, [&](std::string_view key, std::string_view) {
    keys.emplace_back(key);
    return true;
  }));
  return keys;
}

Status ReleaseOrphans(CommandContext* context, SessionId session) {
  ASSIGN_OR_RETURN(std::vector<std::string> keys, KeysWith(*context, OrphanPrefix(session)));
  for (const std::string& key : keys) {
    RETURN_IF_ERROR(RemoveOrphanHolder(context, session, InodeId(ParseTrailingId(key).value_or(0))));
  }
  return Status::Ok();
}

}  // namespace

Status CloseSession(CommandContext* context, const proto::CloseSessionOp& op, proto::MutationReply* reply) {
  const SessionId session = op.session() != 0 ? SessionId(op.session()) : context->session();
  if (context->session().valid() && session != context->session()) {
    return Status(StatusCode::kInvalidArgument, "a session can be closed by itself only");
  }
  ASSIGN_OR_RETURN(const auto record, ReadSession(context->view(), session));
  if (!record) {
    return Status(StatusCode::kUnknownSession, "session " + std::to_string(session.value()) + " is not open");
  }
  RETURN_IF_ERROR(ReleaseLocksOfSession(context, session));
  RETURN_IF_ERROR(ReleaseOrphans(context, session));
  ASSIGN_OR_RETURN(std::vector<std::string> results, KeysWith(*context, SessionResultPrefix(session)));
  for (std::string& key : results) context->transaction().Delete(std::move(key));
  context->transaction().Delete(SessionNonceKey(record->nonce()));
  context->transaction().Delete(SessionKey(session));
  reply->set_session(session.value());
  return Status::Ok();
}

}  // namespace tarn::meta::ops
