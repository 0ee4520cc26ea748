#include "metaserver/replication/log_format.h"

#include <bit>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <vector>

#include "common/base/check.h"
#include "common/checksum/block_sums.h"

namespace tarn::meta {
namespace {

static_assert(std::endian::native == std::endian::little, "the log is written in the machine's own order");

constexpr size_t kSegmentNameDigits = 16;
constexpr std::string_view kSegmentSuffix = ".log";

template <typename T>
std::span<const uint8_t> BytesOf(const T& value) {
  return {reinterpret_cast<const uint8_t*>(&value), sizeof value};
}

std::span<const uint8_t> BytesOf(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// Of a struct whose last field is its sum.
template <typename T>
uint64_t SumBefore(const T& value) {
  return Xxh3(BytesOf(value).first(offsetof(T, sum)));
}

// Of a header without its sum and of what follows it: the two sums, summed.
uint64_t SumOfParts(uint64_t header_sum, std::span<const uint8_t> rest) {
  const std::array<uint64_t, 2> parts{header_sum, Xxh3(rest)};
  return Xxh3(BytesOf(parts));
}

Status Damaged(const char* what) { return Status(StatusCode::kCorruption, what); }

}  // namespace

std::string SegmentName(uint64_t number) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(number));
  return std::string(text.data()) + std::string(kSegmentSuffix);
}

std::optional<uint64_t> SegmentNumber(std::string_view name) {
  if (name.size() != kSegmentNameDigits + kSegmentSuffix.size() || !name.ends_with(kSegmentSuffix)) return std::nullopt;
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + kSegmentNameDigits, number, 16);
  if (error != std::errc() || end != name.data() + kSegmentNameDigits) return std::nullopt;
  return number;
}

void EncodeSegmentHeader(uint64_t number, uint64_t generation, std::span<uint8_t> block) {
  CHECK(block.size() == kLogBlockBytes, "a segment's header has a block of its own");
  SegmentHeader header{.number = number, .generation = generation};
  header.sum = SumBefore(header);
  std::memset(block.data(), 0, block.size());
  std::memcpy(block.data(), &header, sizeof header);
}

Result<uint64_t> DecodeSegmentHeader(std::span<const uint8_t> block, uint64_t number) {
  SegmentHeader header;
  if (block.size() < sizeof header) return Damaged("the segment's header is cut short");
  std::memcpy(&header, block.data(), sizeof header);
  if (header.magic != kSegmentMagic || header.sum != SumBefore(header))
    return Damaged("the segment's header is damaged");
  if (header.version != kLogVersion) {
    return Status(StatusCode::kNotSupported, "the segment has version " + std::to_string(header.version));
  }
  if (header.number != number) return Damaged("the segment's header says another number than its name");
  return header.generation;
}

size_t GroupBytes(std::span<const LogEntryRef> entries) {
  size_t bytes = sizeof(GroupHeader);
  for (const LogEntryRef& entry : entries) bytes += EntryBytesInGroup(entry.bytes.size());
  return PadTo(bytes, kLogBlockBytes);
}

void EncodeGroup(const GroupPlace& place, std::span<const LogEntryRef> entries, std::span<uint8_t> out) {
  CHECK(entries.size() <= kGroupEntriesMax && out.size() == GroupBytes(entries),
        "the group's buffer has its exact size");
  GroupHeader header;
  header.generation = place.generation;
  header.sequence = place.sequence;
  header.first_index = place.first_index;
  header.entries = static_cast<uint32_t>(entries.size());
  size_t table = sizeof header;
  size_t position = table + entries.size() * sizeof(EntryHeader);
  for (const LogEntryRef& entry : entries) {
    const EntryHeader entry_header{
        .term = entry.term, .bytes = static_cast<uint32_t>(entry.bytes.size()), .type = entry.type};
    std::memcpy(out.data() + table, &entry_header, sizeof entry_header);
    table += sizeof entry_header;
    const size_t padded = PadTo(entry.bytes.size(), 8);
    if (!entry.bytes.empty()) std::memcpy(out.data() + position, entry.bytes.data(), entry.bytes.size());
    std::memset(out.data() + position + entry.bytes.size(), 0, padded - entry.bytes.size());
    position += padded;
  }
  std::memset(out.data() + position, 0, out.size() - position);
  header.bytes = static_cast<uint32_t>(position);
  header.sum = SumOfParts(SumBefore(header), out.subspan(sizeof header, position - sizeof header));
  std::memcpy(out.data(), &header, sizeof header);
}

EntryHeader LoadEntryHeader(const DecodedGroup& group, uint32_t i) {
  EntryHeader entry;
  std::memcpy(&entry, group.bytes.data() + sizeof(GroupHeader) + i * sizeof entry, sizeof entry);
  return entry;
}

std::optional<DecodedGroup> DecodeGroup(std::span<const uint8_t> bytes, uint64_t generation) {
  DecodedGroup group;
  if (bytes.size() < sizeof group.header) return std::nullopt;
  std::memcpy(&group.header, bytes.data(), sizeof group.header);
  const GroupHeader& header = group.header;
  if (header.magic != kGroupMagic || header.generation != generation || header.entries > kGroupEntriesMax) {
    return std::nullopt;
  }
  size_t expected = sizeof header + header.entries * sizeof(EntryHeader);
  if (header.bytes < expected || header.bytes > bytes.size()) return std::nullopt;
  group.bytes = bytes.first(header.bytes);
  if (header.sum != SumOfParts(SumBefore(header), group.bytes.subspan(sizeof header))) return std::nullopt;
  for (uint32_t i = 0; i < header.entries; ++i) {
    const size_t entry_bytes = LoadEntryHeader(group, i).bytes;
    if (entry_bytes > header.bytes - expected) return std::nullopt;
    expected += PadTo(entry_bytes, 8);
    if (expected > header.bytes) return std::nullopt;
  }
  if (expected != header.bytes) return std::nullopt;
  group.block_bytes = PadTo(header.bytes, kLogBlockBytes);
  return group;
}

std::string EncodeVote(uint64_t sequence, uint64_t term, uint64_t voted_for) {
  VoteRecord record{.sequence = sequence, .term = term, .voted_for = voted_for};
  record.sum = SumBefore(record);
  return {reinterpret_cast<const char*>(&record), sizeof record};
}

Result<VoteRecord> DecodeVote(std::string_view bytes) {
  VoteRecord record;
  if (bytes.size() < sizeof record) return Damaged("the record of term and vote is cut short");
  std::memcpy(&record, bytes.data(), sizeof record);
  if (record.magic != kVoteMagic || record.sum != SumBefore(record)) {
    return Damaged("the record of term and vote is damaged");
  }
  if (record.version != kLogVersion) {
    return Status(StatusCode::kNotSupported, "term and vote have version " + std::to_string(record.version));
  }
  return record;
}

std::string EncodeMarker(const LogMarker& marker) {
  MarkerHeader header;
  header.index = marker.index;
  header.term = marker.term;
  header.configuration_index = marker.configuration_index;
  header.first_segment = marker.first_segment;
  header.first_sequence = marker.first_sequence;
  header.configuration_bytes = static_cast<uint32_t>(marker.configuration.size());
  header.data_bytes = static_cast<uint32_t>(marker.data.size());
  const std::string rest = marker.configuration + marker.data;
  header.sum = SumOfParts(SumBefore(header), BytesOf(std::string_view(rest)));
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + rest;
}

Result<LogMarker> DecodeMarker(std::string_view bytes) {
  MarkerHeader header;
  if (bytes.size() < sizeof header) return Damaged("the snapshot marker is cut short");
  std::memcpy(&header, bytes.data(), sizeof header);
  const std::string_view rest = bytes.substr(sizeof header);
  if (header.magic != kMarkerMagic || header.sum != SumOfParts(SumBefore(header), BytesOf(rest)) ||
      uint64_t{header.configuration_bytes} + header.data_bytes != rest.size()) {
    return Damaged("the snapshot marker is damaged");
  }
  if (header.version != kLogVersion) {
    return Status(StatusCode::kNotSupported, "the snapshot marker has version " + std::to_string(header.version));
  }
  LogMarker marker;
  marker.index = header.index;
  marker.term = header.term;
  marker.configuration_index = header.configuration_index;
  marker.first_segment = header.first_segment;
  marker.first_sequence = header.first_sequence;
  marker.configuration = std::string(rest.substr(0, header.configuration_bytes));
  marker.data = std::string(rest.substr(header.configuration_bytes));
  return marker;
}

}  // namespace tarn::meta
