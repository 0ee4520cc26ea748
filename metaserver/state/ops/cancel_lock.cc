// Ends a wait for a lock, because whoever waited was interrupted. Says whether the lock was granted before.
#include "metaserver/state/file_locks.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {

Status CancelLock(CommandContext* context, const proto::CancelLockOp& op, proto::MutationReply* reply) {
  const Sequence wait(op.wait());
  proto::LockResult* result = reply->mutable_lock();
  result->set_session(context->session().value());
  result->set_wait(op.wait());
  ASSIGN_OR_RETURN(const auto value, context->view().Get(LockWaitKey(context->session(), wait)));
  if (!value) {
    result->set_outcome(proto::LockResult::OUTCOME_GRANTED);
    return Status::Ok();
  }
  proto::LockWaitRecord record;
  if (!record.ParseFromString(*value)) {
    return Status(StatusCode::kCorruption, "the record of a wait for a lock cannot be parsed");
  }
  ASSIGN_OR_RETURN(FileLocks locks, FileLocks::Load(context, InodeId(record.inode()), record.space()));
  locks.table().RemoveWait(context->session(), wait);
  RETURN_IF_ERROR(locks.Save());
  result->set_outcome(proto::LockResult::OUTCOME_DENIED);
  const LockOwner owner{context->session(), record.owner()};
  result->set_owner_is_done(!locks.table().Holds(owner) && !locks.table().Waits(owner));
  return Status::Ok();
}

}  // namespace tarn::meta::ops
