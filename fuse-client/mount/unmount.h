// `tarn-fuse --unmount`, the work behind `tarn umount`.
#pragma once

#include <string>

#include "common/base/status.h"

namespace tarn::fuse {

struct UnmountOptions {
  std::string path;
  std::string run_directory;
  bool lazy = false;  // detach now, even if in use; the process ends with the last user
  bool force =
      false;  // abort all requests first (they fail with ECONNABORTED), then detach; for dead or hanging mounts
  int timeout_ms = 60'000;
};

// Unmounts and waits until the process behind the mount has written everything back and gone. Blocking, thread-safe.
// kNotFound: nothing of ours is mounted there; kBusy: in use, by whom; kTimeout: unmounted, but its process still
// writes back.
Status Unmount(const UnmountOptions& options);

}  // namespace tarn::fuse
