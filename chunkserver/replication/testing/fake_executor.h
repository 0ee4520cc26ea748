// For tests: a process's executor in simulated time. When the process dies nothing of it runs any more.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "chunkserver/replication/environment.h"
#include "chunkserver/replication/testing/event_queue.h"

namespace tarn::replication::testing {

// One thread.
class FakeExecutor final : public Executor {
 public:
  // `task_delay_ns`: how long a task waits for its thread and its disk.
  explicit FakeExecutor(EventQueue* queue, std::function<int64_t()> task_delay_ns = [] { return int64_t{0}; })
      : queue_(queue), task_delay_ns_(std::move(task_delay_ns)) {}

  void Run(std::function<void()> task) override { Schedule(task_delay_ns_(), std::move(task)); }
  void RunAfter(int64_t delay_ms, std::function<void()> task) override { Schedule(delay_ms * 1'000'000, std::move(task)); }
  int64_t BoottimeNs() override { return queue_->now_ns(); }
  void Kill() { *alive_ = false; }

 private:
  void Schedule(int64_t delay_ns, std::function<void()> task) {
    queue_->After(delay_ns, [alive = alive_, task = std::move(task)] {
      if (*alive) task();
    });
  }

  EventQueue* const queue_;
  const std::function<int64_t()> task_delay_ns_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace tarn::replication::testing
