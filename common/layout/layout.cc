#include "common/layout/layout.h"

#include <algorithm>
#include <bit>
#include <string>

#include "common/base/check.h"

namespace tarn {
namespace {

constexpr uint32_t kStripeUnitBytesMin = 4 << 10;
constexpr uint32_t kStripeUnitBytesMax = 4 << 20;
constexpr uint64_t kChunkSizeBytesMax = 1 << 30;
constexpr uint64_t kChunkIndexCount = uint64_t{1} << 32;

Status Invalid(std::string text) { return Status(StatusCode::kInvalidArgument, std::move(text)); }

// The bytes of a column that lie before `file_size`, if nothing is a hole.
uint64_t ColumnBytes(const FileLayout& layout, uint32_t column, uint64_t file_size) {
  const uint64_t full_units = file_size / layout.stripe_unit_bytes;
  const uint64_t full_rows = full_units / layout.width;
  const uint64_t units_in_last_row = full_units % layout.width;
  uint64_t bytes = full_rows * layout.stripe_unit_bytes;
  if (column < units_in_last_row) bytes += layout.stripe_unit_bytes;
  if (column == units_in_last_row) bytes += file_size % layout.stripe_unit_bytes;
  return bytes;
}

}  // namespace

Status ValidateLayout(const FileLayout& layout) {
  const uint32_t unit = layout.stripe_unit_bytes;
  if (!std::has_single_bit(unit) || unit < kStripeUnitBytesMin || unit > kStripeUnitBytesMax) {
    return Invalid("stripe_unit_bytes is " + std::to_string(unit) + ", must be a power of two from 4096 to 4194304");
  }
  if (layout.width < 1 || layout.width > kStripeWidthMax) {
    return Invalid("width is " + std::to_string(layout.width) + ", must be from 1 to " +
                   std::to_string(kStripeWidthMax));
  }
  const uint64_t chunk = layout.chunk_size_bytes;
  if (chunk < unit || chunk > kChunkSizeBytesMax || chunk % unit != 0) {
    return Invalid("chunk_size_bytes is " + std::to_string(chunk) + ", must be a multiple of stripe_unit_bytes (" +
                   std::to_string(unit) + ") up to " + std::to_string(kChunkSizeBytesMax));
  }
  return Status::Ok();
}

uint64_t FileSizeMaxOf(const FileLayout& layout) {
  const uint64_t chunk_rows = kChunkIndexCount / layout.width;
  return std::min(kFileSizeMax, chunk_rows * layout.width * layout.chunk_size_bytes);
}

ChunkPiece PieceAt(const FileLayout& layout, uint64_t file_offset, uint64_t length_max) {
  CHECK(file_offset < FileSizeMaxOf(layout), "offset past the largest file of this layout");
  const uint64_t unit = file_offset / layout.stripe_unit_bytes;
  const uint64_t offset_in_unit = file_offset % layout.stripe_unit_bytes;
  const uint64_t units_per_chunk = layout.chunk_size_bytes / layout.stripe_unit_bytes;
  const uint64_t unit_of_column = unit / layout.width;
  const auto column = static_cast<uint32_t>(unit % layout.width);
  return ChunkPiece{
      .chunk_index = static_cast<uint32_t>(unit_of_column / units_per_chunk * layout.width + column),
      .column = column,
      .chunk_offset = unit_of_column % units_per_chunk * layout.stripe_unit_bytes + offset_in_unit,
      .file_offset = file_offset,
      .length = std::min(length_max, layout.stripe_unit_bytes - offset_in_unit),
  };
}

std::vector<ChunkPiece> SplitRange(const FileLayout& layout, ByteRange range) {
  std::vector<ChunkPiece> pieces;
  if (range.empty()) return pieces;
  pieces.reserve(range.length / layout.stripe_unit_bytes + 2);
  for (uint64_t offset = range.offset; offset < range.end();) {
    pieces.push_back(PieceAt(layout, offset, range.end() - offset));
    offset += pieces.back().length;
  }
  return pieces;
}

uint32_t GroupIndexOfColumn(const FileLayout& layout, uint32_t column, uint32_t group_count) {
  CHECK(group_count > 0, "a group set is never empty");
  return static_cast<uint32_t>((layout.seed % group_count + column) % group_count);
}

uint64_t ChunkBytesForFileSize(const FileLayout& layout, uint32_t chunk_index, uint64_t file_size) {
  const uint64_t column_bytes = ColumnBytes(layout, ColumnOfChunk(layout, chunk_index), file_size);
  const uint64_t chunk_begin = chunk_index / layout.width * layout.chunk_size_bytes;
  return column_bytes <= chunk_begin ? 0 : std::min(column_bytes - chunk_begin, layout.chunk_size_bytes);
}

uint64_t ChunkIndexEnd(const FileLayout& layout, uint64_t file_size) {
  if (file_size == 0) return 0;
  const uint64_t unit_count = (file_size - 1) / layout.stripe_unit_bytes + 1;
  const uint64_t units_per_chunk_row = layout.chunk_size_bytes / layout.stripe_unit_bytes * layout.width;
  const uint64_t last_chunk_row = (unit_count - 1) / units_per_chunk_row;
  const uint64_t units_in_last_chunk_row = unit_count - last_chunk_row * units_per_chunk_row;
  return last_chunk_row * layout.width + std::min<uint64_t>(layout.width, units_in_last_chunk_row);
}

uint32_t ColumnOfChunk(const FileLayout& layout, uint32_t chunk_index) { return chunk_index % layout.width; }

}  // namespace tarn
