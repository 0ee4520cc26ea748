#include "chunkserver/store/extent_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

namespace tarn::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// A record with one block of header whose data begins at chunk block `first`.
RecordPlace Record(uint32_t header_block, uint32_t first, uint32_t count) {
  return RecordPlace{.segment = SegmentNumber(1),
                     .header_block = header_block,
                     .record_first_block = first,
                     .record_blocks = static_cast<uint16_t>(count),
                     .header_blocks = 1,
                     .flags = 0};
}

std::vector<DeadRange> Place(ExtentMap* map, const RecordPlace& record) {
  std::vector<uint64_t> sums;
  for (uint32_t i = 0; i < record.record_blocks; ++i) sums.push_back(record.header_block * 1000 + i);
  ExtentMap::Dead dead;
  map->Place({record.record_first_block, record.record_first_block + record.record_blocks}, record, sums, &dead);
  EXPECT_THAT(dead.cuts, IsEmpty());
  return dead.ranges;
}

DeadRange Dead(uint32_t first, uint32_t count) { return {SegmentNumber(1), first, count}; }

TEST(ExtentMap, AWholeRecordDiesWithItsHeader) {
  ExtentMap map;
  EXPECT_THAT(Place(&map, Record(10, 0, 4)), IsEmpty());
  EXPECT_THAT(Place(&map, Record(20, 0, 4)), ElementsAre(Dead(10, 5)));
}

TEST(ExtentMap, AHeaderLivesAsLongAsAnyOfItsBlocks) {
  ExtentMap map;
  Place(&map, Record(10, 0, 4));
  EXPECT_THAT(Place(&map, Record(20, 1, 2)), ElementsAre(Dead(12, 2)));
  EXPECT_THAT(Place(&map, Record(30, 0, 1)), ElementsAre(Dead(11, 1)));
  EXPECT_THAT(Place(&map, Record(40, 3, 1)), ElementsAre(Dead(10, 1), Dead(14, 1)));
}

TEST(ExtentMap, AnInlineRecordIsItsHeaderOnly) {
  ExtentMap map;
  RecordPlace record = Record(10, 3, 1);
  record.flags = kRecordInline;
  Place(&map, record);
  EXPECT_EQ(map.FindBlock(3)->place.FilePosition(3), 10 * kBlockBytes + kInlineDataOffset);
  EXPECT_THAT(Place(&map, Record(20, 3, 1)), ElementsAre(Dead(10, 1)));
}

TEST(ExtentMap, TheHeaderOfACutIsNoSpaceToBeFreedWithTheRest) {
  ExtentMap map;
  RecordPlace cut = Record(10, 3, 1);
  cut.flags = kPlaceInCut;
  Place(&map, cut);
  ExtentMap::Dead dead;
  const uint64_t sum = 1;
  map.Place({3, 4}, Record(20, 3, 1), {&sum, 1}, &dead);
  EXPECT_THAT(dead.cuts, ElementsAre(Dead(10, 1)));
  EXPECT_THAT(dead.ranges, ElementsAre(Dead(11, 1)));
}

TEST(ExtentMap, PlacingARecordOverItselfKillsNothing) {
  ExtentMap map;
  Place(&map, Record(10, 0, 4));
  EXPECT_THAT(Place(&map, Record(10, 0, 4)), IsEmpty());
}

TEST(ExtentMap, RecordsMayCrossUnits) {
  ExtentMap map;
  Place(&map, Record(10, kUnitBlocks - 2, 4));
  EXPECT_EQ(map.units().size(), 2u);
  std::vector<Extent> found;
  map.Find({kUnitBlocks - 1, kUnitBlocks + 1}, &found);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].place.FilePosition(found[0].first_block), 12 * kBlockBytes);
  EXPECT_EQ(found[1].place.FilePosition(found[1].first_block), 13 * kBlockBytes);
  // The header is needed by the half in the other unit.
  EXPECT_THAT(Place(&map, Record(20, kUnitBlocks, 2)), ElementsAre(Dead(13, 2)));
  const BlockRange needed = map.BlocksNeededFor({kUnitBlocks - 1, kUnitBlocks});
  EXPECT_EQ(needed.first, kUnitBlocks - 2);
  EXPECT_EQ(needed.end, kUnitBlocks + 2);
}

TEST(ExtentMap, HolesHaveTheSumOfZeros) {
  ExtentMap map;
  Place(&map, Record(10, 2, 1));
  std::string sums;
  map.AppendSums({1, 5}, &sums);
  ASSERT_EQ(sums.size(), 4 * kSumBytes);
  EXPECT_EQ(LoadSum(sums, 0), ZeroBlockSum());
  EXPECT_EQ(LoadSum(sums, 1), 10'000u);
  EXPECT_EQ(LoadSum(sums, 2), ZeroBlockSum());
  EXPECT_EQ(map.SumOf(700), ZeroBlockSum());
  EXPECT_EQ(map.FindBlock(1), nullptr);
}

TEST(ExtentMap, RemovedBlocksAreHoles) {
  ExtentMap map;
  Place(&map, Record(10, 0, 8));
  ExtentMap::Dead dead;
  map.Remove({3, 300}, &dead);
  EXPECT_THAT(dead.ranges, ElementsAre(Dead(14, 5)));
  EXPECT_EQ(map.SumOf(3), ZeroBlockSum());
  EXPECT_EQ(map.FindBlock(3), nullptr);
  EXPECT_NE(map.FindBlock(2), nullptr);
  EXPECT_TRUE(map.units().at(0).dirty);
}

// Every block remembers who wrote it last, and each block of the segment dies exactly once.
TEST(ExtentMap, AgreesWithAnArrayOfBlocks) {
  constexpr uint32_t kBlocks = 700;
  std::mt19937 engine(3);
  ExtentMap map;
  std::vector<uint32_t> owner(kBlocks, 0);  // segment block of each chunk block, 0: hole
  std::set<uint32_t> written;
  std::set<uint32_t> freed;
  uint32_t tail = 1;
  for (int round = 0; round < 2'000; ++round) {
    const uint32_t first = engine() % kBlocks;
    const uint32_t count = 1 + engine() % std::min(kBlocks - first, 300u);
    ExtentMap::Dead dead;
    if (engine() % 4 == 0) {
      map.Remove({first, first + count}, &dead);
      std::fill_n(owner.begin() + first, count, 0);
    } else {
      for (uint32_t block = 0; block <= count; ++block) written.insert(tail + block);
      dead.ranges = Place(&map, Record(tail, first, count));
      for (uint32_t i = 0; i < count; ++i) owner[first + i] = tail + 1 + i;
      tail += count + 1;
    }
    for (const DeadRange& range : dead.ranges) {
      for (uint32_t i = 0; i < range.block_count; ++i) {
        ASSERT_TRUE(freed.insert(range.first_block + i).second) << "freed twice in round " << round;
      }
    }
  }
  for (uint32_t block = 0; block < kBlocks; ++block) {
    const Extent* extent = map.FindBlock(block);
    ASSERT_EQ(extent == nullptr ? 0 : extent->place.FilePosition(block) / kBlockBytes, owner[block]) << block;
    ASSERT_TRUE(owner[block] == 0 || !freed.contains(owner[block])) << block;
  }
  ExtentMap::Dead dead;
  map.Remove({0, kBlocks}, &dead);
  for (const DeadRange& range : dead.ranges) {
    for (uint32_t i = 0; i < range.block_count; ++i) freed.insert(range.first_block + i);
  }
  EXPECT_EQ(freed, written);
}

}  // namespace
}  // namespace tarn::store
