#include "client/data/read_ahead.h"

#include <gtest/gtest.h>

namespace tarn::client {
namespace {

constexpr uint64_t kKiB = 1 << 10;
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kFile = 1024 * kMiB;
constexpr ReadAheadLimits kLimits;

uint64_t AheadBytes(const ReadAheadPlan& plan) {
  uint64_t bytes = 0;
  for (const ByteRange& range : plan.ahead) bytes += range.length;
  return bytes;
}

TEST(ReadAhead, ForwardFromTheStartDoublesUpToTheLimit) {
  ReadAheadState state;
  uint64_t largest = 0;
  uint64_t fetched_to = 0;
  for (uint64_t offset = 0; offset < 200 * kMiB; offset += 128 * kKiB) {
    const ReadAheadPlan plan = PlanRead(state, {offset, 128 * kKiB}, kFile, kLimits);
    EXPECT_TRUE(plan.use_cache);
    if (offset == 0) {
      EXPECT_EQ(plan.ahead, (std::vector<ByteRange>{{128 * kKiB, 256 * kKiB}}));
    }
    for (const ByteRange& range : plan.ahead) {
      EXPECT_GE(range.offset, fetched_to) << "nothing is fetched twice";
      fetched_to = range.end();
      largest = std::max(largest, fetched_to - offset);
    }
    EXPECT_GE(fetched_to, offset + 128 * kKiB);
  }
  EXPECT_GE(largest, 16 * kMiB);
  EXPECT_LE(largest, 18 * kMiB);
}

TEST(ReadAhead, EndsWithTheFile) {
  ReadAheadState state;
  uint64_t end = 0;
  for (uint64_t offset = 0; offset < 3 * kMiB + 17; offset += 128 * kKiB) {
    const uint64_t length = std::min(128 * kKiB, 3 * kMiB + 17 - offset);
    for (const ByteRange& range : PlanRead(state, {offset, length}, 3 * kMiB + 17, kLimits).ahead) end = range.end();
  }
  EXPECT_EQ(end, 3 * kMiB + 17);
}

TEST(ReadAhead, RandomReadsFetchNothingAhead) {
  ReadAheadState state;
  uint64_t offset = 12345 * 4096;
  for (int i = 0; i < 100; ++i) {
    offset = (offset * 48271 + 13) % kFile / 4096 * 4096;
    const ReadAheadPlan plan = PlanRead(state, {offset, 4096}, kFile, kLimits);
    EXPECT_FALSE(plan.use_cache);
    EXPECT_TRUE(plan.ahead.empty());
  }
}

TEST(ReadAhead, AJumpTurnsItOffAndTwoAdjacentReadsOnAgain) {
  ReadAheadState state;
  for (uint64_t i = 0; i < 20; ++i) PlanRead(state, {i * 128 * kKiB, 128 * kKiB}, kFile, kLimits);
  EXPECT_FALSE(PlanRead(state, {500 * kMiB, 128 * kKiB}, kFile, kLimits).use_cache);
  const ReadAheadPlan plan = PlanRead(state, {500 * kMiB + 128 * kKiB, 128 * kKiB}, kFile, kLimits);
  EXPECT_TRUE(plan.use_cache);
  EXPECT_LE(AheadBytes(plan), 512 * kKiB);
}

TEST(ReadAhead, ReadsOfOneStreamMayOvertakeEachOther) {
  ReadAheadState state;
  PlanRead(state, {0, 128 * kKiB}, kFile, kLimits);
  for (uint64_t i = 1; i < 40; i += 2) {
    EXPECT_TRUE(PlanRead(state, {(i + 1) * 128 * kKiB, 128 * kKiB}, kFile, kLimits).use_cache);
    EXPECT_TRUE(PlanRead(state, {i * 128 * kKiB, 128 * kKiB}, kFile, kLimits).use_cache);
  }
}

TEST(ReadAhead, BackwardIsRecognised) {
  ReadAheadState state;
  uint64_t fetched_from = 500 * kMiB;
  for (uint64_t i = 1; i < 100; ++i) {
    const ReadAheadPlan plan = PlanRead(state, {500 * kMiB - i * 128 * kKiB, 128 * kKiB}, kFile, kLimits);
    if (i < 3) continue;
    EXPECT_TRUE(plan.use_cache);
    for (const ByteRange& range : plan.ahead) {
      EXPECT_LE(range.end(), fetched_from);
      fetched_from = range.offset;
    }
    EXPECT_LT(fetched_from, 500 * kMiB - i * 128 * kKiB);
  }
}

TEST(ReadAhead, StridesAreRecognisedAndFetchRecordsOnly) {
  ReadAheadState state;
  std::vector<ByteRange> ahead;
  for (uint64_t i = 0; i < 50; ++i) {
    const ReadAheadPlan plan = PlanRead(state, {7 * kMiB + i * 3 * kMiB, 64 * kKiB}, kFile, kLimits);
    if (i >= 2) {
      EXPECT_TRUE(plan.use_cache);
    }
    ahead.insert(ahead.end(), plan.ahead.begin(), plan.ahead.end());
  }
  ASSERT_GE(ahead.size(), 47u);
  for (size_t i = 0; i < ahead.size(); ++i) EXPECT_EQ(ahead[i], (ByteRange{7 * kMiB + (i + 3) * 3 * kMiB, 64 * kKiB}));
}

TEST(ReadAhead, TheStartOfASmallFileFetchesAllOfIt) {
  ReadAheadState state;
  const ReadAheadPlan plan = PlanRead(state, {0, 4096}, 300'000, kLimits);
  EXPECT_TRUE(plan.use_cache);
  EXPECT_EQ(plan.fetch, (ByteRange{0, 300'000}));
  EXPECT_TRUE(plan.ahead.empty());
}

TEST(ReadAhead, AWholeSmallFileIsNotKept) {
  ReadAheadState state;
  const ReadAheadPlan plan = PlanRead(state, {0, 300'000}, 300'000, kLimits);
  EXPECT_FALSE(plan.use_cache);
  EXPECT_EQ(plan.fetch, (ByteRange{0, 300'000}));
}

TEST(ReadAhead, NoneIfTheLimitIsZero) {
  ReadAheadState state;
  ReadAheadLimits limits;
  limits.window_bytes_max = 0;
  for (uint64_t i = 0; i < 5; ++i) EXPECT_FALSE(PlanRead(state, {i * 4096, 4096}, kFile, limits).use_cache);
}

}  // namespace
}  // namespace tarn::client
