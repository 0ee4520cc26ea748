// `tarn`: composition root. Finds out what only the process knows (environment, own path, terminal) and runs the command line.
#include <signal.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <string>

#include "cli/command_line.h"
#include "common/obs/logging.h"

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);  // a server that goes away is an error of a write, not our end
  tarn::cli::Context context;
  if (const char* meta = std::getenv("TARN_META"); meta != nullptr) context.meta = meta;
  char self[PATH_MAX] = {};
  if (readlink("/proc/self/exe", self, sizeof(self) - 1) > 0) {
    const std::string path(self);
    context.binary_directory = path.substr(0, path.rfind('/'));
  }
  context.terminal = isatty(STDERR_FILENO) != 0;
  const char* log_level = std::getenv("TARN_LOG_LEVEL");
  tarn::obs::LogOptions log;
  log.program = "tarn";
  log.level = log_level != nullptr ? log_level : "error";
  if (tarn::Status status = tarn::obs::SetUpLogging(log); !status.ok()) {
    fprintf(stderr, "tarn: %s\n", status.message().c_str());
    return 1;
  }
  const std::string name(argv[0]);
  if (name.substr(name.rfind('/') + 1) == "mount.tarn") return tarn::cli::RunMountHelper(argc, argv, context);
  return tarn::cli::RunCommandLine(argc, argv, context);
}
