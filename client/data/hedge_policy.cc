#include "client/data/hedge_policy.h"

#include <algorithm>
#include <bit>

namespace tarn::client {

uint32_t HedgePolicy::BucketOf(int64_t latency_ns) {
  const auto us = static_cast<uint64_t>(std::max<int64_t>(latency_ns / 1'000, 1));
  const auto power = static_cast<uint32_t>(std::bit_width(us)) - 1;
  const bool upper_half = power > 0 && ((us >> (power - 1)) & 1) != 0;
  return std::min(2 * power + (upper_half ? 1 : 0), kBuckets - 1);
}

int64_t HedgePolicy::BucketEndNs(uint32_t bucket) {
  const int64_t begin_us = int64_t{1} << (bucket / 2);
  return (bucket % 2 == 0 ? begin_us + begin_us / 2 : 2 * begin_us) * 1'000;
}

void HedgePolicy::Earn(int64_t parts) {
  int64_t have = token_parts_.load(std::memory_order_relaxed);
  while (have < kTokensMax * kReadsPerToken &&
         !token_parts_.compare_exchange_weak(have, std::min(have + parts, kTokensMax * kReadsPerToken),
                                             std::memory_order_relaxed)) {
  }
}

void HedgePolicy::NoteRead() { Earn(1); }

bool HedgePolicy::TakeToken() {
  int64_t have = token_parts_.load(std::memory_order_relaxed);
  do {
    if (have < kReadsPerToken) return false;
  } while (!token_parts_.compare_exchange_weak(have, have - kReadsPerToken, std::memory_order_relaxed));
  return true;
}

int64_t HedgePolicy::delay_ns() const {
  const int64_t nearly_all_ns = nearly_all_ns_.load(std::memory_order_relaxed);
  // It may be a slow server that is met first. Should all be slow: there are few tokens.
  if (samples_.load(std::memory_order_relaxed) < kFirstSamples) return delay_max_ns_ / kFirstDelayDivisor;
  return std::min(nearly_all_ns, std::max(kDelayMinNs, kLateTimes * typical_ns()));
}

void HedgePolicy::NoteLatency(int64_t latency_ns) {
  // Moves up and down in small steps, and so ends where as many samples are above as below. The first ones are larger, for
  // the sample that it begins with may be a bad one.
  const uint32_t samples = samples_.fetch_add(1, std::memory_order_relaxed) + 1;
  const int64_t was_ns = typical_ns();
  const int64_t step_ns = was_ns / (samples <= 2 * kFirstSamples ? 4 : 64) + 1;
  typical_ns_.store(was_ns == 0 ? latency_ns : was_ns + (latency_ns > was_ns ? step_ns : -step_ns),
                    std::memory_order_relaxed);
  counts_[BucketOf(latency_ns)].fetch_add(1, std::memory_order_relaxed);
  if (samples % kSamplesPerRound == 0) Recompute();
}

// What comes in meanwhile may be counted in this round or lost: it is one sample in hundreds.
void HedgePolicy::Recompute() {
  std::array<uint32_t, kBuckets> counts{};
  uint64_t sum = 0;
  for (uint32_t i = 0; i < kBuckets; ++i) {
    counts[i] = counts_[i].load(std::memory_order_relaxed);
    sum += counts[i];
    counts_[i].store(counts[i] / 2, std::memory_order_relaxed);  // older rounds count for less and less
  }
  uint64_t rest = sum / 100;
  uint32_t bucket = kBuckets - 1;
  while (bucket > 0 && counts[bucket] <= rest) rest -= counts[bucket--];
  const int64_t low = std::min(kDelayMinNs, delay_max_ns_);
  nearly_all_ns_.store(std::clamp(BucketEndNs(bucket), low, delay_max_ns_), std::memory_order_relaxed);
}

}  // namespace tarn::client
