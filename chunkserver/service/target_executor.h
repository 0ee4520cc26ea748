// The threads and timers of one target's replication.
//
// Threads of their own, so that a flood of cold reads does not make a member late, and another target's slow disk neither.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "chunkserver/replication/environment.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/worker_pool.h"
#include "common/rpc/event_loop.h"

namespace tarn::chunk {

// Thread-safe.
class TargetExecutor final : public replication::Executor {
 public:
  // Timers run on `loop`; both outlive it.
  TargetExecutor(size_t threads, rpc::EventLoop* loop, const Clock* clock);
  ~TargetExecutor() override { Stop(); }

  void Run(std::function<void()> task) override;
  void RunAfter(int64_t delay_ms, std::function<void()> task) override;
  int64_t BoottimeNs() override { return clock_->MonotonicNs(); }

  // Runs what is queued, then drops whatever comes: when the engine has stopped. Not on one of its threads.
  void Stop();

 private:
  rpc::EventLoop* const loop_;
  const Clock* const clock_;
  Mutex mutex_;
  // Null: stopped. Held while it is submitted to, which is short.
  std::unique_ptr<WorkerPool> workers_ GUARDED_BY(mutex_);
};

}  // namespace tarn::chunk
