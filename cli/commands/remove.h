// tarn rm: removing what is in a volume, without a mount.
#pragma once

#include <string>
#include <vector>

#include "cli/context.h"

namespace tarn::cli {

struct RmOptions {
  std::vector<std::string> paths;
  bool recursive = false;
  bool force = false;  // missing files are no error
};

// As rm(1): root removes a tree with one request; other users need write permission on every directory in it, so for
// them it is walked.
Status RunRm(const Context& context, const RmOptions& options);

}  // namespace tarn::cli
