// tarn ls, stat, du: looking at what is in a volume, without a mount.
#pragma once

#include <string>

#include "cli/context.h"

namespace tarn::cli {

struct LsOptions {
  std::string path;  // VOLUME:/PATH
  bool long_format = false;
};
struct DuOptions {
  std::string path;   // VOLUME:/PATH
  bool walk = false;  // counts every entry instead of asking for the server's count
};

Status RunLs(const Context& context, const LsOptions& options);
Status RunStat(const Context& context, const std::string& path);
Status RunDu(const Context& context, const DuOptions& options);

}  // namespace tarn::cli
