// The arithmetic of file layouts: which bytes of a file lie in which chunk on which placement group (docs/formats.md, "Layout").
//
// A file is cut into stripe units, dealt round-robin over `width` columns. Column c lives on one placement group; the units of a
// column, one after another, form its chunks of up to chunk_size bytes. Chunk index = chunk row * width + column.
// Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/byte_range.h"
#include "common/base/ids.h"
#include "common/base/status.h"

namespace tarn {

inline constexpr uint32_t kDefaultStripeUnitBytes = 1 << 20;
inline constexpr uint32_t kDefaultStripeWidth = 8;
inline constexpr uint64_t kDefaultChunkSizeBytes = 64 << 20;
inline constexpr uint32_t kStripeWidthMax = 256;
inline constexpr uint64_t kFileSizeMax = uint64_t{1} << 53;  // of any layout; FileSizeMaxOf() is the bound of a given one

struct FileLayout {
  GroupSetVersion group_set;
  uint64_t seed = 0;
  uint32_t stripe_unit_bytes = kDefaultStripeUnitBytes;
  uint32_t width = kDefaultStripeWidth;
  uint64_t chunk_size_bytes = kDefaultChunkSizeBytes;
};

// kInvalidArgument, naming the field and the allowed values: stripe unit a power of two in [4 KiB, 4 MiB], width in [1, kStripeWidthMax],
// chunk size a multiple of the stripe unit in [stripe unit, 1 GiB].
Status ValidateLayout(const FileLayout& layout);

// The largest file a valid layout allows: chunk indexes have 32 bits, so chunks below 2 MiB allow less than kFileSizeMax. Every offset
// and size given to the functions below must lie within it; callers refuse larger ones with kFileTooLarge.
uint64_t FileSizeMaxOf(const FileLayout& layout);

// A piece of a file that lies in one chunk, contiguous in both.
struct ChunkPiece {
  uint32_t chunk_index = 0;
  uint32_t column = 0;
  uint64_t chunk_offset = 0;
  uint64_t file_offset = 0;
  uint64_t length = 0;
};

// The piece that begins at `file_offset`, at most `length_max` long; it ends at the latest with its stripe unit.
ChunkPiece PieceAt(const FileLayout& layout, uint64_t file_offset, uint64_t length_max);

// All pieces of a range, in file order.
std::vector<ChunkPiece> SplitRange(const FileLayout& layout, ByteRange range);

// Position in the group set (0 <= result < group_count) of a column. Neighbouring columns get neighbouring groups, so a planner that
// interleaves targets spreads a file. `group_count` > 0.
uint32_t GroupIndexOfColumn(const FileLayout& layout, uint32_t column, uint32_t group_count);

// The bytes of chunk `chunk_index` that belong to a file of `file_size` bytes: its length if nothing is a hole. A truncate to
// file_size leaves exactly this much of the chunk.
uint64_t ChunkBytesForFileSize(const FileLayout& layout, uint32_t chunk_index, uint64_t file_size);

// One more than the highest chunk index a file of this size can have; 0 for an empty file.
uint64_t ChunkIndexEnd(const FileLayout& layout, uint64_t file_size);

uint32_t ColumnOfChunk(const FileLayout& layout, uint32_t chunk_index);

}  // namespace tarn
