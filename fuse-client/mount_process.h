// The life of one mount: check, fork, connect, mount, serve, write back, end.
#pragma once

#include <functional>
#include <memory>

#include "client/filesystem.h"
#include "fuse-client/options.h"

namespace tarn::fuse {

// client::Filesystem::Open, or a test's own.
using FilesystemOpener = std::function<Result<std::unique_ptr<client::Filesystem>>(const client::FilesystemOptions&)>;

// Returns the exit status of the daemon (or foreground process); the process that the user started exits inside, as
// soon as the mount serves (0) or cannot (1, one line on stderr). Call it before any thread exists.
//
// SIGTERM, SIGINT: unmounts, cutting off users after a second or at a second signal, writes everything back, ends.
// Nothing but SIGKILL skips the write-back, which ends by itself when the servers do not answer.
int RunMount(const Options& options, const FilesystemOpener& open);

// -o and --... as the library wants them.
client::FilesystemOptions ToFilesystemOptions(const Options& options);

}  // namespace tarn::fuse
