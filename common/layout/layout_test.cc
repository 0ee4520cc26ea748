#include "common/layout/layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

namespace tarn {
namespace {

constexpr uint64_t kKiB = 1 << 10;
constexpr uint64_t kMiB = 1 << 20;

FileLayout SmallLayout() {
  FileLayout layout;
  layout.stripe_unit_bytes = 4096;
  layout.width = 3;
  layout.chunk_size_bytes = 8192;
  return layout;
}

// Fixed for ever: a file written under one version is read by every later one.
TEST(Layout, TableOfPieces) {
  struct Row {
    uint64_t file_offset;
    uint32_t chunk_index;
    uint32_t column;
    uint64_t chunk_offset;
    uint64_t length;
  };
  // Two units to a chunk, three columns: units 0..5 are row 0 of chunks, 6..11 row 1.
  const Row rows[] = {
      {0, 0, 0, 0, 4096},         {1, 0, 0, 1, 4095},           {4096, 1, 1, 0, 4096},
      {8192, 2, 2, 0, 4096},      {3 * 4096, 0, 0, 4096, 4096}, {5 * 4096 + 7, 2, 2, 4103, 4089},
      {6 * 4096, 3, 0, 0, 4096},  {7 * 4096, 4, 1, 0, 4096},    {9 * 4096, 3, 0, 4096, 4096},
      {12 * 4096, 6, 0, 0, 4096},
  };
  for (const Row& row : rows) {
    const ChunkPiece piece = PieceAt(SmallLayout(), row.file_offset, 1 << 30);
    EXPECT_EQ(piece.chunk_index, row.chunk_index) << row.file_offset;
    EXPECT_EQ(piece.column, row.column) << row.file_offset;
    EXPECT_EQ(piece.chunk_offset, row.chunk_offset) << row.file_offset;
    EXPECT_EQ(piece.file_offset, row.file_offset);
    EXPECT_EQ(piece.length, row.length) << row.file_offset;
  }
  const ChunkPiece default_piece = PieceAt(FileLayout{}, 600 * kMiB + 5, 10);
  EXPECT_EQ(default_piece.chunk_index, 8u);
  EXPECT_EQ(default_piece.chunk_offset, 11 * kMiB + 5);
  EXPECT_EQ(default_piece.length, 10u);
}

TEST(Layout, TableOfChunkBytes) {
  const FileLayout layout = SmallLayout();
  EXPECT_EQ(ChunkBytesForFileSize(layout, 0, 0), 0u);
  EXPECT_EQ(ChunkBytesForFileSize(layout, 0, 1), 1u);
  EXPECT_EQ(ChunkBytesForFileSize(layout, 1, 4096), 0u);
  EXPECT_EQ(ChunkBytesForFileSize(layout, 1, 4097), 1u);
  EXPECT_EQ(ChunkBytesForFileSize(layout, 0, 3 * 4096 + 5), 4096u + 5);
  EXPECT_EQ(ChunkBytesForFileSize(layout, 0, 1000 * kKiB), 8192u);
  EXPECT_EQ(ChunkBytesForFileSize(layout, 3, 6 * 4096), 0u);
  EXPECT_EQ(ChunkBytesForFileSize(layout, 3, 6 * 4096 + 9), 9u);
  EXPECT_EQ(ChunkIndexEnd(layout, 0), 0u);
  EXPECT_EQ(ChunkIndexEnd(layout, 1), 1u);
  EXPECT_EQ(ChunkIndexEnd(layout, 4097), 2u);
  EXPECT_EQ(ChunkIndexEnd(layout, 6 * 4096), 3u);
  EXPECT_EQ(ChunkIndexEnd(layout, 6 * 4096 + 1), 4u);
}

TEST(Layout, GroupsOfNeighbouringColumnsAreNeighbours) {
  FileLayout layout;
  layout.seed = ~uint64_t{0};
  for (uint32_t column = 0; column + 1 < 20; ++column) {
    EXPECT_EQ(GroupIndexOfColumn(layout, column + 1, 7), (GroupIndexOfColumn(layout, column, 7) + 1) % 7);
  }
  EXPECT_EQ(GroupIndexOfColumn(layout, 0, 1), 0u);
  layout.seed = 10;
  EXPECT_EQ(GroupIndexOfColumn(layout, 0, 64), 10u);
}

TEST(Layout, BadLayoutsAreNamed) {
  const auto code = [](auto change) {
    FileLayout layout;
    change(layout);
    return ValidateLayout(layout).code();
  };
  EXPECT_EQ(code([](FileLayout&) {}), StatusCode::kOk);
  EXPECT_EQ(code([](FileLayout& l) { l.stripe_unit_bytes = 0; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](FileLayout& l) { l.stripe_unit_bytes = 2048; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](FileLayout& l) { l.stripe_unit_bytes = 8 << 20; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](FileLayout& l) { l.stripe_unit_bytes = 12288; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](FileLayout& l) { l.width = 0; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](FileLayout& l) { l.width = 257; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](FileLayout& l) { l.chunk_size_bytes = 0; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](FileLayout& l) { l.chunk_size_bytes = 3 * kMiB + 1; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](FileLayout& l) { l.chunk_size_bytes = 2048 * kMiB; }), StatusCode::kInvalidArgument);
  EXPECT_EQ(code([](FileLayout& l) { l.chunk_size_bytes = kMiB; }), StatusCode::kOk);
}

TEST(Layout, ChunkIndexesOfTheLargestFileFit) {
  for (uint32_t unit : {4096u, 1u << 20, 4u << 20}) {
    for (uint32_t width : {1u, 3u, 8u, 255u, 256u}) {
      for (uint64_t chunk : {uint64_t{unit}, uint64_t{unit} * 3, 1024 * kMiB / unit * unit}) {
        FileLayout layout;
        layout.stripe_unit_bytes = unit;
        layout.width = width;
        layout.chunk_size_bytes = chunk;
        const uint64_t size = FileSizeMaxOf(layout);
        EXPECT_LE(size, kFileSizeMax);
        EXPECT_LE(ChunkIndexEnd(layout, size), uint64_t{1} << 32);
        const ChunkPiece last = PieceAt(layout, size - 1, 1);
        EXPECT_EQ(ChunkBytesForFileSize(layout, last.chunk_index, size), last.chunk_offset + 1);
      }
    }
  }
}

FileLayout RandomLayout(std::mt19937_64& random) {
  FileLayout layout;
  layout.stripe_unit_bytes = 4096u << (random() % 4);
  layout.width = 1 + random() % 9;
  layout.chunk_size_bytes = layout.stripe_unit_bytes * (1 + random() % 5);
  layout.seed = random();
  return layout;
}

TEST(Layout, SplitRangeCoversEveryByteOnce) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 300; ++round) {
    const FileLayout layout = RandomLayout(random);
    ASSERT_TRUE(ValidateLayout(layout).ok());
    const ByteRange range{random() % (4 * kMiB), random() % kMiB};
    uint64_t next = range.offset;
    std::map<uint32_t, std::set<std::pair<uint64_t, uint64_t>>> used;
    for (const ChunkPiece& piece : SplitRange(layout, range)) {
      ASSERT_EQ(piece.file_offset, next);
      ASSERT_GT(piece.length, 0u);
      ASSERT_EQ(piece.column, ColumnOfChunk(layout, piece.chunk_index));
      ASSERT_LE(piece.chunk_offset + piece.length, layout.chunk_size_bytes);
      ASSERT_LT(piece.chunk_index, ChunkIndexEnd(layout, range.end()));
      used[piece.chunk_index].emplace(piece.chunk_offset, piece.chunk_offset + piece.length);
      next += piece.length;
    }
    ASSERT_EQ(next, range.end());
    for (const auto& [chunk, extents] : used) {
      uint64_t end = 0;
      for (const auto& [begin, extent_end] : extents) {
        ASSERT_GE(begin, end) << "two file bytes in one place of chunk " << chunk;
        end = extent_end;
      }
    }
  }
}

TEST(Layout, ChunkBytesAgreeWithSplitRange) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 300; ++round) {
    const FileLayout layout = RandomLayout(random);
    const uint64_t size = round == 0 ? 0 : random() % (2 * kMiB);
    std::map<uint32_t, uint64_t> chunk_bytes;
    for (const ChunkPiece& piece : SplitRange(layout, {0, size})) {
      chunk_bytes[piece.chunk_index] = std::max(chunk_bytes[piece.chunk_index], piece.chunk_offset + piece.length);
    }
    const uint64_t end = ChunkIndexEnd(layout, size);
    ASSERT_EQ(end, chunk_bytes.empty() ? 0u : chunk_bytes.rbegin()->first + 1);
    for (uint32_t chunk = 0; chunk < end + 2 * layout.width; ++chunk) {
      const auto found = chunk_bytes.find(chunk);
      ASSERT_EQ(ChunkBytesForFileSize(layout, chunk, size), found == chunk_bytes.end() ? 0 : found->second)
          << chunk << " of " << size;
    }
  }
}

}  // namespace
}  // namespace tarn
