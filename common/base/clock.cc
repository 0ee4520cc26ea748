#include "common/base/clock.h"

#include <ctime>

namespace tarn {
namespace {

int64_t ReadClock(clockid_t id) {
  timespec now{};
  clock_gettime(id, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

int64_t SystemClock::MonotonicNs() const { return ReadClock(CLOCK_BOOTTIME); }
int64_t SystemClock::WallNs() const { return ReadClock(CLOCK_REALTIME); }

}  // namespace tarn
