#include "fuse-client/fuse_session.h"

#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "fuse-client/mount/mount_table.h"
#include "fuse-client/operations/operations.h"
#include "fuse-client/request_reader.h"

namespace tarn::fuse {
namespace {

void LogFromLibfuse(fuse_log_level level, const char* format, va_list arguments) {
  std::array<char, 512> text{};
  vsnprintf(text.data(), text.size(), format, arguments);
  std::string_view line(text.data());
  while (!line.empty() && line.back() == '\n') line.remove_suffix(1);
  spdlog::log(level <= FUSE_LOG_ERR ? spdlog::level::warn : spdlog::level::debug, "libfuse: {}", line);
}

// Options of libfuse: how the name of a value is escaped there.
std::string Escaped(const std::string& value) {
  std::string escaped;
  for (const char character : value) {
    if (character == ',' || character == '\\') escaped.push_back('\\');
    escaped.push_back(character);
  }
  return escaped;
}

// What the session (max_read) and, for users, fusermount3 need to know.
std::string SessionOptions(const KernelMount& mount, bool through_fusermount) {
  std::string options = "max_read=" + std::to_string(mount.max_read_bytes);
  if (!through_fusermount) return options;
  options += ",default_permissions,subtype=tarn,fsname=" + Escaped(mount.source);
  if (mount.read_only) options += ",ro";
  if (mount.noexec) options += ",noexec";
  if (mount.sync) options += ",sync";
  if (mount.allow_other) options += ",allow_other";
  return options;
}

fuse_session* NewSession(const std::string& options, FuseMount& fuse_mount) {
  std::string program = "tarn-fuse";
  std::string flag = "-o";
  std::string values = options;
  std::array<char*, 4> arguments = {program.data(), flag.data(), values.data(), nullptr};
  fuse_args args = FUSE_ARGS_INIT(3, arguments.data());
  const fuse_lowlevel_ops operations = Operations(fuse_mount.cluster_locks);
  fuse_session* session = fuse_session_new(&args, &operations, sizeof(operations), &fuse_mount);
  fuse_opt_free_args(&args);
  return session;
}

}  // namespace

FuseSession::FuseSession(fuse_session* session, FuseMount& fuse_mount, std::string path)
    : session_(session), fuse_mount_(fuse_mount), path_(std::move(path)) {}

Result<std::unique_ptr<FuseSession>> FuseSession::Mount(const KernelMount& mount, FuseMount& fuse_mount) {
  fuse_set_log_func(&LogFromLibfuse);
  const bool through_fusermount = geteuid() != 0;
  fuse_session* const session = NewSession(SessionOptions(mount, through_fusermount), fuse_mount);
  if (session == nullptr) return Status(StatusCode::kInternal, "libfuse refused the session's options");
  // From here on the destructor cleans up.
  std::unique_ptr<FuseSession> mounted(new FuseSession(session, fuse_mount, mount.path));
  std::string libfuse_path = mount.path;
  if (!through_fusermount) {
    // libfuse takes an open connection under this name, and then owns the descriptor.
    ASSIGN_OR_RETURN(UniqueFd connection, MountKernel(mount));
    libfuse_path = "/dev/fd/" + std::to_string(connection.Release());
  }
  if (fuse_session_mount(session, libfuse_path.c_str()) != 0) {
    return Status(StatusCode::kNotPermitted,
                  "cannot mount on " + mount.path + " as user " + std::to_string(geteuid()) + " through fusermount3");
  }
  ASSIGN_OR_RETURN(mounted->device_, MountedDevice(mount.path));
  return mounted;
}

FuseSession::~FuseSession() {
  if (!device_.empty()) {
    if (const Status status = DetachMount(path_, device_); !status.ok())
      spdlog::warn("cannot unmount path={} error={}", path_, status.message());
  }
  fuse_session_destroy(session_);
}

Status FuseSession::Serve(std::span<rpc::EventLoop* const> loops) {
  RETURN_IF_ERROR(Greet());
  const int fd = fuse_session_fd(session_);
  if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0) return Status::FromErrno(errno, "serve " + path_);
  std::vector<std::unique_ptr<RequestReader>> readers;
  for (rpc::EventLoop* const loop : loops) {
    readers.push_back(std::make_unique<RequestReader>(session_, loop,
                                                      fuse_mount_.cluster_locks ? &fuse_mount_.blocked_locks : nullptr,
                                                      [this](const Status& status) { End(status); }));
  }
  Status end;
  {
    MutexLock lock(mutex_);
    while (!end_.has_value()) ended_.Wait(lock);
    end = *end_;
  }
  readers.clear();
  return end.WithContext("serve " + path_);
}

// The kernel's first request, FUSE_INIT, which is there since the mount. It decides how large the later ones may be,
// and so the buffers.
Status FuseSession::Greet() {
  fuse_buf buffer{};
  int got = 0;
  do {
    got = fuse_session_receive_buf(session_, &buffer);
  } while (got == -EINTR);
  if (got > 0) fuse_session_process_buf(session_, &buffer);
  std::free(buffer.mem);
  if (got < 0) return Status::FromErrno(-got, "serve " + path_);
  if (got == 0) End(Status::Ok());  // unmounted already
  return Status::Ok();
}

void FuseSession::End(const Status& status) {
  MutexLock lock(mutex_);
  if (!end_.has_value()) end_ = status;
  ended_.NotifyAll();
}

void FuseSession::Stop() {
  fuse_session_exit(session_);
  End(Status::Ok());
}

}  // namespace tarn::fuse
