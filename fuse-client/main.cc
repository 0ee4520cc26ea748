// tarn-fuse: mounts a volume, or ends a mount.
#include <cstdio>

#include "client/filesystem.h"
#include "fuse-client/mount/unmount.h"
#include "fuse-client/mount_process.h"
#include "fuse-client/options.h"

int main(int argc, char** argv) {
  using tarn::fuse::Options;
  const Options options = tarn::fuse::ParseCommandLine(argc, argv);
  if (options.action == Options::Action::kExit) return options.exit_status;
  if (options.action == Options::Action::kUnmount) {
    const tarn::Status status = tarn::fuse::Unmount(tarn::fuse::ToUnmountOptions(options));
    if (!status.ok()) fprintf(stderr, "tarn-fuse: %s\n", status.message().c_str());
    return status.ok() ? 0 : 1;
  }
  if (options.spec.metaservers.empty()) {
    fprintf(stderr, "tarn-fuse: no metadata server named: VOLUME@HOST:PORT, --meta or TARN_META\n");
    return 1;
  }
  return tarn::fuse::RunMount(options, &tarn::client::Filesystem::Open);
}
