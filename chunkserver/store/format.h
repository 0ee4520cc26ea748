// On-disk formats of the chunk store: segments, their records, and the values of the index (docs/formats.md, "Chunk store").
//
// Invariant kept by everybody who writes: a block of a segment is written once and then only punched, never overwritten (but for the header of
// a record that failed to be written, which becomes a void record). Little-endian, fixed width, versioned, checksummed.
// Pure functions, thread-safe.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/checksum/block_sums.h"

namespace tarn::store {

static_assert(std::endian::native == std::endian::little, "the on-disk structs are copied as they lie in memory");

// Everything in a segment lies on this grid, and so do the pieces of a chunk that have a sum.
inline constexpr uint32_t kBlockBytes = kSumBlockBytes;
// The index keeps the extents of a chunk by units of this size.
inline constexpr uint32_t kUnitBlocks = 256;
inline constexpr uint64_t kUnitBytes = uint64_t{kUnitBlocks} * kBlockBytes;
inline constexpr uint64_t kChunkBytesMax = uint64_t{1} << 30;
inline constexpr uint32_t kChunkBlocksMax = kChunkBytesMax / kBlockBytes;
// The payload of one write; unaligned, it touches one block more.
inline constexpr uint32_t kWriteBytesMax = 4u << 20;
inline constexpr uint32_t kRecordBlocksMax = kWriteBytesMax / kBlockBytes + 1;

using SegmentNumber = StrongId<struct SegmentNumberTag, uint32_t>;
// Target-wide, rising by one with each record.
using RecordSequence = StrongId<struct RecordSequenceTag, uint64_t>;

constexpr uint32_t BlocksFor(uint64_t bytes) { return static_cast<uint32_t>((bytes + kBlockBytes - 1) / kBlockBytes); }
constexpr uint32_t UnitOfBlock(uint32_t chunk_block) { return chunk_block / kUnitBlocks; }

// ---------------------------------------------------------------------------------------------------------------------------------
// Segments. Block 0 is the segment's header, records follow.

inline constexpr uint32_t kSegmentMagic = 0x53'4e'52'54;  // "TRNS"
inline constexpr uint16_t kSegmentVersion = 1;

struct SegmentHeader {
  uint32_t magic = kSegmentMagic;
  uint16_t version = kSegmentVersion;
  uint16_t reserved = 0;
  uint32_t number = 0;
  uint32_t blocks = 0;      // preallocated length of the file
  uint64_t generation = 0;  // random: tells records of this segment from bytes that only look like some
  uint8_t target_uuid[16] = {};
  uint64_t header_sum = 0;  // XXH3-64 of the bytes before it
};
static_assert(sizeof(SegmentHeader) == 48);

// One block, zero-padded. Fills in the sum.
std::string EncodeSegmentHeader(SegmentHeader header);
// kCorruption: magic or sum. kNotSupported: version.
Result<SegmentHeader> DecodeSegmentHeader(std::span<const uint8_t> block);

// ---------------------------------------------------------------------------------------------------------------------------------
// Records. One record is one write: whole or absent.

inline constexpr uint32_t kRecordMagic = 0x52'4e'52'54;  // "TRNR"
inline constexpr uint8_t kRecordVersion = 1;

enum class RecordKind : uint8_t {
  kWrite = 1,       // new data of a chunk
  kRewrite = 2,     // the same data at a new place
  kTruncate = 3,    // cuts a chunk; carries the data of a block that the cut leaves partly filled
  kDeleteData = 4,  // removes all chunks of data ids that have a lower sequence
  kCheckpoint = 5,  // nothing but durable_through: made before dead space is punched
  kVoid = 6,        // a failed write: fills its place in the order of sequences
};

inline constexpr uint8_t kRecordInline = 1;  // flag: the data lies behind the sums, within the header's only block

struct RecordHeader {
  uint32_t magic = kRecordMagic;
  uint8_t version = kRecordVersion;
  RecordKind kind = RecordKind::kVoid;
  uint8_t header_blocks = 1;
  uint8_t flags = 0;
  uint64_t segment_generation = 0;
  uint64_t sequence = 0;
  uint64_t durable_through = 0;  // every sequence up to this one was on stable storage when this record was made
  uint64_t data_id = 0;
  uint32_t chunk_index = 0;
  uint32_t header_block = 0;  // where this header lies in its segment
  uint32_t first_block = 0;   // chunk block of the first data byte
  uint32_t data_bytes = 0;    // not a multiple of kBlockBytes only if the data ends with the chunk
  uint64_t record_number = 0;  // per chunk, rising by one with each record of it
  uint64_t chunk_version = 0;  // per chunk, rising by one with each change that a reader can see
  uint64_t truncate_generation = 0;
  uint64_t cut_bytes = 0;  // kTruncate: the chunk's length after it
  uint64_t tail_sum = 0;   // sum of the last, partly filled block as far as it is filled; 0 if there is none
  uint32_t entry_count = 0;  // 8-byte entries behind the header: sums of the data's blocks, each padded with zeros; kDeleteData: data ids
  uint32_t group = 0;        // of the chunk; 0: kDeleteData and others that are of no chunk
  uint64_t epoch = 0;        // in which the change was ordered; with chunk_version the chunk's stamp. 0: no epoch's
  uint64_t reserved_word = 0;
  uint64_t header_sum = 0;  // XXH3-64 of the header (this field 0) and its entries
};
static_assert(sizeof(RecordHeader) == 128);

constexpr uint32_t HeaderBlocksFor(uint32_t entry_count) { return BlocksFor(sizeof(RecordHeader) + uint64_t{8} * entry_count); }
inline constexpr uint32_t kHeaderBlocksMax = HeaderBlocksFor(kRecordBlocksMax);
// Data ids in one kDeleteData record of one block.
inline constexpr uint32_t kDeleteEntriesMax = (kBlockBytes - sizeof(RecordHeader)) / 8;
// Data that fits behind one sum in the header's block.
inline constexpr uint32_t kInlineDataOffset = sizeof(RecordHeader) + 8;
inline constexpr uint32_t kInlineDataBytesMax = kBlockBytes - kInlineDataOffset;

constexpr bool FitsInline(uint64_t data_bytes) { return data_bytes > 0 && data_bytes <= kInlineDataBytesMax; }

// Blocks that the record takes in its segment, its header included.
uint32_t RecordBlocks(const RecordHeader& header);

// header_blocks blocks, zero-padded, `inline_data` behind the sums if the flag is set. Fills in the sum.
std::string EncodeRecordHeader(RecordHeader header, std::span<const uint64_t> entries, std::span<const uint8_t> inline_data);

struct DecodedRecord {
  RecordHeader header;
  std::vector<uint64_t> entries;
};

// What a header looks like before its entries are read: enough to know how many blocks to read. nullopt: no header of this segment at this
// block (other bytes, zeros, or a damaged one).
std::optional<RecordHeader> PeekRecordHeader(std::span<const uint8_t> block, uint64_t segment_generation, uint32_t header_block);
// `blocks` holds all of its header_blocks. nullopt also if a bound or the sum does not hold.
std::optional<DecodedRecord> DecodeRecordHeader(std::span<const uint8_t> blocks, uint64_t segment_generation, uint32_t header_block);

// ---------------------------------------------------------------------------------------------------------------------------------
// The index. Keys are big-endian so that they sort by number.

inline constexpr uint8_t kPlaceInCut = 2;  // flag of a place only: the record is a kTruncate

// Where the data of some blocks of a chunk came from.
struct RecordPlace {
  SegmentNumber segment;
  uint32_t header_block = 0;        // in the segment
  uint32_t record_first_block = 0;  // chunk block of the record's first data block
  uint16_t record_blocks = 0;       // its data blocks
  uint8_t header_blocks = 1;
  uint8_t flags = 0;  // kRecordInline, kPlaceInCut

  bool is_inline() const { return (flags & kRecordInline) != 0; }
  bool is_in_cut() const { return (flags & kPlaceInCut) != 0; }
  bool SameRecord(const RecordPlace& other) const { return segment == other.segment && header_block == other.header_block; }
  // Byte position in the segment file of a chunk block.
  uint64_t FilePosition(uint32_t chunk_block) const {
    if (is_inline()) return uint64_t{header_block} * kBlockBytes + kInlineDataOffset;
    return (uint64_t{header_block} + header_blocks + (chunk_block - record_first_block)) * kBlockBytes;
  }
};

RecordPlace PlaceOf(SegmentNumber segment, const RecordHeader& header);

// Blocks of a unit that lie one after another in one record.
struct Extent {
  uint32_t first_block = 0;  // chunk block
  uint32_t block_count = 0;
  RecordPlace place;
  uint32_t end_block() const { return first_block + block_count; }
};

struct ChunkHead {
  uint64_t bytes = 0;
  uint64_t version = 0;
  uint64_t record_number = 0;  // 0: nothing is kept of it
  uint64_t truncate_generation = 0;
  uint64_t tail_sum = 0;  // of the last, partly filled block; 0 if the length is a multiple of kBlockBytes
  uint32_t unit_end = 0;  // no unit from this one on has a key
  GroupId group;  // once known it never changes
  Epoch epoch;
  bool exists() const { return version != 0; }
  // A chunk that was removed keeps its head, so that the numbers of its records go on when it is made again.
  bool is_kept() const { return record_number != 0; }
};

// Extents in order of blocks, none overlapping. `sums` begins at the unit's first block; blocks behind its end are holes.
struct UnitValue {
  std::vector<Extent> extents;
  std::vector<uint64_t> sums;
};

// A range of blocks of a segment that nobody needs any more.
struct DeadRange {
  SegmentNumber segment;
  uint32_t first_block = 0;
  uint32_t block_count = 0;
  friend auto operator<=>(const DeadRange&, const DeadRange&) = default;
};

struct CheckpointValue {
  RecordSequence sequence;  // every record up to this one is in the index
  RecordSequence next_sequence;
  SegmentNumber next_segment;
};

struct SegmentValue {
  uint64_t generation = 0;
  uint32_t scan_from_block = 1;  // records with a sequence above the checkpoint's lie from here on
};

// Others are refused. Version 1, of no release, did not say to which group a chunk belongs.
inline constexpr uint8_t kIndexVersion = 2;

std::string UnitKey(ChunkId chunk, uint32_t unit);
// The first 13 bytes: all units of a chunk; the first 9: all chunks of a data id.
std::string ChunkKeyPrefix(ChunkId chunk);
std::string DataKeyPrefix(DataId data);
struct DecodedUnitKey {
  ChunkId chunk;
  uint32_t unit = 0;
};
std::optional<DecodedUnitKey> DecodeUnitKey(std::string_view key);
inline constexpr char kUnitKeyTag = 'c';
inline constexpr char kDeadKeyTag = 'd';
inline constexpr char kGroupKeyTag = 'g';
inline constexpr char kSegmentKeyTag = 's';
inline constexpr char kTombstoneKeyTag = 't';
inline constexpr char kDamagedKeyTag = 'x';
// What a group holds: an entry for each chunk that exists and whose group is known, so that listing a group reads nothing else.
std::string GroupKeyPrefix(GroupId group);
std::string GroupKey(GroupId group, ChunkId chunk);
std::optional<ChunkId> DecodeGroupKey(std::string_view key);
// 'tag' + 8 bytes of number, and back.
std::string NumberKey(char tag, uint64_t number);
std::optional<uint64_t> DecodeNumberKey(char tag, std::string_view key);
inline constexpr std::string_view kCheckpointKey = "k";
inline constexpr std::string_view kChunkCountKey = "n";
inline constexpr std::string_view kScrubKey = "q";
std::string DamagedKey(ChunkId chunk);
std::optional<ChunkId> DecodeDamagedKey(std::string_view key);

// `head` belongs to unit 0 and to no other.
std::string EncodeUnit(uint32_t unit, const UnitValue& value, const ChunkHead* head);
// kCorruption for bytes that are no such value. `head` may be null.
Status DecodeUnit(std::string_view bytes, uint32_t unit, UnitValue* value, ChunkHead* head);
// The head in a value of unit 0, without looking at the rest.
Result<ChunkHead> DecodeHead(std::string_view bytes);
// The group of a chunk that is damaged.
std::string EncodeDamagedValue(GroupId group);
Result<GroupId> DecodeDamagedValue(std::string_view bytes);
// How far scrubbing is.
struct ScrubValue {
  bool is_running = false;
  uint64_t bytes_checked = 0;
  uint64_t bytes_total = 0;
  uint64_t errors_found = 0;
  uint64_t errors_repaired = 0;
  int64_t last_round_ended_ns = 0;
  int64_t waits_since_ns = 0;  // the end of the last round, or when the target was first opened
  std::string position;        // the first key that is not checked yet
};
std::string EncodeScrub(const ScrubValue& value);
Result<ScrubValue> DecodeScrub(std::string_view bytes);
struct GroupEntry {
  Epoch epoch;
  uint64_t version = 0;
  uint64_t bytes = 0;
  friend auto operator<=>(const GroupEntry&, const GroupEntry&) = default;
};
std::string EncodeGroupEntry(const GroupEntry& entry);
Result<GroupEntry> DecodeGroupEntry(std::string_view bytes);
std::string EncodeDeadRanges(std::span<const DeadRange> ranges);
Result<std::vector<DeadRange>> DecodeDeadRanges(std::string_view bytes);
std::string EncodeCheckpoint(const CheckpointValue& value);
Result<CheckpointValue> DecodeCheckpoint(std::string_view bytes);
std::string EncodeSegmentValue(const SegmentValue& value);
Result<SegmentValue> DecodeSegmentValue(std::string_view bytes);

}  // namespace tarn::store
