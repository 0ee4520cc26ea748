// A member's own clocks: one that runs at its own rate, and a wall clock that may jump.
// One thread.
#pragma once

#include <cstdint>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "tests/sim/scheduler.h"

namespace tarn::sim {

class SimClock final : public Clock {
 public:
  // Runs `rate` times as fast as the world's time.
  SimClock(const Scheduler* scheduler, double rate, int64_t start_ns)
      : scheduler_(scheduler), rate_(rate), start_ns_(start_ns) {}

  int64_t MonotonicNs() const override { return start_ns_ + Scaled(scheduler_->now_ns()); }
  int64_t WallNs() const override { return wall_offset_ns_ + Scaled(scheduler_->now_ns()); }
  // How long something takes in the world that takes `local_ns` by this clock.
  int64_t WorldTime(int64_t local_ns) const { return static_cast<int64_t>(static_cast<double>(local_ns) / rate_); }
  void JumpWall(int64_t by_ns) { wall_offset_ns_ += by_ns; }

 private:
  int64_t Scaled(int64_t world_ns) const { return static_cast<int64_t>(static_cast<double>(world_ns) * rate_); }

  const Scheduler* const scheduler_;
  const double rate_;
  const int64_t start_ns_;
  int64_t wall_offset_ns_ = 1'700'000'000'000'000'000;
};

// The members' and the state machine's Random, from the run's dice.
class SimRandom final : public Random {
 public:
  explicit SimRandom(Scheduler* scheduler) : scheduler_(scheduler) {}
  uint64_t Next() override { return scheduler_->dice().Next(); }

 private:
  Scheduler* const scheduler_;
};

}  // namespace tarn::sim
