// When a read that has no answer yet is asked for at a second member of its group as well.
//
// After as long as all but one in a hundred reads take, or many times as long as half of them do if that is less (where a
// server of several is slow, so are many reads), within bounds. And only for a small share of the reads, so that a cluster
// that is slow because it has much to do does not get more to do. Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace tarn::client {

class HedgePolicy {
 public:
  static constexpr int64_t kDelayMinNs = 20'000'000;

  // As long as little has been measured, a sixth of `delay_max_ms` counts.
  explicit HedgePolicy(int64_t delay_max_ms) : delay_max_ns_(delay_max_ms * 1'000'000), nearly_all_ns_(delay_max_ns_) {}
  HedgePolicy(const HedgePolicy&) = delete;
  HedgePolicy& operator=(const HedgePolicy&) = delete;

  int64_t delay_ns() const;
  int64_t delay_max_ns() const { return delay_max_ns_; }
  // What half of the reads take, about; 0: nothing has been measured.
  int64_t typical_ns() const { return typical_ns_.load(std::memory_order_relaxed); }

  // A read of a group with several members begins: it earns a part of a second request.
  void NoteRead();
  // What one request for it took.
  void NoteLatency(int64_t latency_ns);
  // False: there were too many lately.
  bool TakeToken();
  // It was not needed.
  void ReturnToken() { Earn(kReadsPerToken); }

 private:
  static constexpr int64_t kReadsPerToken = 20;  // one read in twenty
  static constexpr int64_t kTokensMax = 16;
  static constexpr uint32_t kSamplesPerRound = 512;
  static constexpr uint32_t kFirstSamples = 32;  // little is known before
  static constexpr int64_t kFirstDelayDivisor = 6;
  static constexpr int64_t kLateTimes = 8;       // what half of the reads take
  // Two buckets to a power of two of microseconds: up to 2^24 us.
  static constexpr uint32_t kBuckets = 48;

  static uint32_t BucketOf(int64_t latency_ns);
  static int64_t BucketEndNs(uint32_t bucket);
  void Earn(int64_t parts);
  void Recompute();

  const int64_t delay_max_ns_;
  std::atomic<int64_t> nearly_all_ns_;  // what 99 of 100 reads take, within the bounds
  std::atomic<int64_t> typical_ns_{0};
  std::atomic<int64_t> token_parts_{kTokensMax * kReadsPerToken};
  std::atomic<uint32_t> samples_{0};
  std::array<std::atomic<uint32_t>, kBuckets> counts_{};
};

}  // namespace tarn::client
