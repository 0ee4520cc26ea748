#include "common/base/worker_pool.h"

#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/base/mutex.h"
#include "common/base/named_thread.h"

namespace tarn {
namespace {

class ThreadWorkerPool final : public WorkerPool {
 public:
  ThreadWorkerPool(const std::string& name, size_t threads, size_t queue_max) : queue_max_(queue_max) {
    CHECK(threads > 0, "a worker pool needs a thread");
    for (size_t i = 0; i < threads; ++i) {
      threads_.push_back(StartNamedThread(name, [this] { Work(); }));
    }
  }

  ~ThreadWorkerPool() override {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
    }
    work_or_stop_.NotifyAll();
    for (std::thread& thread : threads_) thread.join();
  }

  bool Submit(std::function<void()> task) override {
    {
      MutexLock lock(mutex_);
      if (stopping_ || queue_.size() >= queue_max_) return false;
      queue_.push_back(std::move(task));
    }
    work_or_stop_.NotifyOne();
    return true;
  }

 private:
  void Work() {
    MutexLock lock(mutex_);
    while (true) {
      if (queue_.empty()) {
        if (stopping_) return;
        work_or_stop_.Wait(lock);
        continue;
      }
      std::function<void()> task = std::move(queue_.front());
      queue_.pop_front();
      lock.Unlock();
      task();
      // What the task captured is destroyed without the lock: its destructors may submit.
      task = nullptr;
      lock.Lock();
    }
  }

  // Immutable after construction.
  const size_t queue_max_;
  std::vector<std::thread> threads_;

  Mutex mutex_;
  CondVar work_or_stop_;
  std::deque<std::function<void()>> queue_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace

std::unique_ptr<WorkerPool> WorkerPool::Start(const std::string& name, size_t threads, size_t queue_max) {
  return std::make_unique<ThreadWorkerPool>(name, threads, queue_max);
}

}  // namespace tarn
