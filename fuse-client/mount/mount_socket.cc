#include "fuse-client/mount/mount_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "common/base/posix_io.h"

namespace tarn::fuse {
namespace {

constexpr int kBacklog = 64;

std::optional<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return std::nullopt;
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

// True once the descriptor is readable or hung up.
bool WaitFor(const UniqueFd& descriptor, short events, int timeout_ms) {
  pollfd entry{descriptor.get(), events, 0};
  int ready = 0;
  while ((ready = poll(&entry, 1, timeout_ms)) < 0 && errno == EINTR) {
  }
  return ready > 0;
}

}  // namespace

std::string DefaultRunDirectory() {
  return geteuid() == 0 ? "/run/tarn/mounts" : "/tmp/tarn-" + std::to_string(geteuid()) + "/mounts";
}

Result<MountSocket> MountSocket::Listen(const std::string& run_directory, const std::string& device) {
  RETURN_IF_ERROR(MakeDirectories(run_directory, 0755));
  const std::string path = run_directory + "/" + device;
  const std::string temporary = path + "." + std::to_string(getpid());
  const std::optional<sockaddr_un> address = AddressOf(temporary);
  if (!address) return Status(StatusCode::kNameTooLong, "socket " + temporary + ": the path is too long");
  UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  unlink(temporary.c_str());
  struct stat status {};
  if (!listener.valid() || bind(listener.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0 ||
      listen(listener.get(), kBacklog) != 0 || stat(temporary.c_str(), &status) != 0 ||
      rename(temporary.c_str(), path.c_str()) != 0) {
    return Status::FromErrno(errno, "listen on " + path);
  }
  return MountSocket(std::move(listener), path, status.st_ino);
}

MountSocket::~MountSocket() {
  struct stat status {};
  if (listener_.valid() && stat(path_.c_str(), &status) == 0 && status.st_ino == inode_) unlink(path_.c_str());
}

std::optional<MountProcessWatch> MountProcessWatch::Connect(const std::string& run_directory,
                                                            const std::string& device) {
  const std::optional<sockaddr_un> address = AddressOf(run_directory + "/" + device);
  UniqueFd connection(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!address || !connection.valid()) return std::nullopt;
  if (connect(connection.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0)
    return std::nullopt;
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return std::nullopt;
  UniqueFd process;
  if (peer.pid > 0) process.Reset(static_cast<int>(syscall(SYS_pidfd_open, peer.pid, 0)));
  return MountProcessWatch(std::move(connection), peer.pid, std::move(process));
}

bool MountProcessWatch::WaitUntilGone(int timeout_ms) {
  // The hang-up comes first: it cannot be another process that got the same pid.
  if (!WaitFor(connection_, POLLIN, timeout_ms)) return false;
  constexpr int kExitMs = 5'000;  // closing its descriptors is among the last things a process does
  return !process_.valid() || WaitFor(process_, POLLIN, kExitMs);
}

}  // namespace tarn::fuse
