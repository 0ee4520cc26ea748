// The command line of `tarn`: parses it and runs the command it names. The only place of this folder that knows CLI11.
#pragma once

#include "cli/context.h"

namespace tarn::cli {

// Exit status: 0, 1 for an error (one line on stderr), 2 for a wrong command line. `context` holds what main found out (environment, own path).
int RunCommandLine(int argc, char** argv, Context context);

// The form mount(8) calls: mount.tarn SOURCE DIRECTORY [-sfnv] [-o OPTIONS].
int RunMountHelper(int argc, char** argv, const Context& context);

}  // namespace tarn::cli
