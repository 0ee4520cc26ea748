// Between the process that the user started and the daemon that it leaves behind: the first ends when the second
// serves, with one line of text if it does not.
#pragma once

#include <string>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace tarn::fuse {

// One thread.
class StartupPipe {
 public:
  // Stays in the foreground: there is nobody to report to.
  StartupPipe() = default;

  // Forks; call it before any thread exists. In the daemon it returns the pipe's end; in the parent it waits for the
  // report, prints an error to stderr, and does not return but exits with 0 or 1.
  static Result<StartupPipe> ForkDaemon();

  // The daemon serves: lets the parent go and gives up its terminal.
  void ReportReady();
  // For the parent to print. True if there is a parent.
  bool ReportError(const Status& status);

 private:
  explicit StartupPipe(UniqueFd writer) : writer_(std::move(writer)) {}
  UniqueFd writer_;
};

}  // namespace tarn::fuse
