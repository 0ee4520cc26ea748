// tarn fsck: checks the file system, and repairs it if asked to.
#pragma once

#include <string>

#include "cli/context.h"

namespace tarn::cli {

struct FsckCommandOptions {
  std::string volume;  // empty: all
  bool repair = false;
  bool skip_chunks = false;
};

// What the exit status says: 0 nothing was found, 3 everything that was found is repaired, 4 something is left.
inline constexpr int kExitRepaired = 3;
inline constexpr int kExitDamaged = 4;

// Sets `exit_status` if the check could be made.
Status RunFsck(const Context& context, const FsckCommandOptions& options, int* exit_status);

}  // namespace tarn::cli
