// Data ids that were deleted a short while ago: late writes to them are refused, so that a deletion is the last record of its chunks in
// every stretch of the log that is ever replayed.
#pragma once

#include <unordered_set>
#include <utility>

#include "common/base/ids.h"
#include "common/base/mutex.h"

namespace tarn::store {

// Thread-safe.
class DeadData {
 public:
  void Insert(DataId data) {
    MutexLock lock(mutex_);
    recent_.insert(data);
  }

  bool Contains(DataId data) const {
    MutexLock lock(mutex_);
    return recent_.contains(data) || older_.contains(data);
  }

  // At each durable checkpoint: an id is remembered until two of them have passed.
  void Age() {
    MutexLock lock(mutex_);
    older_ = std::exchange(recent_, {});
  }

 private:
  mutable Mutex mutex_;
  std::unordered_set<DataId> recent_ GUARDED_BY(mutex_);
  std::unordered_set<DataId> older_ GUARDED_BY(mutex_);
};

}  // namespace tarn::store
