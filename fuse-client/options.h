// The command line of tarn-fuse.
#pragma once

#include <string>
#include <vector>

#include "common/base/status.h"
#include "fuse-client/mount/mount_options.h"
#include "fuse-client/mount/mount_spec.h"
#include "fuse-client/mount/unmount.h"

namespace tarn::fuse {

struct Options {
  enum class Action { kMount, kUnmount, kExit };
  Action action = Action::kMount;
  int exit_status = 0;  // of kExit: --help and --version 0, wrong usage 2

  MountSpec spec;  // its metaservers are complete: from the specification, -o meta=, --meta or TARN_META
  std::string mount_point;
  MountOptions mount;
  std::string node;  // empty: the host's name
  bool foreground = false;
  std::string log_file;  // empty: stderr in the foreground, else a file named after the mount point
  std::string log_level = "info";
  std::string run_directory;  // where mounts are found by `--unmount`

  // --unmount
  bool lazy = false;
  bool force = false;
  int unmount_timeout_s = 60;
};

// Prints help and usage errors itself. Called as mount.tarn (or mount.fuse.tarn) it takes mount(8)'s arguments.
Options ParseCommandLine(int argc, char** argv);

UnmountOptions ToUnmountOptions(const Options& options);

// mount(8)'s convention: SPEC DIR [-sfnv] [-N NS] [-t TYPE] [-o OPTIONS]. kInvalidArgument for anything else.
Result<Options> ParseMountHelper(const std::vector<std::string>& arguments);

}  // namespace tarn::fuse
