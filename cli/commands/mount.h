// tarn mount, tarn umount, mount.tarn.
#pragma once

#include <string>
#include <vector>

#include "cli/context.h"

namespace tarn::cli {

struct MountOptions {
  std::string source;  // VOLUME[:/DIR][@HOST:PORT,..]
  std::string mount_point;
  std::vector<std::string> options;  // -o
  bool foreground = false;
  std::string log_file;
  std::string memory_limit;
};

// Whether a tarn-fuse that was started just so serves the mount point already.
Result<bool> IsMounted(const Context& context, const MountOptions& options);

// Starts the tarn-fuse beside our own binary; returns when the mount serves.
Status RunMount(const Context& context, const MountOptions& options);

struct UmountOptions {
  std::string mount_point;
  bool lazy = false;
  bool force = false;
};

Status RunUmount(const Context& context, const UmountOptions& options);

}  // namespace tarn::cli
