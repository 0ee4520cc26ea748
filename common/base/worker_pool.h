// A bounded pool of threads for calls that block.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

namespace tarn {

// Thread-safe.
class WorkerPool {
 public:
  // `threads` threads named `name`; at most `queue_max` tasks wait.
  static std::unique_ptr<WorkerPool> Start(const std::string& name, size_t threads, size_t queue_max);
  // Runs what is queued, then joins.
  virtual ~WorkerPool() = default;
  // False if the queue is full or the pool is stopping: the caller says kResourceExhausted.
  [[nodiscard]] virtual bool Submit(std::function<void()> task) = 0;
};

}  // namespace tarn
