// tarn ls, stat, rm, du: looking at and removing what is in a volume, without a mount.
#pragma once

#include <string>
#include <vector>

#include "cli/context.h"

namespace tarn::cli {

struct LsOptions {
  std::string path;  // VOLUME:/PATH
  bool long_format = false;
};
struct RmOptions {
  std::vector<std::string> paths;
  bool recursive = false;
  bool force = false;  // missing files are no error
};

Status RunLs(const Context& context, const LsOptions& options);
Status RunStat(const Context& context, const std::string& path);
Status RunRm(const Context& context, const RmOptions& options);
Status RunDu(const Context& context, const std::string& path);

}  // namespace tarn::cli
