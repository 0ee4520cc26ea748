// Records that hold no live data but must stay in the log until what they killed is gone from it: truncations, deletions, and the like.
#pragma once

#include <utility>
#include <vector>

#include "chunkserver/store/format.h"
#include "common/base/mutex.h"

namespace tarn::store {

struct Tombstone {
  RecordSequence sequence;  // of the record; of one that had data, of what killed that
  DeadRange record;
};

// Thread-safe.
class Tombstones {
 public:
  void Add(const Tombstone& tombstone) {
    MutexLock lock(mutex_);
    waiting_.push_back(tombstone);
  }

  // Those up to `through` leave; they belong to a checkpoint from then on.
  std::vector<Tombstone> TakeThrough(RecordSequence through) {
    std::vector<Tombstone> taken;
    MutexLock lock(mutex_);
    std::erase_if(waiting_, [&](const Tombstone& tombstone) {
      if (tombstone.sequence > through) return false;
      taken.push_back(tombstone);
      return true;
    });
    return taken;
  }

  bool empty() const {
    MutexLock lock(mutex_);
    return waiting_.empty();
  }

 private:
  mutable Mutex mutex_;
  std::vector<Tombstone> waiting_ GUARDED_BY(mutex_);
};

}  // namespace tarn::store
