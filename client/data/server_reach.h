// How a chunk server is reached: directly, or, when this client alone does not get there, through another one
// (docs/replication.md, "Through another server").
//
// A server is doubted when it is silent or a connection to it breaks; a probe then asks for a sign of life over a fresh
// connection. Without one the direct way is down, and is probed again until it works. Pure bookkeeping. Thread-safe.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <utility>

#include "common/base/mutex.h"

namespace tarn::client {

class ServerReach {
 public:
  // Between two probes, also of a server that is only slow.
  static constexpr int64_t kProbePauseNs = 1'000'000'000;
  // So many other servers in a row did not get there either: the direct way is tried again for a while.
  static constexpr uint32_t kRelaysInARow = 2;
  static constexpr int64_t kRelayPauseMinNs = 200'000'000;
  static constexpr int64_t kRelayPauseMaxNs = 3'200'000'000;

  enum class Change { kNone, kWentDown, kCameBack };
  struct Outage {
    int64_t duration_ns = 0;
    uint64_t relayed = 0;  // requests that were answered through others
  };

  ServerReach() = default;
  ServerReach(const ServerReach&) = delete;
  ServerReach& operator=(const ServerReach&) = delete;

  bool is_down() const { return is_down_.load(std::memory_order_relaxed); }
  // The next request had better go through another server.
  bool WantsRelay(int64_t now_ns) const {
    return is_down() && now_ns >= relay_not_before_ns_.load(std::memory_order_relaxed);
  }

  // True: the caller probes now, and says how that ended.
  bool BeginProbe(int64_t now_ns) {
    MutexLock lock(mutex_);
    if (probing_ || (probed_ns_ != 0 && now_ns - probed_ns_ < kProbePauseNs)) return false;
    probing_ = true;
    probed_ns_ = now_ns;
    return true;
  }
  Change EndProbe(bool is_reached, int64_t now_ns) {
    MutexLock lock(mutex_);
    probing_ = false;
    return Set(!is_reached, now_ns);
  }
  // It has answered over a direct connection.
  Change NoteDirectAnswer(int64_t now_ns) {
    if (!is_down()) return Change::kNone;
    MutexLock lock(mutex_);
    return Set(false, now_ns);
  }

  // True for the first answer of an outage.
  bool NoteRelayed() {
    MutexLock lock(mutex_);
    relay_failures_ = 0;
    relay_pause_ns_ = kRelayPauseMinNs;
    return outage_.relayed++ == 0 && is_down();
  }
  void NoteRelayFailed(int64_t now_ns) {
    MutexLock lock(mutex_);
    if (++relay_failures_ < kRelaysInARow) return;
    relay_failures_ = 0;
    relay_not_before_ns_.store(now_ns + relay_pause_ns_, std::memory_order_relaxed);
    relay_pause_ns_ = std::min(2 * relay_pause_ns_, kRelayPauseMaxNs);
  }

  // The last one, for the log.
  Outage outage() const {
    MutexLock lock(mutex_);
    return outage_;
  }

 private:
  Change Set(bool down, int64_t now_ns) REQUIRES(mutex_) {
    if (down == is_down()) return Change::kNone;
    is_down_.store(down, std::memory_order_relaxed);
    if (!down) {
      outage_.duration_ns = now_ns - down_since_ns_;
      return Change::kCameBack;
    }
    down_since_ns_ = now_ns;
    outage_ = {};
    relay_failures_ = 0;
    relay_pause_ns_ = kRelayPauseMinNs;
    relay_not_before_ns_.store(0, std::memory_order_relaxed);
    return Change::kWentDown;
  }

  std::atomic<bool> is_down_{false};
  std::atomic<int64_t> relay_not_before_ns_{0};

  mutable Mutex mutex_;
  bool probing_ GUARDED_BY(mutex_) = false;
  int64_t probed_ns_ GUARDED_BY(mutex_) = 0;  // when the last probe began; 0: never
  int64_t down_since_ns_ GUARDED_BY(mutex_) = 0;
  uint32_t relay_failures_ GUARDED_BY(mutex_) = 0;
  int64_t relay_pause_ns_ GUARDED_BY(mutex_) = kRelayPauseMinNs;
  Outage outage_ GUARDED_BY(mutex_);
};

}  // namespace tarn::client
