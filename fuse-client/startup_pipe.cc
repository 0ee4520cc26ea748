#include "fuse-client/startup_pipe.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace tarn::fuse {
namespace {

constexpr char kReady = 'R';
constexpr char kError = 'E';

// What the shell or script that started us left open would otherwise stay open as long as the mount.
void CloseInheritedDescriptors(int except) {
  if (except > STDERR_FILENO + 1) syscall(SYS_close_range, STDERR_FILENO + 1, except - 1, 0);
  syscall(SYS_close_range, except + 1, ~0U, 0);
}

// To EOF: the daemon's report, or nothing if it died.
std::string ReadReport(int reader) {
  std::string report;
  std::array<char, 512> bytes{};
  while (true) {
    const ssize_t got = read(reader, bytes.data(), bytes.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return report;
    report.append(bytes.data(), static_cast<size_t>(got));
  }
}

[[noreturn]] void ExitWithReport(const std::string& report) {
  if (!report.empty() && report.front() == kReady) _exit(0);
  const std::string text = report.empty() ? "the mount's process ended while starting; see its log" : report.substr(1);
  fprintf(stderr, "tarn-fuse: %s\n", text.c_str());
  _exit(1);
}

void WriteAll(int fd, const std::string& bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t put = write(fd, bytes.data() + done, bytes.size() - done);
    if (put < 0 && errno != EINTR) return;  // the parent is gone: nobody to tell
    if (put > 0) done += static_cast<size_t>(put);
  }
}

}  // namespace

Result<StartupPipe> StartupPipe::ForkDaemon() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return Status::FromErrno(errno, "pipe");
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t pid = fork();
  if (pid < 0) return Status::FromErrno(errno, "fork");
  if (pid > 0) {
    writer.Reset();
    ExitWithReport(ReadReport(reader.get()));
  }
  reader.Reset();
  CloseInheritedDescriptors(writer.get());
  setsid();
  if (chdir("/") != 0) return Status::FromErrno(errno, "chdir /");
  return StartupPipe(std::move(writer));
}

void StartupPipe::ReportReady() {
  if (!writer_.valid()) return;
  UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null.valid()) {
    for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null.get(), standard);
  }
  WriteAll(writer_.get(), std::string(1, kReady));
  writer_.Reset();
}

bool StartupPipe::ReportError(const Status& status) {
  if (!writer_.valid()) return false;
  WriteAll(writer_.get(), kError + status.message());
  writer_.Reset();
  return true;
}

}  // namespace tarn::fuse
