#include "fuse-client/fuse_session.h"

#include <fuse3/fuse_lowlevel.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>
#include <cstdarg>
#include <cstdio>
#include <utility>

#include "fuse-client/mount/mount_table.h"
#include "fuse-client/operations/operations.h"

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
  const fuse_lowlevel_ops operations = Operations();
  fuse_session* session = fuse_session_new(&args, &operations, sizeof(operations), &fuse_mount);
  fuse_opt_free_args(&args);
  return session;
}

}  // namespace

FuseSession::FuseSession(fuse_session* session, std::string path) : session_(session), path_(std::move(path)) {}

Result<std::unique_ptr<FuseSession>> FuseSession::Mount(const KernelMount& mount, FuseMount& fuse_mount) {
  fuse_set_log_func(&LogFromLibfuse);
  const bool through_fusermount = geteuid() != 0;
  fuse_session* const session = NewSession(SessionOptions(mount, through_fusermount), fuse_mount);
  if (session == nullptr) return Status(StatusCode::kInternal, "libfuse refused the session's options");
  // From here on the destructor cleans up.
  std::unique_ptr<FuseSession> mounted(new FuseSession(session, mount.path));
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

Status FuseSession::Serve(unsigned threads) {
  fuse_loop_config* const config = fuse_loop_cfg_create();
  if (config == nullptr) return Status(StatusCode::kNoMemory, "libfuse: no memory");
  fuse_loop_cfg_set_clone_fd(config, 0);  // requests in flight could not be handed to a successor
  fuse_loop_cfg_set_max_threads(config, threads);
  const int result = fuse_session_loop_mt(session_, config);
  fuse_loop_cfg_destroy(config);
  if (result < 0) return Status::FromErrno(-result, "serve " + path_);
  return Status::Ok();
}

void FuseSession::Stop() { fuse_session_exit(session_); }

}  // namespace tarn::fuse
