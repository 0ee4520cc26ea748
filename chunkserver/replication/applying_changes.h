// The changes that are in the store's hands, so that somebody can wait for those of now while new ones come.
#pragma once

#include <cstdint>
#include <functional>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

namespace tarn::replication {

// Runs what was collected under a lock after it. Callbacks may call back into anything.
using Callbacks = std::vector<std::function<void()>>;

// Not thread-safe: guarded by its replica's mutex.
class ApplyingChanges {
 public:
  // The ticket is given back by End.
  uint64_t Begin() {
    ++counts_[generation_];
    return generation_;
  }
  void End(uint64_t ticket, Callbacks* out) {
    const auto count = counts_.find(ticket);
    if (--count->second > 0) return;
    counts_.erase(count);
    const uint64_t oldest = counts_.empty() ? generation_ + 1 : counts_.begin()->first;
    while (!waiting_.empty() && waiting_.begin()->first < oldest) {
      Callbacks& ready = waiting_.begin()->second;
      out->insert(out->end(), std::make_move_iterator(ready.begin()), std::make_move_iterator(ready.end()));
      waiting_.erase(waiting_.begin());
    }
  }
  // `callback` runs when all that have begun so far have ended: it goes to `out` if none is under way, else to that of the last one's End.
  void WhenDrained(std::function<void()> callback, Callbacks* out) {
    if (counts_.empty()) return out->push_back(std::move(callback));
    waiting_[generation_++].push_back(std::move(callback));
  }

 private:
  uint64_t generation_ = 0;
  std::map<uint64_t, uint32_t> counts_;     // by the generation in which they began
  std::map<uint64_t, Callbacks> waiting_;   // for all up to that generation
};

}  // namespace tarn::replication
