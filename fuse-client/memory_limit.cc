#include "fuse-client/memory_limit.h"

#include <sys/sysinfo.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <sstream>
#include <string>

#include "common/base/posix_io.h"

namespace tarn::fuse {
namespace {

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

// "max" (v2), a huge number (v1) and an unreadable file mean no limit.
uint64_t ReadLimit(const std::string& path) {
  const Result<std::string> text = ReadSmallFile(path);
  uint64_t limit = kUnlimited;
  if (text.ok()) std::from_chars(text.value().data(), text.value().data() + text.value().size(), limit);
  return limit;
}

// Lines of /proc/self/cgroup: "0::/path" (v2) and "7:memory:/path" (v1). In a container the path may be one of the
// host, while the files lie at the top.
uint64_t ControlGroupLimit() {
  uint64_t limit =
      std::min(ReadLimit("/sys/fs/cgroup/memory.max"), ReadLimit("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
  const Result<std::string> groups = ReadSmallFile("/proc/self/cgroup");
  if (!groups.ok()) return limit;
  std::istringstream lines(groups.value());
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("0::")) {
      limit = std::min(limit, ReadLimit("/sys/fs/cgroup" + line.substr(3) + "/memory.max"));
    } else if (const size_t at = line.find(":memory:"); at != std::string::npos) {
      limit = std::min(limit, ReadLimit("/sys/fs/cgroup/memory" + line.substr(at + 8) + "/memory.limit_in_bytes"));
    }
  }
  return limit;
}

}  // namespace

uint64_t ChooseMemoryLimit(uint64_t available_bytes) {
  if (available_bytes == 0) return kMemoryLimitMinBytes;
  return std::clamp(available_bytes / 8, kMemoryLimitMinBytes, kMemoryLimitMaxBytes);
}

uint64_t AvailableMemoryBytes() {
  struct sysinfo info {};
  const uint64_t machine = sysinfo(&info) == 0 ? uint64_t{info.totalram} * info.mem_unit : kUnlimited;
  const uint64_t available = std::min(machine, ControlGroupLimit());
  return available == kUnlimited ? 0 : available;
}

}  // namespace tarn::fuse
