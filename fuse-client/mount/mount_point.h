// What happens to a mount point before, at and after mount(2).
// Thread-safe (no state). Blocking.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace tarn::fuse {

// Refuses what cannot be mounted on, with a text for the user: missing, not a directory, not empty (unless allowed), a
// dead or living FUSE mount, no /dev/fuse. Returns the absolute path.
Result<std::string> CheckMountPoint(const std::string& path, bool allow_nonempty);

struct KernelMount {
  std::string source;  // what `mount` shows
  std::string path;
  uint32_t max_read_bytes = 0;
  bool read_only = false;
  bool suid = false;
  bool dev = false;
  bool noexec = false;
  bool sync = false;
  bool dirsync = false;
  bool allow_other = false;
};
// mount(2), as root: returns the descriptor of /dev/fuse over which the kernel will send its requests.
Result<UniqueFd> MountKernel(const KernelMount& mount);

// Detaches at once whatever still uses it; what is not mounted any more is fine. With `device`, only if that mount is
// on top.
Status DetachMount(const std::string& path, const std::string& device);

// "MAJOR:MINOR" of the topmost mount on `path`, which must be ours.
Result<std::string> MountedDevice(const std::string& path);

// Of the kernel's page cache. Only after the kernel has seen the answer to FUSE_INIT, which sets it too.
Status SetKernelReadAhead(const std::string& device, uint32_t kilobytes);

// `fusermount3 ARGUMENTS... PATH`, for those who are not root. Waits for it; what it says goes to stderr.
Status RunFusermount(const std::string& arguments, const std::string& path);

}  // namespace tarn::fuse
