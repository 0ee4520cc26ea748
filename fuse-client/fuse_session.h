// One FUSE connection: mounts, serves, unmounts.
#pragma once

#include <memory>
#include <string>

#include "common/base/status.h"
#include "fuse-client/mount/mount_point.h"
#include "fuse-client/operations/fuse_mount.h"

struct fuse_session;

namespace tarn::fuse {

// Serve() on one thread; Stop() from any other; the rest by the owner. Neither copies nor moves.
class FuseSession {
 public:
  // Mounts. The kernel's requests wait until Serve(). `fuse_mount` must outlive the session.
  static Result<std::unique_ptr<FuseSession>> Mount(const KernelMount& mount, FuseMount& fuse_mount);
  // Closes the connection: requests not yet answered end with ECONNABORTED. No callback may run any more.
  ~FuseSession();
  FuseSession(const FuseSession&) = delete;
  FuseSession& operator=(const FuseSession&) = delete;

  // Answers requests on `threads` threads of its own until the file system is unmounted or Stop() is called.
  Status Serve(unsigned threads);
  void Stop();

  // "MAJOR:MINOR".
  const std::string& device() const { return device_; }

 private:
  FuseSession(fuse_session* session, std::string path);

  fuse_session* const session_;
  const std::string path_;
  std::string device_;  // empty until mounted
};

}  // namespace tarn::fuse
