// The progress line of put and get: files, bytes, rate, time left. Draws on a terminal only.
// Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "common/base/clock.h"
#include "common/base/mutex.h"

namespace tarn::cli {

struct TransferCounters {
  std::atomic<uint64_t> files_found{0};
  std::atomic<uint64_t> bytes_found{0};
  std::atomic<uint64_t> files_done{0};     // transferred
  std::atomic<uint64_t> bytes_done{0};
  std::atomic<uint64_t> files_skipped{0};  // there already, unchanged
  std::atomic<uint64_t> bytes_skipped{0};
  std::atomic<uint64_t> directories{0};
  std::atomic<uint64_t> symlinks{0};
  std::atomic<uint64_t> specials_ignored{0};
  std::atomic<uint64_t> errors{0};
  std::atomic<bool> walk_finished{false};
};

class ProgressBar {
 public:
  // Redraws a few times a second until destroyed. `counters` and `clock` outlive it. Not `enabled`: does nothing.
  ProgressBar(const TransferCounters* counters, const Clock* clock, bool enabled);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

 private:
  void Run();
  void Draw() const;

  const TransferCounters* const counters_;
  const Clock* const clock_;
  const int64_t started_ms_;
  Mutex mutex_;
  CondVar stop_requested_;
  bool stop_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace tarn::cli
