// What to mount: VOLUME[:/DIR][@HOST:PORT,...], as the command line and fstab write it.
// Pure functions, thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace tarn::fuse {

struct MountSpec {
  std::string volume;
  std::string subdirectory;              // "/a/b"; empty: the volume's root
  std::vector<std::string> metaservers;  // HOST:PORT; empty: named elsewhere (--meta, TARN_META)
};

// The last '@' begins the addresses if a HOST:PORT list follows it; any other '@' belongs to the directory.
// kInvalidArgument says what is wrong with which part.
Result<MountSpec> ParseMountSpec(std::string_view text);

// "HOST:PORT,HOST:PORT"; IPv6 addresses in brackets. kInvalidArgument names the bad one.
Result<std::vector<std::string>> ParseAddresses(std::string_view text);

// What `mount` shows as the source: "VOLUME" or "VOLUME:/DIR".
std::string SourceName(const MountSpec& spec);

}  // namespace tarn::fuse
