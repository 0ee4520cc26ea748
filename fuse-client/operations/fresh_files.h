// Files that this mount has just created: they have no extended attributes, so the kernel's question for
// security.capability before the first write needs no round trip.
//
// An answer from here is at most as old as the kernel itself would keep an attribute. Nothing but this mount can know
// of xattrs earlier: Remove() comes before each setxattr is sent, and the file was added before the kernel learned its
// number.
#pragma once

#include <array>
#include <cstdint>

#include "common/base/ids.h"
#include "common/base/mutex.h"

namespace tarn::fuse {

// Thread-safe. Of two files that fall on one slot the newer is remembered.
class FreshFiles {
 public:
  static constexpr size_t kSlots = 1024;
  static constexpr int64_t kAgeMaxNs = 1'000'000'000;

  void Add(InodeId inode, int64_t now_ns);
  bool Contains(InodeId inode, int64_t now_ns);
  void Remove(InodeId inode);

 private:
  struct Slot {
    InodeId inode;
    int64_t added_ns = 0;
  };
  Slot& SlotOf(InodeId inode) REQUIRES(mutex_) { return slots_[inode.value() % kSlots]; }

  Mutex mutex_;
  std::array<Slot, kSlots> slots_ GUARDED_BY(mutex_);
};

}  // namespace tarn::fuse
