// tarn-fuse-memory: tarn-fuse, but what it mounts lies in memory. TARN_MEMORY_ANSWERS=inline answers before the call
// returns; TARN_MEMORY_GRANTS=1 makes the kernel believe what it is told, and be told of changes.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "common/base/clock.h"
#include "fuse-client/mount/unmount.h"
#include "fuse-client/mount_process.h"
#include "fuse-client/options.h"
#include "fuse-client/testing/memory_filesystem.h"

int main(int argc, char** argv) {
  using tarn::fuse::MemoryFilesystem;
  using tarn::fuse::Options;
  const Options options = tarn::fuse::ParseCommandLine(argc, argv);
  if (options.action == Options::Action::kExit) return options.exit_status;
  if (options.action == Options::Action::kUnmount) {
    const tarn::Status status = tarn::fuse::Unmount(tarn::fuse::ToUnmountOptions(options));
    if (!status.ok()) fprintf(stderr, "tarn-fuse: %s\n", status.message().c_str());
    return status.ok() ? 0 : 1;
  }
  const char* const wanted = getenv("TARN_MEMORY_ANSWERS");
  const auto answers = wanted != nullptr && std::string_view(wanted) == "inline"
                           ? MemoryFilesystem::Answers::kInline
                           : MemoryFilesystem::Answers::kFromThread;
  const auto freshness = getenv("TARN_MEMORY_GRANTS") != nullptr ? MemoryFilesystem::Freshness::kGranted
                                                                 : MemoryFilesystem::Freshness::kUnknown;
  const tarn::SystemClock clock;
  return tarn::fuse::RunMount(
      options,
      [&](const tarn::client::FilesystemOptions& filesystem)
          -> tarn::Result<std::unique_ptr<tarn::client::Filesystem>> {
        if (filesystem.volume == "no-such-volume")
          return tarn::Status(tarn::StatusCode::kNotFound, "volume no-such-volume does not exist");
        return std::unique_ptr<tarn::client::Filesystem>(std::make_unique<MemoryFilesystem>(clock, answers, freshness));
      });
}
