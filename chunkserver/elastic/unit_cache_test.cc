#include "chunkserver/elastic/unit_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "common/base/posix_io.h"
#include "common/checksum/block_sums.h"

namespace tarn::elastic {
namespace {

constexpr ChunkId kChunk{DataId(7), 0};
constexpr Generation kOne{.map_incarnation = 1, .data = 10, .truncate = 1};
constexpr Generation kTwo{.map_incarnation = 1, .data = 11, .truncate = 1};

std::vector<uint8_t> Bytes(size_t length, uint8_t seed) {
  std::vector<uint8_t> bytes(length);
  for (size_t i = 0; i < length; ++i) bytes[i] = static_cast<uint8_t>(seed + i / 4096 + i);
  return bytes;
}

class UnitCacheTest : public testing::Test {
 protected:
  UnitCacheTest() {
    std::string pattern = testing::TempDir() + "unit_cache_XXXXXX";
    directory_ = mkdtemp(pattern.data());
    cache_ = *UnitCache::Open(directory_, UnitLog::kBudgetBytesMin);
  }
  ~UnitCacheTest() override { std::filesystem::remove_all(directory_); }

  void Put(ChunkId chunk, Generation generation, UnitRun run, const std::vector<uint8_t>& bytes, uint64_t version = 1) {
    cache_->Put(chunk, generation, run, {.chunk_bytes = bytes.size(), .version = version, .bytes = bytes, .sums = ComputePieceSums(0, bytes)});
  }
  // What the cache gives of the range; its sums hold.
  std::vector<uint8_t> Get(ChunkId chunk, Generation generation, Range range) {
    const Found found = cache_->Find(chunk, generation, range);
    EXPECT_TRUE(!found.refused && found.missing.empty());
    if (found.refused || !found.missing.empty()) return {};
    std::vector<uint8_t> bytes(found.read.data.length);
    std::string sums;
    std::span<uint8_t> left = bytes;
    for (const store::ReadPiece& piece : found.read.data.pieces) {
      EXPECT_TRUE(PreadFull(piece.fd, left.first(piece.length), piece.file_offset, "unit").ok());
      left = left.subspan(piece.length);
    }
    for (const store::ReadPiece& piece : found.read.sums) {
      std::string part(piece.length, '\0');
      EXPECT_TRUE(PreadFull(piece.fd, {reinterpret_cast<uint8_t*>(part.data()), part.size()}, piece.file_offset, "sums").ok());
      sums += part;
    }
    EXPECT_EQ(sums, ComputePieceSums(range.offset, bytes));
    return bytes;
  }
  // Spoils a byte of a unit on the disk.
  void Spoil(ChunkId chunk, Generation generation, uint64_t offset) {
    const Found found = cache_->Find(chunk, generation, {offset / 4096 * 4096, 4096});
    ASSERT_TRUE(found.missing.empty());
    const store::ReadPiece& piece = found.read.data.pieces.front();
    const uint8_t byte = 0xA5;
    ASSERT_TRUE(PwriteFull(piece.fd, {&byte, 1}, piece.file_offset, "spoil").ok());
  }

  std::string directory_;
  std::unique_ptr<UnitCache> cache_;
};

TEST_F(UnitCacheTest, GivesWhatWasPutAcrossUnits) {
  const std::vector<uint8_t> bytes = Bytes(3 * kUnitBytes, 1);
  Put(kChunk, kOne, {0, 3}, bytes);
  const Range range{kUnitBytes - 8192, kUnitBytes + 16384};
  const std::vector<uint8_t> part(bytes.begin() + range.offset, bytes.begin() + range.end());
  EXPECT_EQ(Get(kChunk, kOne, range), part);
}

TEST_F(UnitCacheTest, AChunkThatEndsIsCutThere) {
  const std::vector<uint8_t> bytes = Bytes(kUnitBytes + 5'000, 2);
  Put(kChunk, kOne, {0, 4}, bytes);
  EXPECT_EQ(Get(kChunk, kOne, {0, 4 * kUnitBytes}), bytes);
  const std::vector<uint8_t> tail(bytes.begin() + kUnitBytes + 4096, bytes.end());
  EXPECT_EQ(Get(kChunk, kOne, {kUnitBytes + 4096, 8192}), tail);
}

TEST_F(UnitCacheTest, AnEmptyChunkIsKnownToBeEmpty) {
  Put(kChunk, kOne, {0, 1}, {});
  EXPECT_EQ(Get(kChunk, kOne, {0, 4096}), std::vector<uint8_t>());
}

TEST_F(UnitCacheTest, NamesWhatIsMissingInRuns) {
  const std::vector<uint8_t> bytes = Bytes(8 * kUnitBytes, 3);
  Put(kChunk, kOne, {3, 1}, std::vector<uint8_t>(bytes.begin(), bytes.begin() + kUnitBytes));
  const Found found = cache_->Find(kChunk, kOne, {kUnitBytes, 5 * kUnitBytes});
  EXPECT_EQ(found.missing, (std::vector<UnitRun>{{1, 2}, {4, 2}}));
}

TEST_F(UnitCacheTest, AnotherGenerationIsNeverGiven) {
  Put(kChunk, kTwo, {0, 1}, Bytes(kUnitBytes, 1));
  EXPECT_TRUE(cache_->Find(kChunk, kOne, {0, 4096}).refused) << "an older reader";
  EXPECT_EQ(cache_->counters().units, 1u);
  Generation newer = kTwo;
  ++newer.data;
  EXPECT_EQ(cache_->Find(kChunk, newer, {0, 4096}).missing, (std::vector<UnitRun>{{0, 1}})) << "a newer reader";
  EXPECT_EQ(cache_->counters().units, 0u) << "nobody asks for the old one any more";
  EXPECT_EQ(cache_->counters().cached_bytes, 0u);
}

TEST_F(UnitCacheTest, EveryPartOfTheGenerationCounts) {
  for (const auto change : {+[](Generation* g) { ++g->data; }, +[](Generation* g) { ++g->truncate; }, +[](Generation* g) { ++g->map_incarnation; }}) {
    Put(kChunk, kOne, {0, 1}, Bytes(kUnitBytes, 1));
    Generation other = kOne;
    change(&other);
    EXPECT_FALSE(cache_->Find(kChunk, other, {0, 4096}).missing.empty());
    cache_->Clear();
  }
}

TEST_F(UnitCacheTest, WhatComesLateForAnOlderGenerationIsNotKept) {
  Put(kChunk, kTwo, {0, 1}, Bytes(kUnitBytes, 2));
  Put(kChunk, kOne, {0, 1}, Bytes(kUnitBytes, 1));
  EXPECT_EQ(Get(kChunk, kTwo, {0, 4096}), (std::vector<uint8_t>(Bytes(4096, 2))));
}

TEST_F(UnitCacheTest, UnitsOfAnotherVersionOfTheChunkDoNotStayTogether) {
  Put(kChunk, kOne, {0, 1}, Bytes(kUnitBytes, 1), 5);
  Put(kChunk, kOne, {1, 1}, Bytes(kUnitBytes, 1), 6);
  EXPECT_EQ(cache_->Find(kChunk, kOne, {0, 2 * kUnitBytes}).missing, (std::vector<UnitRun>{{0, 1}}));
}

TEST_F(UnitCacheTest, TheBudgetHolds) {
  const std::vector<uint8_t> bytes = Bytes(kUnitBytes, 4);
  for (uint64_t i = 1; i <= 4 * UnitLog::kBudgetBytesMin / kUnitBytes; ++i) {
    Put({DataId(i), 0}, kOne, {0, 1}, bytes);
    ASSERT_LE(cache_->open_bytes(), UnitLog::kBudgetBytesMin);
  }
  const UnitCache::Counters counters = cache_->counters();
  EXPECT_LE(counters.cached_bytes, UnitLog::kBudgetBytesMin);
  EXPECT_GT(counters.cached_bytes, UnitLog::kBudgetBytesMin / 2);
  EXPECT_GT(counters.bytes_evicted, 0u);
  EXPECT_FALSE(cache_->Find({DataId(1), 0}, kOne, {0, 4096}).missing.empty()) << "the oldest is gone";
}

TEST_F(UnitCacheTest, WhatIsReadOftenOutlivesWhatIsNot) {
  const std::vector<uint8_t> bytes = Bytes(kUnitBytes, 5);
  for (uint64_t i = 1; i <= 8 * UnitLog::kBudgetBytesMin / kUnitBytes; ++i) {
    Put({DataId(i), 0}, kOne, {0, 1}, bytes);
    ASSERT_EQ(Get({DataId(1), 0}, kOne, {0, kUnitBytes}), bytes) << i;
  }
}

TEST_F(UnitCacheTest, WhatAReaderHoldsStaysReadableAndCountsForTheBudget) {
  const std::vector<uint8_t> bytes = Bytes(kUnitBytes, 6);
  Put(kChunk, kOne, {0, 1}, bytes);
  const Found held = cache_->Find(kChunk, kOne, {0, kUnitBytes});
  for (uint64_t i = 100; i <= 100 + 4 * UnitLog::kBudgetBytesMin / kUnitBytes; ++i) {
    Put({DataId(i), 0}, kOne, {0, 1}, bytes);
    ASSERT_LE(cache_->open_bytes(), UnitLog::kBudgetBytesMin);
  }
  std::vector<uint8_t> read(kUnitBytes);
  const store::ReadPiece& piece = held.read.data.pieces.front();
  ASSERT_TRUE(PreadFull(piece.fd, read, piece.file_offset, "held").ok());
  EXPECT_EQ(read, bytes);
}

TEST_F(UnitCacheTest, UnitsWhoseSumsDoNotHoldAreDropped) {
  Put(kChunk, kOne, {0, 2}, Bytes(2 * kUnitBytes, 7));
  Spoil(kChunk, kOne, kUnitBytes + 4096);
  EXPECT_EQ(cache_->DropBad(kChunk, kOne, {0, 2 * kUnitBytes}), 1u);
  EXPECT_EQ(cache_->Find(kChunk, kOne, {0, 2 * kUnitBytes}).missing, (std::vector<UnitRun>{{1, 1}}));
  EXPECT_EQ(cache_->counters().bad_units, 1u);
}

TEST_F(UnitCacheTest, NothingIsLeftInTheDirectory) {
  Put(kChunk, kOne, {0, 2}, Bytes(2 * kUnitBytes, 8));
  EXPECT_TRUE(std::filesystem::is_empty(directory_)) << "as after a kill at any moment";
}

}  // namespace
}  // namespace tarn::elastic
