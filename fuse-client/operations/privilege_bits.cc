#include "fuse-client/operations/privilege_bits.h"

#include <sys/stat.h>

namespace tarn::fuse {
namespace {

// As in Linux: set-gid without group execution means mandatory locking and stays.
bool HasBits(const client::Attributes& attributes) {
  constexpr uint32_t kSetGid = S_ISGID | S_IXGRP;
  return attributes.type == client::FileType::kRegular &&
         ((attributes.mode & S_ISUID) != 0 || (attributes.mode & kSetGid) == kSetGid);
}

}  // namespace

void PrivilegeBits::Learn(const client::Attributes& attributes) {
  if (!HasBits(attributes)) {
    if (count_.load(std::memory_order_acquire) > 0) Forget(attributes.inode);
    return;
  }
  MutexLock lock(mutex_);
  if (files_.size() < files_max_) {
    files_.insert(attributes.inode);
  } else {
    overflowed_ = true;
  }
  Publish();
}

bool PrivilegeBits::MayHave(InodeId inode) {
  if (count_.load(std::memory_order_acquire) == 0) return false;
  MutexLock lock(mutex_);
  return overflowed_ || files_.contains(inode);
}

void PrivilegeBits::Forget(InodeId inode) {
  MutexLock lock(mutex_);
  files_.erase(inode);
  Publish();
}

void PrivilegeBits::Publish() { count_.store(files_.size() + (overflowed_ ? 1 : 0), std::memory_order_release); }

}  // namespace tarn::fuse
