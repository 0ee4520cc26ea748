#include "common/checksum/block_sums.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "common/checksum/xxh3_kernels.h"

namespace tarn {
namespace {

std::vector<uint8_t> Counting(size_t size) {
  std::vector<uint8_t> bytes(size);
  std::iota(bytes.begin(), bytes.end(), uint8_t{0});
  return bytes;
}

// Bytes that lie on disks and travel between versions: from the reference program (xxhsum -H3 prints the same numbers).
TEST(BlockSums, GoldenValues) {
  EXPECT_EQ(Xxh3({}), 0x2d06800538d394c2ull);
  EXPECT_EQ(Xxh3(Counting(256)), 0x9408a4433b952d71ull);
  EXPECT_EQ(Xxh3(std::vector<uint8_t>(4096, 0)), 0x93d76fe148c689baull);
  EXPECT_EQ(ZeroBlockSum(), Xxh3(std::vector<uint8_t>(4096, 0)));
  EXPECT_EQ(ComputePieceSums(0, Counting(256)), std::string("\x71\x2d\x95\x3b\x43\xa4\x08\x94", 8));
}

TEST(BlockSums, KernelsAgree) {
  std::mt19937_64 random(1);
  for (size_t length :
       {0u, 1u, 3u, 16u, 17u, 128u, 129u, 240u, 241u, 1023u, 1024u, 1025u, 4095u, 4096u, 4097u, 70'000u}) {
    std::vector<uint8_t> bytes(length);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    EXPECT_EQ(Xxh3(bytes), checksum::Xxh3Baseline(bytes.data(), bytes.size())) << length;
  }
}

TEST(BlockSums, PiecesAreCutAtBlocksOfTheChunk) {
  EXPECT_EQ(PieceCount(0, 0), 0u);
  EXPECT_EQ(PieceCount(0, 1), 1u);
  EXPECT_EQ(PieceCount(0, 4096), 1u);
  EXPECT_EQ(PieceCount(0, 4097), 2u);
  EXPECT_EQ(PieceCount(4095, 2), 2u);
  EXPECT_EQ(PieceCount(4000, 8192), 3u);

  const std::vector<uint8_t> bytes = Counting(10'000);
  const std::string sums = ComputePieceSums(4000, bytes);
  ASSERT_EQ(sums.size(), PieceCount(4000, bytes.size()) * kSumBytes);
  const std::span<const uint8_t> all(bytes);
  EXPECT_EQ(LoadSum(sums, 0), Xxh3(all.subspan(0, 96)));
  EXPECT_EQ(LoadSum(sums, 1), Xxh3(all.subspan(96, 4096)));
  EXPECT_EQ(LoadSum(sums, 2), Xxh3(all.subspan(96 + 4096, 4096)));
  EXPECT_EQ(LoadSum(sums, 3), Xxh3(all.subspan(96 + 2 * 4096)));
}

TEST(BlockSums, AFlippedBitIsFoundInItsPiece) {
  std::vector<uint8_t> bytes = Counting(20'000);
  const std::string sums = ComputePieceSums(100, bytes);
  EXPECT_FALSE(FindBadPiece(100, bytes, sums).has_value());
  for (size_t position : {0u, 3995u, 3996u, 12'000u, 19'999u}) {
    bytes[position] ^= 0x10;
    EXPECT_EQ(FindBadPiece(100, bytes, sums), (100 + position) / 4096) << position;
    bytes[position] ^= 0x10;
  }
}

TEST(BlockSums, AMissingSumIsABadPiece) {
  const std::vector<uint8_t> bytes = Counting(8192);
  const std::string sums = ComputePieceSums(0, bytes);
  EXPECT_EQ(FindBadPiece(0, bytes, std::string_view(sums).substr(0, 8)), 1u);
  EXPECT_EQ(FindBadPiece(0, bytes, std::string_view(sums).substr(0, 15)), 1u);
  EXPECT_EQ(FindBadPiece(0, bytes, ""), 0u);
}

TEST(BlockSums, AppendedSumsLoadBack) {
  std::string sums;
  AppendSum(sums, 0x0102030405060708ull);
  AppendSum(sums, 42);
  EXPECT_EQ(sums.substr(0, 8), std::string("\x08\x07\x06\x05\x04\x03\x02\x01", 8));
  EXPECT_EQ(LoadSum(sums, 1), 42u);
}

}  // namespace
}  // namespace tarn
