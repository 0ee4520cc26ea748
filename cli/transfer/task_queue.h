// A queue of tasks that make more tasks: workers go on until nothing is queued and nobody is working. Thread-safe.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

#include "common/base/mutex.h"

namespace tarn::cli {

template <typename Task>
class TaskQueue {
 public:
  // From now on Push waits while this many tasks are queued: to be called once workers run. Not for queues whose workers push.
  void Limit(size_t waiting_max) {
    MutexLock lock(mutex_);
    waiting_max_ = waiting_max;
  }

  void Push(Task task) {
    MutexLock lock(mutex_);
    while (waiting_max_ != 0 && tasks_.size() >= waiting_max_) changed_.Wait(lock);
    tasks_.push_back(std::move(task));
    changed_.NotifyAll();
  }

  // The newest task first: a depth-first walk keeps the queue short. nullopt once all is done. The caller owes a Done() per task.
  std::optional<Task> Pop() {
    MutexLock lock(mutex_);
    while (tasks_.empty() && !(producers_done_ && working_ == 0)) changed_.Wait(lock);
    if (tasks_.empty()) return std::nullopt;
    ++working_;
    Task task = std::move(tasks_.back());
    tasks_.pop_back();
    changed_.NotifyAll();
    return task;
  }

  void Done() {
    MutexLock lock(mutex_);
    --working_;
    changed_.NotifyAll();
  }

  // Nothing will be pushed any more but by workers.
  void Close() {
    MutexLock lock(mutex_);
    producers_done_ = true;
    changed_.NotifyAll();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  size_t waiting_max_ GUARDED_BY(mutex_) = 0;  // 0: unbounded
  std::deque<Task> tasks_ GUARDED_BY(mutex_);
  size_t working_ GUARDED_BY(mutex_) = 0;
  bool producers_done_ GUARDED_BY(mutex_) = false;
};

}  // namespace tarn::cli
