// Starting and stopping the servers of a dev cluster as daemons, found again by their exact command line.
// No state; thread-compatible.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "common/base/status.h"

namespace tarn::cli {

// A new session, stdin from /dev/null, stdout and stderr appended to `log_path`, no other descriptor. The caller is its parent until it exits.
Result<pid_t> StartDaemon(const std::vector<std::string>& command, const std::string& log_path);

// Processes whose argument vector equals `command` (zombies aside).
std::vector<pid_t> FindProcesses(const std::vector<std::string>& command);

// True if the process ended within the time; reaps it if it is our child.
bool WaitForExit(pid_t pid, int64_t timeout_ms);

// SIGTERM, then SIGKILL after `grace_ms`; only if its command line still is `command`.
void StopProcess(pid_t pid, const std::vector<std::string>& command, int64_t grace_ms);

// Runs a program to its end with our own stdout and stderr. Its exit status, or kIoError if it could not be run or was killed.
Result<int> RunForeground(const std::vector<std::string>& command);

// A TCP port of 127.0.0.1 that is free now and differs from those in `taken`.
Result<uint16_t> FreePort(const std::vector<uint16_t>& taken);
bool PortIsFree(const std::string& address);

// Blocks the calling thread; for polling loops of tools.
void PauseMs(int64_t milliseconds);

}  // namespace tarn::cli
