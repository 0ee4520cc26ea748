#include "fuse-client/operations/fresh_files.h"

namespace tarn::fuse {

void FreshFiles::Add(InodeId inode, int64_t now_ns) {
  MutexLock lock(mutex_);
  SlotOf(inode) = Slot{inode, now_ns};
}

bool FreshFiles::Contains(InodeId inode, int64_t now_ns) {
  MutexLock lock(mutex_);
  const Slot& slot = SlotOf(inode);
  return slot.inode == inode && now_ns - slot.added_ns < kAgeMaxNs;
}

void FreshFiles::Remove(InodeId inode) {
  MutexLock lock(mutex_);
  Slot& slot = SlotOf(inode);
  if (slot.inode == inode) slot = Slot{};
}

}  // namespace tarn::fuse
