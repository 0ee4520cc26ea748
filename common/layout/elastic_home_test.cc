#include "common/layout/elastic_home.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace tarn {
namespace {

constexpr uint64_t kChunks = 10'000;

ChunkId ChunkOf(uint64_t i) { return {DataId(i / 4 + 1), static_cast<uint32_t>(i % 4)}; }

TEST(ElasticHome, NoTargetIsNoHome) { EXPECT_FALSE(ElasticHome(ChunkOf(1), {}).has_value()); }

TEST(ElasticHome, OrderDoesNotMatter) {
  std::vector<TargetId> targets = {TargetId(3), TargetId(11), TargetId(7), TargetId(20)};
  std::vector<TargetId> reversed(targets.rbegin(), targets.rend());
  for (uint64_t i = 0; i < kChunks; ++i) {
    EXPECT_EQ(targets[*ElasticHome(ChunkOf(i), targets)], reversed[*ElasticHome(ChunkOf(i), reversed)]);
  }
}

TEST(ElasticHome, ChunksAreSpreadEvenly) {
  std::vector<TargetId> targets;
  for (uint64_t id = 1; id <= 10; ++id) targets.emplace_back(id);
  std::vector<uint64_t> homes(targets.size());
  for (uint64_t i = 0; i < kChunks; ++i) ++homes[*ElasticHome(ChunkOf(i), targets)];
  EXPECT_GT(*std::ranges::min_element(homes), kChunks / 10 * 8 / 10);
  EXPECT_LT(*std::ranges::max_element(homes), kChunks / 10 * 12 / 10);
}

TEST(ElasticHome, ATargetThatGoesMovesOnlyItsOwnShare) {
  std::vector<TargetId> before;
  for (uint64_t id = 1; id <= 10; ++id) before.emplace_back(id);
  const std::vector<TargetId> after(before.begin(), before.end() - 1);
  for (uint64_t i = 0; i < kChunks; ++i) {
    const TargetId home = before[*ElasticHome(ChunkOf(i), before)];
    if (home == TargetId(10)) continue;
    EXPECT_EQ(after[*ElasticHome(ChunkOf(i), after)], home);
  }
}

}  // namespace
}  // namespace tarn
