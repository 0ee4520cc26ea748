#include "cli/dev/process.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ctime>

#include "common/base/clock.h"
#include "common/base/posix_io.h"
#include "common/base/unique_fd.h"

namespace tarn::cli {
namespace {

constexpr int64_t kPollMs = 10;

std::vector<char*> Arguments(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  return arguments;
}

// Empty for zombies, kernel threads and processes that are gone.
std::vector<std::string> CommandLineOf(pid_t pid) {
  std::vector<std::string> words;
  Result<std::string> text = ReadSmallFile("/proc/" + std::to_string(pid) + "/cmdline");
  if (!text.ok()) return words;
  size_t begin = 0;
  while (begin < text->size()) {
    const size_t end = std::min(text->find('\0', begin), text->size());
    words.push_back(text->substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

// Zombies have ended. The command line would not tell: it is empty for a moment after exec, too.
bool IsRunning(pid_t pid) {
  const Result<std::string> text = ReadSmallFile("/proc/" + std::to_string(pid) + "/stat");
  if (!text.ok()) return false;
  // PID (NAME) STATE ...; the name may contain anything.
  const size_t name_end = text.value().rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= text.value().size()) return false;
  const char state = text.value()[name_end + 2];
  return state != 'Z' && state != 'X';
}

UniqueFd BindLoopback(uint16_t port, uint16_t* bound) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  // As the servers do: a port in TIME_WAIT is free.
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (!fd.valid() || bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) return UniqueFd();
  socklen_t length = sizeof(address);
  getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length);
  *bound = ntohs(address.sin_port);
  return fd;
}

}  // namespace

void PauseMs(int64_t milliseconds) {
  const timespec pause{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
  nanosleep(&pause, nullptr);
}

Result<pid_t> StartDaemon(const std::vector<std::string>& command, const std::string& log_path) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  pid_t pid = 0;
  const std::vector<char*> arguments = Arguments(command);
  char* no_environment[] = {nullptr};
  const int error = posix_spawn(&pid, command[0].c_str(), &actions, &attributes, arguments.data(), no_environment);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return Status::FromErrno(error, "start " + command[0]);
  return pid;
}

std::vector<pid_t> FindProcesses(const std::vector<std::string>& command) {
  std::vector<pid_t> found;
  DIR* proc = opendir("/proc");
  if (proc == nullptr) return found;
  while (const dirent* entry = readdir(proc)) {
    const pid_t pid = static_cast<pid_t>(std::strtol(entry->d_name, nullptr, 10));
    if (pid > 0 && pid != getpid() && CommandLineOf(pid) == command) found.push_back(pid);
  }
  closedir(proc);
  return found;
}

bool WaitForExit(pid_t pid, int64_t timeout_ms) {
  const SystemClock clock;
  const int64_t deadline_ms = clock.MonotonicMs() + timeout_ms;
  do {
    int status = 0;
    if (waitpid(pid, &status, WNOHANG) == pid || !IsRunning(pid)) return true;
    PauseMs(kPollMs);
  } while (clock.MonotonicMs() < deadline_ms);
  return false;
}

void StopProcess(pid_t pid, const std::vector<std::string>& command, int64_t grace_ms) {
  if (CommandLineOf(pid) != command) return;
  kill(pid, SIGTERM);
  if (WaitForExit(pid, grace_ms)) return;
  if (CommandLineOf(pid) != command) return;
  kill(pid, SIGKILL);
  WaitForExit(pid, grace_ms);
}

Result<int> RunForeground(const std::vector<std::string>& command) {
  pid_t pid = 0;
  const std::vector<char*> arguments = Arguments(command);
  const int error = posix_spawn(&pid, command[0].c_str(), nullptr, nullptr, arguments.data(), environ);
  if (error != 0) return Status::FromErrno(error, "start " + command[0]);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return Status::FromErrno(errno, "wait for " + command[0]);
  }
  if (!WIFEXITED(status)) return Status(StatusCode::kIoError, command[0] + " was killed by signal " + std::to_string(WTERMSIG(status)));
  return WEXITSTATUS(status);
}

Result<uint16_t> FreePort(const std::vector<uint16_t>& taken) {
  constexpr int kTries = 100;
  for (int i = 0; i < kTries; ++i) {
    uint16_t port = 0;
    const UniqueFd fd = BindLoopback(0, &port);
    if (fd.valid() && std::find(taken.begin(), taken.end(), port) == taken.end()) return port;
  }
  return Status(StatusCode::kBusy, "no free TCP port on 127.0.0.1");
}

bool PortIsFree(const std::string& address) {
  uint16_t bound = 0;
  const std::string port = address.substr(address.rfind(':') + 1);
  return BindLoopback(static_cast<uint16_t>(std::strtoul(port.c_str(), nullptr, 10)), &bound).valid();
}

}  // namespace tarn::cli
