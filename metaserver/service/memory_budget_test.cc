#include "metaserver/service/memory_budget.h"

#include <gtest/gtest.h>

namespace tarn::meta {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

TEST(MemoryBudget, LeavesRoomForWhatHasNoBudget) {
  for (const uint64_t limit : {64 * kMiB, 128 * kMiB, 256 * kMiB, 1024 * kMiB, 65536 * kMiB}) {
    const MemoryBudget budget = ShareOut(limit);
    EXPECT_GE(budget.store_bytes, 8 * kMiB);
    // A batch of mutations must fit, and libraft keeps up to three times what makes a snapshot due.
    EXPECT_GE(budget.waiting_mutations_bytes, 4 * kMiB);
    EXPECT_LE(budget.store_bytes + 3 * budget.deferred_bytes + budget.waiting_mutations_bytes + 3 * budget.log_bytes, limit * 3 / 4) << limit;
  }
}

TEST(MemoryBudget, DefaultFollowsTheContainer) {
  EXPECT_EQ(DefaultMemoryLimit(16384 * kMiB, std::nullopt), 2048 * kMiB);
  EXPECT_EQ(DefaultMemoryLimit(1024 * kMiB, std::nullopt), 256 * kMiB);
  EXPECT_EQ(DefaultMemoryLimit(1048576 * kMiB, std::nullopt), 8192 * kMiB);
  EXPECT_EQ(DefaultMemoryLimit(16384 * kMiB, 2048 * kMiB), 1024 * kMiB);
  EXPECT_EQ(DefaultMemoryLimit(16384 * kMiB, 400 * kMiB), 256 * kMiB);
  EXPECT_EQ(DefaultMemoryLimit(16384 * kMiB, 200 * kMiB), 150 * kMiB);
  EXPECT_EQ(DefaultMemoryLimit(16384 * kMiB, 99999 * kMiB), 2048 * kMiB);  // no bound in truth
}

}  // namespace
}  // namespace tarn::meta
