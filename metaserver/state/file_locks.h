// Where the locks of files lie in the state (docs/locks.md): one record for each file and space, an index by session, so
// that the end of a session releases them, and one record for each wait, so that waits are found by who waits.
//
// One thread, that of the commands, but for the reads at the end. Errors are the storage's unless said otherwise.
#pragma once

#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "metaserver/state/command_context.h"
#include "metaserver/state/kv.h"
#include "metaserver/state/lock_table.h"
#include "proto/locks.pb.h"

namespace tarn::meta {

// The locks of one file in one space while a command changes them.
class FileLocks {
 public:
  static Result<FileLocks> Load(CommandContext* context, InodeId inode, proto::LockSpace space);

  LockTable& table() { return table_; }
  const LockTable& table() const { return table_; }
  // Grants what can be granted, notes whom, and writes everything. kNoLocks: beyond a bound.
  Status Save();

 private:
  FileLocks(CommandContext* context, InodeId inode, proto::LockSpace space, LockTable table);
  Status CountSession(SessionId session, bool has_any);

  CommandContext* context_;
  InodeId inode_;
  proto::LockSpace space_;
  LockTable before_;
  LockTable table_;
};

// The session's locks and waits go; who waited for them gets them.
Status ReleaseLocksOfSession(CommandContext* context, SessionId session);

// Whether a wait for `conflicts` would close a circle of owners that wait for one another. POSIX locks only; gives up,
// with false, after kDeadlockOwnersMax owners.
Result<bool> WouldDeadlock(const KvView& view, const LockOwner& owner, const std::vector<LockRequest>& conflicts);

// kInvalidArgument: no such range or space.
Result<LockRequest> ParseLock(const proto::FileLock& lock, SessionId session, proto::LockSpace space);

// ---- Reads; thread-safe ----
Status TestFileLock(const KvStore& store, const proto::TestLockRequest& request, proto::TestLockReply* reply);
Status ListLockWaits(const KvStore& store, const proto::LockWaitsRequest& request, proto::LockWaitsReply* reply);
Result<bool> SessionHasLocks(const KvStore& store, SessionId session);

}  // namespace tarn::meta
