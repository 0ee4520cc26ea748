// The TarnFS mounts of this mount namespace, from /proc/self/mountinfo.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tarn::cli {

struct Mount {
  std::string mount_point;  // as the kernel shows it, escapes undone
  std::string source;       // VOLUME[:/DIR][@HOST:PORT,..]
  std::string device;       // "MAJOR:MINOR"; the minor names the connection in fusectl
};

std::vector<Mount> TarnMounts();

}  // namespace tarn::cli
