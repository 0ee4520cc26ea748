// The comma-separated list of `-o`, as users, fstab and mount(8) write it.
// Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace tarn::fuse {

// With servers that do not tell of changes, what the kernel caches must expire by itself.
inline constexpr double kTimeoutMaxSeconds = 1.0;
inline constexpr uint32_t kReadAheadKbMax = 64 * 1024;

struct MountOptions {
  bool read_only = false;
  bool suid = false;  // off like `dev`: whoever may write the servers' disks would be root on every client
  bool dev = false;
  bool noexec = false;
  bool sync = false;
  bool dirsync = false;
  bool nonempty = false;
  bool local_locks = false;  // the kernel keeps locks among the processes of this mount
  std::optional<bool> allow_other;  // unset: as root yes, else no (fuse.conf decides what users may)
  // Limits of what the kernel may believe; unset: as long as the metadata server grants it.
  std::optional<double> entry_timeout_s;
  std::optional<double> attr_timeout_s;
  std::optional<double> negative_timeout_s;
  // Of the kernel's page cache, set on the mount's backing device; unset: chosen by the client.
  std::optional<uint32_t> read_ahead_kb;
  std::optional<uint64_t> memory_limit_bytes;
  std::vector<std::string> metaservers;
  std::optional<std::string> log_file;
  std::optional<std::string> log_level;
};

// Adds the options of `list` to `options`; "\," is a comma inside a value. Those that only mount(8) and systemd look at
// (auto, _netdev, nofail, x-...) are accepted and ignored. kInvalidArgument names the unknown or wrong one.
Status ParseMountOptionList(std::string_view list, MountOptions* options);

// "4096", "512M", "1.5GiB" (K, M, G, T are powers of 1024).
Result<uint64_t> ParseByteSize(std::string_view text);

}  // namespace tarn::fuse
