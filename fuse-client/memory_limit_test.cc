#include "fuse-client/memory_limit.h"

#include <gtest/gtest.h>

namespace tarn::fuse {
namespace {

TEST(MemoryLimit, IsAnEighthWithinBounds) {
  EXPECT_EQ(ChooseMemoryLimit(4ull << 30), 512ull << 20);
  EXPECT_EQ(ChooseMemoryLimit(256ull << 30), kMemoryLimitMaxBytes);
  EXPECT_EQ(ChooseMemoryLimit(128ull << 20), kMemoryLimitMinBytes);
  EXPECT_EQ(ChooseMemoryLimit(0), kMemoryLimitMinBytes);
}

TEST(MemoryLimit, ThisMachineHasSomeMemory) { EXPECT_GT(AvailableMemoryBytes(), 1u << 20); }

}  // namespace
}  // namespace tarn::fuse
