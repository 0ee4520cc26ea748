// Whether a server had better not be asked for a read that another one can answer as well.
//
// A server that failed or was silent is avoided for some seconds; then one read tries it, while others go on avoiding it
// until that one is answered. So is one that answers, but nearly always far later than servers usually do. Thread-safe.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace tarn::client {

class ServerHealth {
 public:
  ServerHealth() = default;
  ServerHealth(const ServerHealth&) = delete;
  ServerHealth& operator=(const ServerHealth&) = delete;

  // True: ask it. Whoever is the first to be told so after the time of avoidance is the one that tries.
  bool MayAsk(int64_t now_ns) {
    return MayTry(avoid_until_ns_, now_ns) && MayTry(slow_until_ns_, now_ns);
  }
  // It failed or was silent, and has answered nobody since; or it is slow, and has answered nobody in good time since.
  bool IsAvoided() const {
    return avoid_until_ns_.load(std::memory_order_relaxed) != 0 || slow_until_ns_.load(std::memory_order_relaxed) != 0;
  }
  void NoteBad(int64_t now_ns) { avoid_until_ns_.store(now_ns + kAvoidNs, std::memory_order_relaxed); }
  void NoteGood() {
    if (avoid_until_ns_.load(std::memory_order_relaxed) != 0) avoid_until_ns_.store(0, std::memory_order_relaxed);
  }
  // An answer took `latency_ns`, or has not come within it; `typical_ns`: what half of all reads take.
  void NoteLatency(int64_t latency_ns, int64_t typical_ns, int64_t now_ns) {
    const bool is_slow = latency_ns > std::max(kSlowMinNs, kSlowTimes * typical_ns);
    const int32_t score = slow_score_.load(std::memory_order_relaxed);
    const int32_t next = std::clamp(score + (is_slow ? 1 : -kSlowPardon), 0, kSlowScoreMax);
    if (next == score && !is_slow) return;
    slow_score_.store(next, std::memory_order_relaxed);
    slow_until_ns_.store(next == kSlowScoreMax ? now_ns + kAvoidNs : 0, std::memory_order_relaxed);
  }

 private:
  static bool MayTry(std::atomic<int64_t>& avoid_until_ns, int64_t now_ns) {
    int64_t until_ns = avoid_until_ns.load(std::memory_order_relaxed);
    if (until_ns == 0) return true;
    return now_ns >= until_ns &&
           avoid_until_ns.compare_exchange_strong(until_ns, now_ns + kTrialNs, std::memory_order_relaxed);
  }

  static constexpr int64_t kAvoidNs = 3'000'000'000;
  static constexpr int64_t kTrialNs = 1'000'000'000;
  static constexpr int64_t kSlowMinNs = 20'000'000;
  static constexpr int64_t kSlowTimes = 8;
  static constexpr int32_t kSlowScoreMax = 16;
  static constexpr int32_t kSlowPardon = 4;  // slow answers that one good one makes up for

  std::atomic<int64_t> avoid_until_ns_{0};  // 0: not avoided
  std::atomic<int64_t> slow_until_ns_{0};   // 0: not slow
  std::atomic<int32_t> slow_score_{0};
};

}  // namespace tarn::client
