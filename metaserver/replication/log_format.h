// The files of the replicated log (docs/formats.md, "Metadata log"). Little-endian, fixed width, every sum XXH3-64.
//
//   vote-a, vote-b   term and vote, written in turn; the one with the higher sequence counts
//   %016x.log        segments: a header block, then groups of entries
//   snapshot         the marker: what lies before the log, and where the log begins
//
// One group is one write, at a block boundary: blocks that hold acknowledged entries are never written again. A group
// is written only once all earlier ones are on stable storage, and groups are numbered without gaps; so a group that
// cannot be read, with a later one behind it, was damaged after it had been durable, while an unreadable end is the
// torn last write, which nobody was told of. A group that begins at or before an index already there replaces the
// entries from there on: the log was cut and continued.
//
// Segments are used again: a random generation in the header, repeated in each group, tells new groups from old ones.
// Pure functions and constants.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/base/status.h"

namespace tarn::meta {

inline constexpr size_t kLogBlockBytes = 4096;
inline constexpr size_t kSegmentBytes = 8u << 20;
inline constexpr uint32_t kLogVersion = 1;
inline constexpr uint32_t kSegmentMagic = 0x534c5254;  // "TRLS"
inline constexpr uint32_t kGroupMagic = 0x474c5254;    // "TRLG"
inline constexpr uint32_t kVoteMagic = 0x564c5254;     // "TRLV"
inline constexpr uint32_t kMarkerMagic = 0x4d4c5254;   // "TRLM"
inline constexpr uint32_t kGroupEntriesMax = 4096;
inline constexpr uint32_t kMarkerBytesMax = 1u << 20;

// The first bytes of a segment; the rest of the block is zero.
struct SegmentHeader {
  uint32_t magic = kSegmentMagic;
  uint32_t version = kLogVersion;
  uint64_t number = 0;  // as in the file's name
  uint64_t generation = 0;
  uint64_t sum = 0;  // of the bytes before it
};
static_assert(sizeof(SegmentHeader) == 32);

// Followed by `entries` EntryHeaders, then the entries' bytes, each padded with zeros to a multiple of 8, then zeros up
// to the next block.
struct GroupHeader {
  uint32_t magic = kGroupMagic;
  uint32_t bytes = 0;  // header, entry headers and padded entries
  uint64_t generation = 0;
  uint64_t sequence = 0;     // of the group: 1, 2, ... through all segments
  uint64_t first_index = 0;  // of its first entry
  uint32_t entries = 0;      // 0: a seal, which only says that all groups before it were durable
  uint32_t zero = 0;
  uint64_t sum = 0;  // of the bytes before it and of those after it up to `bytes`
};
static_assert(sizeof(GroupHeader) == 48);

struct EntryHeader {
  uint64_t term = 0;
  uint32_t bytes = 0;
  uint8_t type = 0;  // libraft's: 1 command, 2 barrier, 3 configuration
  std::array<uint8_t, 3> zero{};
};
static_assert(sizeof(EntryHeader) == 16);

struct VoteRecord {
  uint32_t magic = kVoteMagic;
  uint32_t version = kLogVersion;
  uint64_t sequence = 0;
  uint64_t term = 0;
  uint64_t voted_for = 0;  // 0: nobody
  uint64_t sum = 0;        // of the bytes before it
};
static_assert(sizeof(VoteRecord) == 40);

// The file `snapshot`: this, the group's configuration in libraft's encoding, the marker's data.
struct MarkerHeader {
  uint32_t magic = kMarkerMagic;
  uint32_t version = kLogVersion;
  uint64_t index = 0;  // the last entry that it stands for
  uint64_t term = 0;   // of that entry
  uint64_t configuration_index = 0;
  uint64_t first_segment = 0;   // segments before it are not part of the log any more
  uint64_t first_sequence = 0;  // of the first group in first_segment
  uint32_t configuration_bytes = 0;
  uint32_t data_bytes = 0;
  uint64_t sum = 0;  // of the bytes before it and of all that follow
};
static_assert(sizeof(MarkerHeader) == 64);

// An entry, its bytes elsewhere.
struct LogEntryRef {
  uint64_t term = 0;
  uint8_t type = 0;
  std::span<const uint8_t> bytes;
};

struct GroupPlace {
  uint64_t generation = 0;
  uint64_t sequence = 0;
  uint64_t first_index = 0;
};

struct LogMarker {
  uint64_t index = 0;
  uint64_t term = 0;
  uint64_t configuration_index = 0;
  uint64_t first_segment = 0;
  uint64_t first_sequence = 0;
  std::string configuration;
  std::string data;
};

constexpr size_t PadTo(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }
constexpr size_t EntryBytesInGroup(size_t entry_bytes) { return sizeof(EntryHeader) + PadTo(entry_bytes, 8); }

// "%016x.log", and back; nullopt for other names.
std::string SegmentName(uint64_t number);
std::optional<uint64_t> SegmentNumber(std::string_view name);

// One block.
void EncodeSegmentHeader(uint64_t number, uint64_t generation, std::span<uint8_t> block);
// The generation. kCorruption, kNotSupported.
Result<uint64_t> DecodeSegmentHeader(std::span<const uint8_t> block, uint64_t number);

// Bytes of the group with its padding to blocks.
size_t GroupBytes(std::span<const LogEntryRef> entries);
// `out` has GroupBytes(entries) bytes.
void EncodeGroup(const GroupPlace& place, std::span<const LogEntryRef> entries, std::span<uint8_t> out);

struct DecodedGroup {
  GroupHeader header;
  std::span<const uint8_t> bytes;  // all of it without the padding to blocks
  size_t block_bytes = 0;          // with it
};
// The group that begins at the start of `bytes`; nullopt if there is none of this generation, or a sum does not hold.
std::optional<DecodedGroup> DecodeGroup(std::span<const uint8_t> bytes, uint64_t generation);
// Calls visit(LogEntryRef) for each entry of a decoded group. The entry headers were checked by DecodeGroup.
template <typename Visit>
void ForEachEntry(const DecodedGroup& group, Visit visit);

std::string EncodeVote(uint64_t sequence, uint64_t term, uint64_t voted_for);
// kCorruption, kNotSupported.
Result<VoteRecord> DecodeVote(std::string_view bytes);

std::string EncodeMarker(const LogMarker& marker);
// kCorruption, kNotSupported.
Result<LogMarker> DecodeMarker(std::string_view bytes);

EntryHeader LoadEntryHeader(const DecodedGroup& group, uint32_t i);

template <typename Visit>
void ForEachEntry(const DecodedGroup& group, Visit visit) {
  size_t position = sizeof(GroupHeader) + group.header.entries * sizeof(EntryHeader);
  for (uint32_t i = 0; i < group.header.entries; ++i) {
    const EntryHeader entry = LoadEntryHeader(group, i);
    visit(LogEntryRef{.term = entry.term, .type = entry.type, .bytes = group.bytes.subspan(position, entry.bytes)});
    position += PadTo(entry.bytes, 8);
  }
}

}  // namespace tarn::meta
