#include "common/base/ids.h"

#include <gtest/gtest.h>

#include "common/base/byte_range.h"

namespace tarn {
namespace {

TEST(Ids, PartsLieWhereTheFormatSays) {
  const uint64_t id = ComposeId(0x7ff, 0xab, 0x123456789abull);
  EXPECT_EQ(id, 0x7ffab123456789abull);
  EXPECT_EQ(IdMetadataGroup(id), 0x7ffu);
  EXPECT_EQ(IdIncarnation(id), 0xabu);
  EXPECT_EQ(IdCounter(id), 0x123456789abull);
  EXPECT_EQ(ComposeId(1, 0, 1), uint64_t{1} << 52 | 1);
  EXPECT_EQ(IdCounter(ComposeId(0, 0, kIdCounterMax)), kIdCounterMax);
  EXPECT_EQ(IdIncarnation(ComposeId(0, 0, kIdCounterMax)), 0u);
}

TEST(Ids, ChunkIdsReadAsDataAndIndex) { EXPECT_EQ(ToString(ChunkId{DataId(17), 3}), "17:3"); }

TEST(ByteRange, IntersectionIsTheCommonPart) {
  EXPECT_EQ(Intersect({10, 10}, {15, 10}), (ByteRange{15, 5}));
  EXPECT_TRUE(Intersect({10, 10}, {20, 5}).empty());
  EXPECT_TRUE((ByteRange{10, 10}).Overlaps({19, 1}));
  EXPECT_FALSE((ByteRange{10, 10}).Overlaps({20, 1}));
}

}  // namespace
}  // namespace tarn
