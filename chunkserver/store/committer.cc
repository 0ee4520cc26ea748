#include "chunkserver/store/committer.h"

#include <chrono>
#include <utility>

#include "common/base/named_thread.h"

namespace tarn::store {

Committer::Committer(SegmentLog* log, const CommitterOptions& options) : log_(log), options_(options) {
  thread_ = StartNamedThread("commit", [this] { Run(); });
}

Committer::~Committer() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  thread_.join();
}

void Committer::WhenDurable(Callback callback) {
  {
    MutexLock lock(mutex_);
    waiting_.push_back(std::move(callback));
  }
  wake_.NotifyOne();
}

Status Committer::Commit() {
  Mutex mutex;
  CondVar finished;
  bool is_done = false;
  Status result;
  WhenDurable([&](Status status) {
    // Told under the lock: once it is released, this frame may be gone.
    MutexLock lock(mutex);
    result = std::move(status);
    is_done = true;
    finished.NotifyOne();
  });
  MutexLock lock(mutex);
  while (!is_done) finished.Wait(lock);
  return result;
}

void Committer::NoteWritten() {
  if (log_->unsynced_bytes() < options_.unsynced_bytes_max) return;
  {
    MutexLock lock(mutex_);
    if (much_is_unsynced_) return;
    much_is_unsynced_ = true;
  }
  wake_.NotifyOne();
}

void Committer::Run() {
  MutexLock lock(mutex_);
  while (true) {
    bool is_due = false;
    while (waiting_.empty() && !much_is_unsynced_ && !is_due && !stopping_) {
      const bool timed_out = !wake_.WaitFor(lock, std::chrono::milliseconds(options_.interval_ms));
      is_due = timed_out && log_->unsynced_bytes() > 0;
    }
    if (stopping_ && waiting_.empty()) return;
    std::vector<Callback> served;
    served.swap(waiting_);
    much_is_unsynced_ = false;
    lock.Unlock();
    const Status synced = log_->Sync();
    rounds_.fetch_add(1, std::memory_order_relaxed);
    for (Callback& callback : served) callback(synced);
    served.clear();
    lock.Lock();
  }
}

}  // namespace tarn::store
