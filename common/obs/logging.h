// Logs for people: one spdlog logger per process, made by main and handed to nobody: spdlog's own registry is the one global we accept,
// since libraries below us log through it as well. Levels: info = a state change, warn = degraded but served, error = someone must act.
#pragma once

#include <string>

#include "common/base/status.h"

namespace tarn::obs {

struct LogOptions {
  std::string program;       // "tarn-metaserver"
  std::string level = "info";  // trace | debug | info | warn | error
  std::string file;          // empty: stderr
};

// Call once, first thing in main. Times are UTC with milliseconds.
Status SetUpLogging(const LogOptions& options);

}  // namespace tarn::obs
