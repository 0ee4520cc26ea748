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
    bool wake = false;
    {
      MutexLock lock(mutex_);
      if (stopping_ || queue_.size() >= queue_max_) return false;
      queue_.push_back(std::move(task));
      wake = MayWake();
    }
    if (wake) work_or_stop_.NotifyOne();
    return true;
  }

 private:
  // One thread is woken at a time: it wakes the next one when it has taken a task and there are more. So tasks that take
  // no longer than a thread takes to wake are done by few threads, and tasks that block by all.
  bool MayWake() REQUIRES(mutex_) {
    if (sleeping_ == 0 || waking_) return false;
    return waking_ = true;
  }

  void Work() {
    MutexLock lock(mutex_);
    while (true) {
      if (queue_.empty()) {
        if (stopping_) return;
        ++sleeping_;
        work_or_stop_.Wait(lock);
        --sleeping_;
        waking_ = false;
        continue;
      }
      std::function<void()> task = std::move(queue_.front());
      queue_.pop_front();
      const bool wake = !queue_.empty() && MayWake();
      lock.Unlock();
      if (wake) work_or_stop_.NotifyOne();
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
  size_t sleeping_ GUARDED_BY(mutex_) = 0;  // or woken, and not yet awake
  bool waking_ GUARDED_BY(mutex_) = false;
};

}  // namespace

std::unique_ptr<WorkerPool> WorkerPool::Start(const std::string& name, size_t threads, size_t queue_max) {
  return std::make_unique<ThreadWorkerPool>(name, threads, queue_max);
}

}  // namespace tarn
