// Time comes by constructor, so that tests and the simulator can supply it.
#pragma once

#include <cstdint>

namespace tarn {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // CLOCK_BOOTTIME: goes on while the machine is suspended; for leases, time-outs and rates. Nanoseconds.
  virtual int64_t MonotonicNs() const = 0;
  // CLOCK_REALTIME: nanoseconds since the Unix epoch; may jump. For time stamps only.
  virtual int64_t WallNs() const = 0;

  int64_t MonotonicMs() const { return MonotonicNs() / 1'000'000; }
};

// The operating system's clocks.
class SystemClock final : public Clock {
 public:
  int64_t MonotonicNs() const override;
  int64_t WallNs() const override;
};

// Stands still until told. Thread-compatible.
class FakeClock final : public Clock {
 public:
  int64_t MonotonicNs() const override { return monotonic_ns_; }
  int64_t WallNs() const override { return wall_ns_; }
  void AdvanceMs(int64_t milliseconds) {
    monotonic_ns_ += milliseconds * 1'000'000;
    wall_ns_ += milliseconds * 1'000'000;
  }
  void SetWallNs(int64_t wall_ns) { wall_ns_ = wall_ns; }

 private:
  int64_t monotonic_ns_ = 1'000'000'000;
  int64_t wall_ns_ = 1'700'000'000'000'000'000;
};

}  // namespace tarn
