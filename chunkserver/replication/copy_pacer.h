// Bounds the bandwidth of copies: whoever copies asks before each chunk and pays after it, so that no chunk's order is held while waiting.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/base/mutex.h"

namespace tarn::replication {

// Thread-safe.
class CopyPacer {
 public:
  explicit CopyPacer(uint64_t bytes_per_second) : bytes_per_second_(bytes_per_second) {}

  // How long to wait before the next chunk.
  int64_t DelayMs(int64_t now_ns) {
    MutexLock lock(mutex_);
    return std::max<int64_t>(0, (paid_until_ns_ - now_ns + 999'999) / 1'000'000);
  }
  void Pay(int64_t now_ns, uint64_t bytes) {
    if (bytes_per_second_ == 0) return;
    MutexLock lock(mutex_);
    const auto cost_ns = static_cast<int64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(bytes_per_second_));
    paid_until_ns_ = std::max(paid_until_ns_, now_ns) + cost_ns;
  }

 private:
  const uint64_t bytes_per_second_;  // 0: no bound
  Mutex mutex_;
  int64_t paid_until_ns_ GUARDED_BY(mutex_) = 0;
};

}  // namespace tarn::replication
