// One thread, one epoll set. Objects that live on a loop are touched by its thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/base/status.h"

namespace tarn::rpc {

class FileReadRing;

inline constexpr size_t kBlockingTasksMax = 256;

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
  // Thread-safe: runs `task`, which may block, on a second thread that the loop makes at the first use and joins when it ends (name
  // resolution, mostly). kResourceExhausted if kBlockingTasksMax wait.
  virtual Status PostBlocking(std::function<void()> task) = 0;
  virtual bool InLoopThread() const = 0;

  // Loop thread only: runs `task` when the events, timers and posted tasks of this turn are done, before the loop sleeps. For work that
  // is worth collecting, such as writing all replies of a turn at once.
  virtual void DeferToEndOfTurn(std::function<void()> task) = 0;

  // Loop thread only: epoll events of `fd` go to `handler` until Unwatch. `events` as in epoll_ctl(2), level-triggered.
  // `fd` must not be watched yet.
  virtual Status Watch(int fd, uint32_t events, std::function<void(uint32_t)> handler) = 0;
  virtual Status Modify(int fd, uint32_t events) = 0;
  // Events already fetched are not delivered any more. The handler is destroyed at the end of the turn. Call before closing `fd`.
  virtual void Unwatch(int fd) = 0;

  // Loop thread only: for reads of files that must not block the loop. Made at the first call, ends with the loop.
  // kNotSupported: see FileReadRing.
  virtual Result<FileReadRing*> FileReads() = 0;
};

}  // namespace tarn::rpc
