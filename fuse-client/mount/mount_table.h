// The kernel's table of mounts (/proc/self/mountinfo, proc(5)), read without touching the file systems in it: a dead or
// hanging mount cannot hurt. Thread-safe (no state).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace tarn::fuse {

inline constexpr std::string_view kFilesystemType = "fuse.tarn";

struct MountEntry {
  std::string device;  // "MAJOR:MINOR"
  std::string path;
  std::string type;  // "ext4", "fuse.tarn"
  std::string source;
};

// Lines that do not parse are left out.
std::vector<MountEntry> ParseMountTable(std::string_view text);
Result<std::vector<MountEntry>> ReadMountTable();
// The one on top: the last mounted.
std::optional<MountEntry> FindMount(const std::vector<MountEntry>& table, std::string_view path);

// The absolute path of a mount point without asking the file system mounted there (it may be dead): only its parent is
// resolved.
Result<std::string> ResolveMountPoint(const std::string& path);

}  // namespace tarn::fuse
