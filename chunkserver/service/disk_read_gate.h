// Whether an event loop may touch a target's disk. A disk that answers late or never must hold up no loop: beginning a read waits once the
// disk's queue is full, and a loop has requests for other targets to serve. While the gate is shut, whatever may need the disk goes to the
// target's own threads.
#pragma once

#include <atomic>
#include <cstdint>

#include "common/base/clock.h"

namespace tarn::chunk {

// Thread-safe.
class DiskReadGate {
 public:
  // Well below the queue of any disk.
  static constexpr uint32_t kReadsMax = 64;
  // Shut when no read at all has ended for so long: the disk is busy or has stopped.
  static constexpr int64_t kSilentNs = 50'000'000;

  // `clock` outlives it.
  explicit DiskReadGate(const Clock* clock) : clock_(clock) {}
  DiskReadGate(const DiskReadGate&) = delete;
  DiskReadGate& operator=(const DiskReadGate&) = delete;

  bool is_open() const {
    const uint32_t under_way = under_way_.load(std::memory_order_relaxed);
    if (under_way == 0) return true;
    return under_way < kReadsMax && clock_->MonotonicNs() - quiet_since_ns_.load(std::memory_order_relaxed) < kSilentNs;
  }

  // A read that may wait for the disk, whoever makes it: from its beginning to its end.
  class Passage {
   public:
    explicit Passage(DiskReadGate& gate) : gate_(gate) {
      if (gate_.under_way_.fetch_add(1, std::memory_order_relaxed) == 0) gate_.NoteNow();
    }
    ~Passage() {
      gate_.NoteNow();
      gate_.under_way_.fetch_sub(1, std::memory_order_relaxed);
    }
    Passage(const Passage&) = delete;
    Passage& operator=(const Passage&) = delete;

   private:
    DiskReadGate& gate_;
  };

 private:
  void NoteNow() { quiet_since_ns_.store(clock_->MonotonicNs(), std::memory_order_relaxed); }

  const Clock* const clock_;
  std::atomic<uint32_t> under_way_{0};
  std::atomic<int64_t> quiet_since_ns_{0};  // the last end, or the first begin since there were none
};

}  // namespace tarn::chunk
