// Which files may have set-uid or set-gid bits that a write must clear (the kernel leaves that to us:
// FUSE_CAP_HANDLE_KILLPRIV_V2, without it it asks for an attribute before every write).
//
// Learned from every answer about a file, so that ordinary writes, whose file has neither bit, cost one load of a
// counter.
#pragma once

#include <atomic>
#include <cstddef>
#include <unordered_set>

#include "client/types.h"
#include "common/base/mutex.h"

namespace tarn::fuse {

// Thread-safe.
class PrivilegeBits {
 public:
  // Once there were more, any file is treated as if it might have the bits.
  static constexpr size_t kFilesMax = 64 << 10;

  explicit PrivilegeBits(size_t files_max = kFilesMax) : files_max_(files_max) {}

  void Learn(const client::Attributes& attributes);
  bool MayHave(InodeId inode);
  void Forget(InodeId inode);

 private:
  void Publish() REQUIRES(mutex_);

  const size_t files_max_;
  std::atomic<size_t> count_{0};  // 0 if no file is suspect, readable without the lock
  Mutex mutex_;
  std::unordered_set<InodeId> files_ GUARDED_BY(mutex_);
  bool overflowed_ GUARDED_BY(mutex_) = false;
};

}  // namespace tarn::fuse
