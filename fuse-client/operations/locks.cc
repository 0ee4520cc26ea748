// flock(2) and fcntl(2) locks, held by the metadata servers for all mounts (docs/locks.md).
//
// An OFD lock comes as a POSIX lock whose owner is the open file; nothing tells of its end but RELEASE.
#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <optional>

#include "fuse-client/operations/fuse_mount.h"
#include "fuse-client/operations/operations.h"

namespace tarn::fuse {
namespace {

using client::FileLock;
using client::kLockLastMax;
using client::LockSpace;

// The range as the kernel gave it: relative to the start; length 0 is the end of the file, wherever that is.
FileLock ToLock(const fuse_file_info& file, const struct flock& given) {
  FileLock lock;
  lock.exclusive = given.l_type == F_WRLCK;
  lock.first = static_cast<uint64_t>(given.l_start);
  lock.last = given.l_len == 0 ? kLockLastMax : lock.first + static_cast<uint64_t>(given.l_len) - 1;
  lock.owner = file.lock_owner;
  lock.pid = static_cast<uint32_t>(given.l_pid);
  return lock;
}

std::shared_ptr<OpenedFileEntry> FindFile(fuse_req_t request, const fuse_file_info* file) {
  std::shared_ptr<OpenedFileEntry> entry = MountOf(request).files.Find(file->fh);
  if (entry == nullptr) fuse_reply_err(request, EBADF);
  return entry;
}

void TakeLock(fuse_req_t request, const OpenedFileEntry& entry, const FileLock& lock, bool wait) {
  FuseMount& mount = MountOf(request);
  mount.locks_used.store(true, std::memory_order_relaxed);
  if (!wait) {
    mount.filesystem.Lock(entry.handle, lock, false, [request](const Status& status) { ReplyStatus(request, status); });
    return;
  }
  const uint64_t number = BlockedLocks::current();
  mount.blocked_locks.Begin(number);
  const uint64_t ticket =
      mount.filesystem.Lock(entry.handle, lock, true, [request, &mount, number](const Status& status) {
        mount.blocked_locks.End(number);
        ReplyStatus(request, status);
      });
  mount.blocked_locks.SetTicket(number, ticket);
}

void Unlock(fuse_req_t request, const OpenedFileEntry& entry, const FileLock& range) {
  MountOf(request).filesystem.Unlock(entry.handle, range,
                                     [request](const Status& status) { ReplyStatus(request, status); });
}

void SetLock(fuse_req_t request, fuse_ino_t /*node*/, fuse_file_info* file, struct flock* given, int sleep) {
  const std::shared_ptr<OpenedFileEntry> entry = FindFile(request, file);
  if (entry == nullptr) return;
  const FileLock lock = ToLock(*file, *given);
  if (given->l_type == F_UNLCK) return Unlock(request, *entry, lock);
  TakeLock(request, *entry, lock, sleep != 0);
}

void GetLock(fuse_req_t request, fuse_ino_t /*node*/, fuse_file_info* file, struct flock* given) {
  const std::shared_ptr<OpenedFileEntry> entry = FindFile(request, file);
  if (entry == nullptr) return;
  MountOf(request).filesystem.TestLock(entry->handle, ToLock(*file, *given),
                                       [request](const Result<std::optional<FileLock>>& found) {
                                         if (!found.ok()) return ReplyStatus(request, found.status());
                                         struct flock answer {};
                                         answer.l_type = F_UNLCK;
                                         answer.l_whence = SEEK_SET;
                                         if (const std::optional<FileLock>& lock = *found) {
                                           answer.l_type = lock->exclusive ? F_WRLCK : F_RDLCK;
                                           answer.l_start = static_cast<off_t>(lock->first);
                                           answer.l_len = lock->last == kLockLastMax
                                                              ? 0
                                                              : static_cast<off_t>(lock->last - lock->first + 1);
                                           answer.l_pid = static_cast<pid_t>(lock->pid);
                                         }
                                         fuse_reply_lock(request, &answer);
                                       });
}

void Flock(fuse_req_t request, fuse_ino_t /*node*/, fuse_file_info* file, int operation) {
  const std::shared_ptr<OpenedFileEntry> entry = FindFile(request, file);
  if (entry == nullptr) return;
  FileLock lock;
  lock.space = LockSpace::kFlock;
  lock.owner = file->lock_owner;
  lock.pid = static_cast<uint32_t>(fuse_req_ctx(request)->pid);
  lock.exclusive = (operation & LOCK_EX) != 0;
  if ((operation & LOCK_UN) != 0) return Unlock(request, *entry, lock);
  TakeLock(request, *entry, lock, (operation & LOCK_NB) == 0);
}

}  // namespace

void AddLockOperations(fuse_lowlevel_ops* table) {
  table->setlk = &SetLock;
  table->getlk = &GetLock;
  table->flock = &Flock;
}

}  // namespace tarn::fuse
