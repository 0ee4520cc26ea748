// Takes the kernel's requests of one FUSE session on an event loop, and runs their handlers there.
//
// The loop that reads a request also sends what the handler asks the servers and hears their answers: so no other
// thread has to be woken on the way, and the requests that one turn of the loop finds go to the servers together.
#pragma once

#include <fuse3/fuse_lowlevel.h>

#include <functional>

#include "common/base/status.h"
#include "common/rpc/event_loop.h"
#include "fuse-client/operations/blocked_locks.h"

namespace tarn::fuse {

// Made and destroyed by one thread, which is not the loop's. Several of them share a session.
class RequestReader {
 public:
  // The descriptor of `session` does not block, and FUSE_INIT was answered. The first three arguments outlive it.
  // `locks` is told of interrupts; null: libfuse tells the kernel that there are none. `on_end` runs on the loop when
  // there will be no more requests, with an error if the session broke.
  RequestReader(fuse_session* session, rpc::EventLoop* loop, BlockedLocks* locks,
                std::function<void(const Status&)> on_end);
  // Returns when no handler runs any more.
  ~RequestReader();
  RequestReader(const RequestReader&) = delete;
  RequestReader& operator=(const RequestReader&) = delete;

 private:
  void Start();
  void Handle();
  void OnReadable();
  void End(const Status& status);
  void RunAndWait(const std::function<void()>& task);

  fuse_session* const session_;
  rpc::EventLoop* const loop_;
  BlockedLocks* const locks_;
  const int fd_;
  const std::function<void(const Status&)> on_end_;

  // Loop thread only.
  fuse_buf buffer_{};
  bool watching_ = false;
};

}  // namespace tarn::fuse
