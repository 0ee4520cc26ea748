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

  ReadLeases() : current_(std::make_shared<char>()) {}
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

  // Barriers pass in the order in which they are made only if the caller waits for them in that order.
  Barrier MakeBarrier() {
    Lease next = std::make_shared<char>();
    Barrier barrier;
    MutexLock lock(mutex_);
    barrier.before_ = current_;
    current_.swap(next);
    return barrier;
  }

 private:
  mutable Mutex mutex_;
  Lease current_ GUARDED_BY(mutex_);
};

}  // namespace tarn::store
