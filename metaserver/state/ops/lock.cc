// Takes, changes or removes an advisory lock of the session: fcntl(F_SETLK, F_SETLKW), flock.
//
// As in Linux: a POSIX lock replaces what its owner had in the range, keeps it while it waits, and unlocking never
// waits; a flock that changes its kind gives up the old lock first, also if it then has to wait or fails. A lock is
// granted whenever it has no conflict with one that is held: nobody queues behind those who wait.
// kStaleHandle: no such inode; kDeadlock: it would wait for an owner that waits for it; kNoLocks: beyond a bound;
// kInvalidArgument: no such range.
#include "metaserver/state/file_locks.h"
#include "metaserver/state/limits.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

Status CheckWaits(const CommandContext& context) {
  size_t waits = 0;
  RETURN_IF_ERROR(context.view().Scan(LockWaitPrefix(context.session()), {}, [&](std::string_view, std::string_view) {
    return ++waits < kSessionLockWaitsMax;
  }));
  if (waits < kSessionLockWaitsMax) return Status::Ok();
  return Status(StatusCode::kNoLocks,
                "a session waits for at most " + std::to_string(kSessionLockWaitsMax) + " locks");
}

void Unlock(const LockRequest& request, FileLocks* locks) {
  locks->table().Clear(request.owner, request.first, request.last);
}

Result<proto::LockResult::Outcome> TakeOrWait(CommandContext* context, const proto::LockOp& op,
                                              const LockRequest& request, FileLocks* locks) {
  const std::vector<LockRequest> conflicts = locks->table().Conflicts(request);
  if (conflicts.empty()) {
    locks->table().Set(request);
    return proto::LockResult::OUTCOME_GRANTED;
  }
  const bool is_flock = op.space() == proto::LOCK_SPACE_FLOCK;
  if (is_flock) Unlock(request, locks);
  if (!op.wait()) return proto::LockResult::OUTCOME_DENIED;
  RETURN_IF_ERROR(CheckWaits(*context));
  if (!is_flock) {
    ASSIGN_OR_RETURN(const bool deadlock, WouldDeadlock(context->view(), request.owner, conflicts));
    if (deadlock) return Status(StatusCode::kDeadlock, "who has the lock waits for this one");
  }
  locks->table().AddWait({context->sequence(), request});
  return proto::LockResult::OUTCOME_WAITING;
}

}  // namespace

Status Lock(CommandContext* context, const proto::LockOp& op, proto::MutationReply* reply) {
  if (!context->session().valid()) return Status(StatusCode::kInvalidArgument, "a lock belongs to a session");
  ASSIGN_OR_RETURN(const LockRequest request, ParseLock(op.lock(), context->session(), op.space()));
  ASSIGN_OR_RETURN(FileLocks locks, FileLocks::Load(context, InodeId(op.inode()), op.space()));
  proto::LockResult* result = reply->mutable_lock();
  if (op.unlock()) {
    Unlock(request, &locks);
    result->set_outcome(proto::LockResult::OUTCOME_GRANTED);
  } else {
    ASSIGN_OR_RETURN(const auto inode, context->Inode(InodeId(op.inode())));
    (void)inode;
    ASSIGN_OR_RETURN(const auto outcome, TakeOrWait(context, op, request, &locks));
    result->set_outcome(outcome);
  }
  RETURN_IF_ERROR(locks.Save());
  result->set_session(context->session().value());
  result->set_wait(context->sequence().value());
  result->set_owner_is_done(!locks.table().Holds(request.owner) && !locks.table().Waits(request.owner));
  return Status::Ok();
}

}  // namespace tarn::meta::ops
