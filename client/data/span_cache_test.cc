#include "client/data/span_cache.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace tarn::client {
namespace {

constexpr uint64_t kMiB = 1 << 20;

void CompleteAll(const std::vector<ReadSpanPtr>& spans) {
  for (const ReadSpanPtr& span : spans) span->Complete(Status::Ok());
}

// Spans cover the range without a gap.
void ExpectCover(const std::vector<ReadSpanPtr>& spans, ByteRange range) {
  uint64_t position = range.offset;
  for (const ReadSpanPtr& span : spans) {
    EXPECT_LE(span->range.offset, position);
    EXPECT_GT(span->range.end(), position);
    position = span->range.end();
  }
  EXPECT_GE(position, range.end());
}

TEST(SpanCache, FetchesWhatIsMissingOnce) {
  SpanCache cache(64 * kMiB);
  const auto first = cache.Acquire(1, {100'000, 200'000});
  ExpectCover(first.spans, {100'000, 200'000});
  EXPECT_EQ(first.to_fetch.size(), first.spans.size());
  const auto second = cache.Acquire(1, {50'000, 300'000});
  ExpectCover(second.spans, {50'000, 300'000});
  EXPECT_EQ(second.to_fetch.size(), 2u);
  EXPECT_EQ(cache.Acquire(1, {60'000, 250'000}).to_fetch.size(), 0u);
  EXPECT_EQ(cache.Acquire(2, {60'000, 1'000}).to_fetch.size(), 1u);
  CompleteAll(first.to_fetch);
  CompleteAll(second.to_fetch);
}

TEST(SpanCache, SpansEndAtMultiplesOfTheirLargestSize) {
  SpanCache cache(64 * kMiB);
  for (const ReadSpanPtr& span : cache.Prefetch(1, {kMiB / 2, 3 * kMiB})) {
    EXPECT_EQ(span->range.offset / kMiB, (span->range.end() - 1) / kMiB);
  }
}

TEST(SpanCache, ASpanThatEndedWithTheFileIsReplacedWhenItHasGrown) {
  SpanCache cache(64 * kMiB);
  CompleteAll(cache.Acquire(1, {0, 1'000}).to_fetch);
  const auto grown = cache.Acquire(1, {0, 10'000});
  ExpectCover(grown.spans, {0, 10'000});
  EXPECT_EQ(grown.to_fetch.size(), 1u);
}

TEST(SpanCache, StaysWithinItsBudget) {
  SpanCache cache(8 * kMiB);
  for (uint64_t i = 0; i < 100; ++i) {
    const auto found = cache.Acquire(1 + i % 3, {i * kMiB, kMiB});
    CompleteAll(found.to_fetch);
    EXPECT_LE(cache.bytes(), 17 * kMiB);  // what is kept for the next ones counts
  }
  EXPECT_EQ(cache.FindAll(1, {0, kMiB}).size(), 0u);  // old ones went first
  EXPECT_EQ(cache.FindAll(1, {99 * kMiB, kMiB}).size(), 1u);
}

TEST(SpanCache, PrefetchStopsWhereTheBudgetIsUnderWay) {
  SpanCache cache(4 * kMiB);
  const auto first = cache.Prefetch(1, {0, 3 * kMiB});
  EXPECT_EQ(first.size(), 3u);
  EXPECT_TRUE(cache.Prefetch(1, {3 * kMiB, 3 * kMiB}).empty());
}

TEST(SpanCache, InvalidatedSpansServeOnlyThoseWhoHaveThem) {
  SpanCache cache(64 * kMiB);
  const auto before = cache.Acquire(1, {0, 2 * kMiB});
  cache.Invalidate(1, {kMiB + 5, 1});
  const auto after = cache.Acquire(1, {0, 2 * kMiB});
  EXPECT_EQ(after.spans[0], before.spans[0]);
  EXPECT_NE(after.spans[1], before.spans[1]);
  cache.Remove(1, before.spans[1]);  // its fetch failed: that says nothing about the new one
  EXPECT_EQ(cache.FindAll(1, {0, 2 * kMiB}).size(), 2u);
  cache.DropKey(1);
  EXPECT_EQ(cache.FindAll(1, {0, 2 * kMiB}).size(), 0u);
}

TEST(SpanCache, DropsWhatASequentialReaderIsThroughWith) {
  SpanCache cache(64 * kMiB);
  for (uint64_t i = 0; i < 10; ++i) CompleteAll(cache.Acquire(1, {i * kMiB, kMiB}).to_fetch);
  cache.DropRead(1, 7 * kMiB);
  EXPECT_TRUE(cache.FindAll(1, {6 * kMiB, kMiB}).empty());
  EXPECT_EQ(cache.FindAll(1, {7 * kMiB, kMiB}).size(), 1u);
}

TEST(SpanCache, RandomUseKeepsCoverAndDisjointness) {
  std::mt19937 random(3);
  SpanCache cache(6 * kMiB);
  for (int step = 0; step < 5'000; ++step) {
    const uint64_t key = random() % 3;
    const ByteRange range{random() % (4 * kMiB), random() % 300'000 + 1};
    switch (random() % 4) {
      case 0:
        CompleteAll(cache.Prefetch(key, range));
        break;
      case 1:
        cache.Invalidate(key, range);
        break;
      default: {
        const auto found = cache.Acquire(key, {range.offset, (range.length + 4095) / 4096 * 4096});
        ExpectCover(found.spans, range);
        for (size_t i = 1; i < found.spans.size(); ++i)
          EXPECT_EQ(found.spans[i - 1]->range.end(), found.spans[i]->range.offset);
        CompleteAll(found.to_fetch);
      }
    }
  }
}

}  // namespace
}  // namespace tarn::client
