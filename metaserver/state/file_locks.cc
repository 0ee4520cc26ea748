#include "metaserver/state/file_locks.h"

#include <algorithm>
#include <set>
#include <utility>

#include "metaserver/state/limits.h"
#include "metaserver/state/records.h"

namespace tarn::meta {
namespace {

uint8_t KeyOf(proto::LockSpace space) { return static_cast<uint8_t>(space); }

Result<LockTable> ReadTable(const KvView& view, InodeId inode, proto::LockSpace space) {
  ASSIGN_OR_RETURN(const auto record, view.Get(FileLocksKey(inode, KeyOf(space))));
  if (!record) return LockTable();
  return LockTable::Decode(*record);
}

std::set<SessionId> SessionsOf(const LockTable& table) {
  std::set<SessionId> sessions;
  for (const LockRequest& lock : table.held()) sessions.insert(lock.owner.session);
  for (const LockWait& wait : table.waiting()) sessions.insert(wait.request.owner.session);
  return sessions;
}

Result<uint64_t> ReadCount(const KvView& view, SessionId session) {
  ASSIGN_OR_RETURN(const auto value, view.Get(SessionLockCountKey(session)));
  if (!value) return uint64_t{0};
  const auto count = DecodeU64(*value);
  if (!count) return Status(StatusCode::kCorruption, "the count of a session's locks is damaged");
  return *count;
}

Result<proto::LockWaitRecord> ParseWait(std::string_view value) {
  proto::LockWaitRecord record;
  if (!record.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
    return Status(StatusCode::kCorruption, "the record of a wait for a lock cannot be parsed");
  }
  return record;
}

// What the owner waits for in the POSIX space.
Result<std::vector<LockRequest>> WaitsOf(const KvView& view, const LockOwner& owner) {
  std::vector<std::pair<InodeId, Sequence>> waits;
  Status parsed;
  RETURN_IF_ERROR(view.Scan(LockWaitPrefix(owner.session), {}, [&](std::string_view key, std::string_view value) {
    const Result<proto::LockWaitRecord> record = ParseWait(value);
    parsed = record.status();
    if (!record.ok()) return false;
    if (record->owner() == owner.number && record->space() == proto::LOCK_SPACE_POSIX) {
      waits.emplace_back(InodeId(record->inode()), Sequence(ParseTrailingId(key).value_or(0)));
    }
    return true;
  }));
  RETURN_IF_ERROR(parsed);
  std::vector<LockRequest> blockers;
  for (const auto& [inode, sequence] : waits) {
    ASSIGN_OR_RETURN(const LockTable table, ReadTable(view, inode, proto::LOCK_SPACE_POSIX));
    for (const LockWait& wait : table.waiting()) {
      if (wait.sequence != sequence || wait.request.owner != owner) continue;
      const std::vector<LockRequest> conflicts = table.Conflicts(wait.request);
      blockers.insert(blockers.end(), conflicts.begin(), conflicts.end());
    }
  }
  return blockers;
}

}  // namespace

FileLocks::FileLocks(CommandContext* context, InodeId inode, proto::LockSpace space, LockTable table)
    : context_(context), inode_(inode), space_(space), before_(table), table_(std::move(table)) {}

Result<FileLocks> FileLocks::Load(CommandContext* context, InodeId inode, proto::LockSpace space) {
  ASSIGN_OR_RETURN(LockTable table, ReadTable(context->view(), inode, space));
  return FileLocks(context, inode, space, std::move(table));
}

Status FileLocks::Save() {
  for (const LockWait& granted : table_.GrantWaiting()) {
    context_->NoteLockGranted(granted.request.owner.session, granted.sequence);
  }
  if (table_.size() > kFileLocksMax && table_.size() > before_.size()) {
    return Status(StatusCode::kNoLocks, "a file has at most " + std::to_string(kFileLocksMax) + " locks");
  }
  Transaction& transaction = context_->transaction();
  for (const LockWait& wait : before_.waiting()) {
    const bool still_waits = std::ranges::find(table_.waiting(), wait) != table_.waiting().end();
    if (!still_waits) transaction.Delete(LockWaitKey(wait.request.owner.session, wait.sequence));
  }
  for (const LockWait& wait : table_.waiting()) {
    if (std::ranges::find(before_.waiting(), wait) != before_.waiting().end()) continue;
    proto::LockWaitRecord record;
    record.set_inode(inode_.value());
    record.set_space(space_);
    record.set_owner(wait.request.owner.number);
    transaction.Put(LockWaitKey(wait.request.owner.session, wait.sequence), meta::Encode(record));
  }
  const std::set<SessionId> before = SessionsOf(before_);
  const std::set<SessionId> after = SessionsOf(table_);
  for (const SessionId session : before) {
    if (!after.contains(session)) RETURN_IF_ERROR(CountSession(session, false));
  }
  for (const SessionId session : after) {
    if (!before.contains(session)) RETURN_IF_ERROR(CountSession(session, true));
  }
  std::string key = FileLocksKey(inode_, KeyOf(space_));
  if (table_.empty()) {
    transaction.Delete(std::move(key));
  } else {
    transaction.Put(std::move(key), table_.Encode());
  }
  return Status::Ok();
}

Status FileLocks::CountSession(SessionId session, bool has_any) {
  ASSIGN_OR_RETURN(uint64_t count, ReadCount(context_->view(), session));
  if (has_any && count >= kSessionLockedMax) {
    return Status(StatusCode::kNoLocks,
                  "a session has locks on at most " + std::to_string(kSessionLockedMax) + " files");
  }
  count = has_any ? count + 1 : count - std::min<uint64_t>(count, 1);
  Transaction& transaction = context_->transaction();
  std::string key = SessionLockKey(session, inode_, KeyOf(space_));
  if (has_any) {
    transaction.Put(std::move(key), {});
  } else {
    transaction.Delete(std::move(key));
  }
  if (count != 0) {
    transaction.Put(SessionLockCountKey(session), EncodeU64(count));
  } else {
    transaction.Delete(SessionLockCountKey(session));
  }
  return Status::Ok();
}

Status ReleaseLocksOfSession(CommandContext* context, SessionId session) {
  std::vector<SessionLockKeyParts> locked;
  RETURN_IF_ERROR(context->view().Scan(SessionLockPrefix(session), {}, [&](std::string_view key, std::string_view) {
    if (const auto parts = ParseSessionLockKey(key)) locked.push_back(*parts);
    return true;
  }));
  for (const SessionLockKeyParts& each : locked) {
    ASSIGN_OR_RETURN(FileLocks locks,
                     FileLocks::Load(context, each.inode, static_cast<proto::LockSpace>(each.space)));
    locks.table().RemoveSession(session);
    RETURN_IF_ERROR(locks.Save());
  }
  return Status::Ok();
}

Result<bool> WouldDeadlock(const KvView& view, const LockOwner& owner, const std::vector<LockRequest>& conflicts) {
  std::set<LockOwner> seen;
  std::vector<LockOwner> to_visit;
  const auto add = [&](const std::vector<LockRequest>& blockers) {
    for (const LockRequest& blocker : blockers) {
      if (seen.size() < kDeadlockOwnersMax && seen.insert(blocker.owner).second) to_visit.push_back(blocker.owner);
    }
  };
  add(conflicts);
  while (!to_visit.empty()) {
    const LockOwner next = to_visit.back();
    to_visit.pop_back();
    if (next == owner) return true;
    ASSIGN_OR_RETURN(const std::vector<LockRequest> blockers, WaitsOf(view, next));
    add(blockers);
  }
  return false;
}

Result<LockRequest> ParseLock(const proto::FileLock& lock, SessionId session, proto::LockSpace space) {
  const bool whole = lock.first() == 0 && lock.last() == kLockLastMax;
  if (lock.first() > lock.last() || lock.last() > kLockLastMax) {
    return Status(StatusCode::kInvalidArgument, "a lock has a range of bytes below 2^63");
  }
  if (space != proto::LOCK_SPACE_POSIX && (space != proto::LOCK_SPACE_FLOCK || !whole)) {
    return Status(StatusCode::kInvalidArgument, "a lock on ranges of bytes is a POSIX lock");
  }
  return LockRequest{.owner = {session, lock.owner()},
                     .pid = lock.pid(),
                     .exclusive = lock.exclusive(),
                     .first = lock.first(),
                     .last = lock.last()};
}

Status TestFileLock(const KvStore& store, const proto::TestLockRequest& request, proto::TestLockReply* reply) {
  ASSIGN_OR_RETURN(const LockRequest wanted,
                   ParseLock(request.lock(), SessionId(request.lock().session()), request.space()));
  ASSIGN_OR_RETURN(const LockTable table, ReadTable(LatestView(&store), InodeId(request.inode()), request.space()));
  const std::vector<LockRequest> conflicts = table.Conflicts(wanted);
  if (conflicts.empty()) return Status::Ok();
  // The lowest one, as fcntl(2) has it by tradition.
  const LockRequest& conflict = *std::ranges::min_element(conflicts, {}, &LockRequest::first);
  proto::FileLock* lock = reply->mutable_lock();
  lock->set_session(conflict.owner.session.value());
  lock->set_owner(conflict.owner.number);
  lock->set_pid(conflict.pid);
  lock->set_exclusive(conflict.exclusive);
  lock->set_first(conflict.first);
  lock->set_last(conflict.last);
  return Status::Ok();
}

Status ListLockWaits(const KvStore& store, const proto::LockWaitsRequest& request, proto::LockWaitsReply* reply) {
  for (const uint64_t wait : request.waits()) {
    ASSIGN_OR_RETURN(const auto record, store.Get(LockWaitKey(SessionId(request.session()), Sequence(wait))));
    if (record) reply->add_waiting(wait);
  }
  return Status::Ok();
}

Result<bool> SessionHasLocks(const KvStore& store, SessionId session) {
  ASSIGN_OR_RETURN(const auto count, store.Get(SessionLockCountKey(session)));
  return count.has_value();
}

}  // namespace tarn::meta
