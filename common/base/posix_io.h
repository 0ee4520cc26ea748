// Whole-length reads and writes and small durable files over POSIX descriptors. Blocking; errors carry the errno and the path or `what`.
// Thread-safe (no state).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace tarn {

// kNotFound etc. from errno, with the path in the text. O_CLOEXEC is always added.
Result<UniqueFd> OpenFile(const std::string& path, int flags, unsigned mode = 0644);
// Reads exactly bytes.size(); a shorter file is kCorruption.
Status PreadFull(int fd, std::span<uint8_t> bytes, uint64_t offset, std::string_view what);
Status PwriteFull(int fd, std::span<const uint8_t> bytes, uint64_t offset, std::string_view what);
// The whole file; kTooLong above `bytes_max`.
Result<std::string> ReadSmallFile(const std::string& path, size_t bytes_max = 16 << 20);
// Atomic and durable: temporary file, fdatasync, rename, fsync of the directory.
Status WriteSmallFileDurably(const std::string& path, std::string_view contents);
Status FsyncDirectory(const std::string& path);
// mkdir -p. Existing directories are fine.
Status MakeDirectories(const std::string& path, unsigned mode = 0755);
// Takes an exclusive flock(2) on path (made if absent) for the life of the descriptor; kBusy, naming the path and the holder's pid if
// it wrote one, if another process still has it after two seconds.
Result<UniqueFd> LockFile(const std::string& path);

}  // namespace tarn
