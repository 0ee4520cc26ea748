// The numbers of the writes to one placement group: rising from 1, with the highest one up to which all are over.
//
// They are the same for every attempt, whichever primary is asked. Its primary remembers the results above that mark, so that a repeat is answered and not applied, and refuses what
// comes late below it. Pure bookkeeping. Thread-compatible.
#pragma once

#include <cstdint>
#include <deque>

namespace tarn::client {

class GroupSequences {
 public:
  uint64_t Begin() {
    over_.push_back(false);
    return acked_through_ + over_.size();
  }

  // The write with this number was answered or given up: it is never sent again.
  void End(uint64_t sequence) {
    if (sequence <= acked_through_ || sequence > acked_through_ + over_.size()) return;
    over_[sequence - acked_through_ - 1] = true;
    while (!over_.empty() && over_.front()) {
      over_.pop_front();
      ++acked_through_;
    }
  }

  uint64_t acked_through() const { return acked_through_; }

 private:
  uint64_t acked_through_ = 0;
  std::deque<bool> over_;  // of the numbers after acked_through_
};

}  // namespace tarn::client
