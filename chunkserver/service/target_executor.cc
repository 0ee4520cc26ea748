#include "chunkserver/service/target_executor.h"

#include <limits>
#include <utility>

namespace tarn::chunk {
namespace {

// No bound of its own: each task belongs to a request in flight of some connection or to a change that the engine has admitted, and those
// are bounded.
constexpr size_t kQueueMax = std::numeric_limits<size_t>::max();

}  // namespace

TargetExecutor::TargetExecutor(size_t threads, rpc::EventLoop* loop, const Clock* clock)
    : loop_(loop), clock_(clock), workers_(WorkerPool::Start("changes", threads, kQueueMax)) {}

void TargetExecutor::Run(std::function<void()> task) {
  MutexLock lock(mutex_);
  if (workers_ == nullptr) return;
  CHECK(workers_->Submit(std::move(task)), "the queue has no bound, and the pool is not stopping while it is here");
}

void TargetExecutor::RunAfter(int64_t delay_ms, std::function<void()> task) {
  MutexLock lock(mutex_);
  if (workers_ != nullptr) loop_->PostAfter(delay_ms, std::move(task));
}

void TargetExecutor::Stop() {
  std::unique_ptr<WorkerPool> workers;
  {
    MutexLock lock(mutex_);
    workers = std::move(workers_);
  }
}

}  // namespace tarn::chunk
