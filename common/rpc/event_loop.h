// One thread, one epoll set. Objects that live on a loop are touched by its thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/base/status.h"

namespace tarn::rpc {

class EventLoop {
 public:
  // Starts a thread named `name` (at most 15 bytes show).
  static Result<std::unique_ptr<EventLoop>> Start(const std::string& name);
  // Stops and joins. Tasks not yet run are dropped (destroyed on the caller's thread). Must not be called on the loop's own thread.
  virtual ~EventLoop() = default;

  // Thread-safe: runs `task` on the loop's thread, in order of posting. After the stop has begun the task is dropped.
  virtual void Post(std::function<void()> task) = 0;
  // Thread-safe: runs `task` on the loop's thread once, after `delay_ms`.
  virtual void PostAfter(int64_t delay_ms, std::function<void()> task) = 0;
  virtual bool InLoopThread() const = 0;

  // Loop thread only: epoll events of `fd` go to `handler` until Unwatch. `events` as in epoll_ctl(2), level-triggered.
  virtual Status Watch(int fd, uint32_t events, std::function<void(uint32_t)> handler) = 0;
  virtual Status Modify(int fd, uint32_t events) = 0;
  virtual void Unwatch(int fd) = 0;
};

}  // namespace tarn::rpc
