// How `tarn umount` waits for the process behind a mount.
//
// A serving process listens on RUN_DIRECTORY/MAJOR:MINOR (the device of its mount). It never accepts: a connection in
// the backlog lives as long as the process, so whoever connected before unmounting sees the hang-up once everything is
// written back and the process has gone, and SO_PEERCRED tells its pid, whatever the pid namespace. A stale socket
// refuses connections: nothing to clean.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace tarn::fuse {

// Of root and of users, respectively.
std::string DefaultRunDirectory();

// The serving side. Removes its socket when destroyed. One thread.
class MountSocket {
 public:
  static Result<MountSocket> Listen(const std::string& run_directory, const std::string& device);
  ~MountSocket();
  MountSocket(MountSocket&& other) noexcept = default;
  MountSocket& operator=(MountSocket&& other) = delete;

 private:
  MountSocket(UniqueFd listener, std::string path, ino_t inode)
      : listener_(std::move(listener)), path_(std::move(path)), inode_(inode) {}

  UniqueFd listener_;
  std::string path_;
  ino_t inode_ = 0;  // a later mount with the same device number may own the path by now
};

// The waiting side. One thread.
class MountProcessWatch {
 public:
  // Nothing if no process listens for that device.
  static std::optional<MountProcessWatch> Connect(const std::string& run_directory, const std::string& device);
  pid_t pid() const { return pid_; }
  // False if it still runs after that time.
  bool WaitUntilGone(int timeout_ms);

 private:
  MountProcessWatch(UniqueFd connection, pid_t pid, UniqueFd process)
      : connection_(std::move(connection)), pid_(pid), process_(std::move(process)) {}

  UniqueFd connection_;
  pid_t pid_ = 0;
  UniqueFd process_;  // a pidfd; invalid if the process lives in another pid namespace
};

}  // namespace tarn::fuse
