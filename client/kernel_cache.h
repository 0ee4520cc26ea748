// The cache above this library: what a kernel was told with a time-out, and must be told again when it changes.
// Implemented by the FUSE client.
#pragma once

#include <vector>

#include "common/base/ids.h"

namespace tarn::client {

struct KernelChanges {
  std::vector<InodeId> inodes;  // whose attributes (and so data) must be asked for again
  bool names = false;           // every name must be looked up again

  bool empty() const { return inodes.empty() && !names; }
};

class KernelCache {
 public:
  virtual ~KernelCache() = default;
  // When it returns the kernel believes none of these any more, nor will it from a reply that is under way. Any thread;
  // must not wait for anything but the writing of replies.
  virtual void Invalidate(const KernelChanges& changes) = 0;
};

}  // namespace tarn::client
