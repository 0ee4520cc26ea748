#include "client/data/block_allocator.h"

#include <gtest/gtest.h>

#include <random>
#include <utility>
#include <vector>

namespace tarn::client {
namespace {

TEST(BlockAllocator, GivesTheLowestRunsFirst) {
  BlockAllocator allocator(64, 4);
  EXPECT_EQ(allocator.Allocate(0), 0u);
  EXPECT_EQ(allocator.Allocate(0), 1u);
  EXPECT_EQ(allocator.Allocate(2), 4u);
  EXPECT_EQ(allocator.Allocate(1), 2u);
  EXPECT_EQ(allocator.used_blocks(), 8u);
}

TEST(BlockAllocator, JoinsFreedNeighbours) {
  BlockAllocator allocator(16, 4);
  std::vector<uint64_t> blocks;
  for (int i = 0; i < 16; ++i) blocks.push_back(*allocator.Allocate(0));
  EXPECT_FALSE(allocator.Allocate(0).has_value());
  for (const uint64_t block : blocks) allocator.Free(block, 0);
  EXPECT_EQ(allocator.used_blocks(), 0u);
  EXPECT_EQ(allocator.Allocate(4), 0u);
}

TEST(BlockAllocator, UsesACountThatIsNoPowerOfTwo) {
  BlockAllocator allocator(21, 3);
  uint64_t blocks = 0;
  while (allocator.Allocate(0)) ++blocks;
  EXPECT_EQ(blocks, 21u);
}

TEST(BlockAllocator, RunsNeverOverlap) {
  std::mt19937 random(7);
  BlockAllocator allocator(300, 5);
  std::vector<bool> taken(300);
  std::vector<std::pair<uint64_t, uint32_t>> runs;
  for (int step = 0; step < 20'000; ++step) {
    if (random() % 2 == 0) {
      const uint32_t order = random() % 6;
      const auto run = allocator.Allocate(order);
      if (!run) continue;
      ASSERT_EQ(*run % (1u << order), 0u);
      for (uint64_t i = *run; i < *run + (1u << order); ++i) {
        ASSERT_LT(i, 300u);
        ASSERT_FALSE(taken[i]);
        taken[i] = true;
      }
      runs.emplace_back(*run, order);
    } else if (!runs.empty()) {
      std::swap(runs[random() % runs.size()], runs.back());
      const auto [run, order] = runs.back();
      runs.pop_back();
      for (uint64_t i = run; i < run + (1u << order); ++i) taken[i] = false;
      allocator.Free(run, order);
    }
  }
}

}  // namespace
}  // namespace tarn::client
