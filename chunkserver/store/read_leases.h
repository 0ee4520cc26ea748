// Keeps blocks of segments in place while somebody may still read them.
//
// A read takes the current lease before it looks at a chunk's map and holds it until its last byte is sent. Space that a change left dead
// is punched only when every lease that was current at the change, or before, is gone.
// Thread-safe.
#pragma once

#include <memory>

#include "common/base/mutex.h"

namespace tarn::store {

class ReadLeases {
 public:
  using Lease = std::shared_ptr<const void>;

  ReadLeases() : current_(std::make_shared<Generation>()) {}
  ReadLeases(const ReadLeases&) = delete;
  ReadLeases& operator=(const ReadLeases&) = delete;

  Lease Take() const {
    MutexLock lock(mutex_);
    return current_;
  }

  // A point in time: it has passed when all leases taken before it are gone.
  class Barrier {
   public:
    bool passed() const { return before_.expired(); }

   private:
    friend class ReadLeases;
    std::weak_ptr<const void> before_;
  };

  Barrier MakeBarrier() {
    auto next = std::make_shared<Generation>();
    Barrier barrier;
    MutexLock lock(mutex_);
    barrier.before_ = current_;
    current_->next = next;
    current_.swap(next);
    return barrier;
  }

 private:
  // The leases between two barriers. Each holds the one after it, so that a barrier also waits for leases from before an earlier barrier,
  // whoever made that.
  struct Generation {
    std::shared_ptr<Generation> next;
  };

  mutable Mutex mutex_;
  std::shared_ptr<Generation> current_ GUARDED_BY(mutex_);
};

}  // namespace tarn::store
