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
  // `task_delay_ns`: how long a task waits for its thread and its disk. `clock_rate`: of the node's clock, against simulated time.
  explicit FakeExecutor(EventQueue* queue, std::function<int64_t()> task_delay_ns = [] { return int64_t{0}; }, double clock_rate = 1.0)
      : queue_(queue), task_delay_ns_(std::move(task_delay_ns)), clock_rate_(clock_rate) {}

  void Run(std::function<void()> task) override { Schedule(task_delay_ns_(), std::move(task)); }
  void RunAfter(int64_t delay_ms, std::function<void()> task) override { Schedule(static_cast<int64_t>(static_cast<double>(delay_ms * 1'000'000) / clock_rate_), std::move(task)); }
  int64_t BoottimeNs() override { return static_cast<int64_t>(static_cast<double>(queue_->now_ns()) * clock_rate_); }
  void Kill() { *alive_ = false; }

 private:
  void Schedule(int64_t delay_ns, std::function<void()> task) {
    queue_->After(delay_ns, [alive = alive_, task = std::move(task)] {
      if (*alive) task();
    });
  }

  EventQueue* const queue_;
  const std::function<int64_t()> task_delay_ns_;
  const double clock_rate_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace tarn::replication::testing
