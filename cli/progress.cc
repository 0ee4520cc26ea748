#include "cli/progress.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

#include "cli/output.h"

namespace tarn::cli {
namespace {

constexpr int64_t kRedrawMs = 200;
constexpr int kBarCells = 24;

}  // namespace

ProgressBar::ProgressBar(const TransferCounters* counters, const Clock* clock, bool enabled)
    : counters_(counters), clock_(clock), started_ms_(clock->MonotonicMs()) {
  if (!enabled) return;
  thread_ = std::thread([this] { Run(); });
  pthread_setname_np(thread_.native_handle(), "progress");
}

ProgressBar::~ProgressBar() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    stop_requested_.NotifyAll();
  }
  if (!thread_.joinable()) return;
  thread_.join();
  std::fputs("\r\033[K", stderr);  // the summary follows in its place
  std::fflush(stderr);
}

void ProgressBar::Run() {
  MutexLock lock(mutex_);
  while (!stop_) {
    lock.Unlock();
    Draw();
    lock.Lock();
    if (!stop_) stop_requested_.WaitFor(lock, std::chrono::milliseconds(kRedrawMs));
  }
}

void ProgressBar::Draw() const {
  const uint64_t bytes_done = counters_->bytes_done + counters_->bytes_skipped;
  const uint64_t bytes_found = std::max<uint64_t>(counters_->bytes_found, bytes_done);
  const double seconds = std::max(0.001, static_cast<double>(clock_->MonotonicMs() - started_ms_) / 1000);
  const double rate = static_cast<double>(counters_->bytes_done) / seconds;
  const int filled = bytes_found == 0 ? 0 : static_cast<int>(kBarCells * (static_cast<double>(bytes_done) / static_cast<double>(bytes_found)));
  // Time left is worth showing only once the walk knows how much there is.
  std::string left = "counting";
  if (counters_->walk_finished) {
    left = rate > 0 ? "ETA " + HumanSeconds(static_cast<int64_t>(static_cast<double>(bytes_found - bytes_done) / rate)) : "ETA ?";
  }
  std::fprintf(stderr, "\r\033[K[%s%s] %lu/%lu files  %s/%s  %s/s  %.0f files/s  %s", std::string(filled, '#').c_str(),
               std::string(kBarCells - filled, '.').c_str(),
               static_cast<unsigned long>(counters_->files_done + counters_->files_skipped), static_cast<unsigned long>(counters_->files_found),
               HumanBytes(bytes_done).c_str(), HumanBytes(bytes_found).c_str(), HumanBytes(static_cast<uint64_t>(rate)).c_str(),
               static_cast<double>(counters_->files_done) / seconds, left.c_str());
  std::fflush(stderr);
}

}  // namespace tarn::cli
