// One FUSE connection: mounts, serves, unmounts.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/event_loop.h"
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

  // Runs the handlers of requests on `loops` until the file system is unmounted or Stop() is called.
  Status Serve(std::span<rpc::EventLoop* const> loops);
  void Stop();

  // For notifications.
  fuse_session* session() const { return session_; }

  // "MAJOR:MINOR".
  const std::string& device() const { return device_; }

 private:
  FuseSession(fuse_session* session, FuseMount& fuse_mount, std::string path);
  Status Greet();
  void End(const Status& status);

  fuse_session* const session_;
  FuseMount& fuse_mount_;
  const std::string path_;
  std::string device_;  // empty until mounted

  Mutex mutex_;
  CondVar ended_;
  std::optional<Status> end_ GUARDED_BY(mutex_);  // why Serve is to return
};

}  // namespace tarn::fuse
