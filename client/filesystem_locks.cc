// FilesystemImpl: advisory locks (client/locks.h).
#include <utility>

#include "client/filesystem_impl.h"

namespace tarn::client {

uint64_t FilesystemImpl::Lock(const FileHandlePtr& handle, const FileLock& lock, bool wait, StatusCallback done) {
  return locks_->Lock(handle, lock, wait, std::move(done));
}

void FilesystemImpl::CancelLock(uint64_t ticket) { locks_->Cancel(ticket); }

void FilesystemImpl::Unlock(const FileHandlePtr& handle, const FileLock& range, StatusCallback done) {
  locks_->Unlock(handle, range, std::move(done));
}

void FilesystemImpl::TestLock(const FileHandlePtr& handle, const FileLock& lock,
                              Callback<std::optional<FileLock>> done) {
  locks_->Test(handle->inode->id, lock, std::move(done));
}

void FilesystemImpl::ReleaseLocks(const FileHandlePtr& handle, uint64_t owner, StatusCallback done) {
  locks_->ReleaseOwner(handle->inode->id, owner, std::move(done));
}

}  // namespace tarn::client
