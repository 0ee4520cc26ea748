// Whether a server had better not be asked for a read that another one can answer as well.
//
// A server that failed or was silent is avoided for some seconds; then one read tries it, while others go on avoiding it
// until that one is answered. Thread-safe.
#pragma once

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
    int64_t until_ns = avoid_until_ns_.load(std::memory_order_relaxed);
    if (until_ns == 0) return true;
    return now_ns >= until_ns &&
           avoid_until_ns_.compare_exchange_strong(until_ns, now_ns + kTrialNs, std::memory_order_relaxed);
  }
  // It failed or was silent, and has answered nobody since.
  bool IsAvoided() const { return avoid_until_ns_.load(std::memory_order_relaxed) != 0; }
  void NoteBad(int64_t now_ns) { avoid_until_ns_.store(now_ns + kAvoidNs, std::memory_order_relaxed); }
  void NoteGood() {
    if (avoid_until_ns_.load(std::memory_order_relaxed) != 0) avoid_until_ns_.store(0, std::memory_order_relaxed);
  }

 private:
  static constexpr int64_t kAvoidNs = 3'000'000'000;
  static constexpr int64_t kTrialNs = 1'000'000'000;

  std::atomic<int64_t> avoid_until_ns_{0};  // 0: not avoided
};

}  // namespace tarn::client
