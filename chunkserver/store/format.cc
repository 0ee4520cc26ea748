#include "chunkserver/store/format.h"

#include <cstring>
#include <utility>

namespace tarn::store {
namespace {

// The index's structs as they lie in values.
struct UnitValueHeader {
  uint8_t version = kIndexVersion;
  uint8_t has_head = 0;
  uint16_t extent_count = 0;
  uint16_t sum_count = 0;
  uint16_t reserved = 0;
};
static_assert(sizeof(UnitValueHeader) == 8);

struct HeadValue {
  uint64_t bytes;
  uint64_t version;
  uint64_t record_number;
  uint64_t truncate_generation;
  uint64_t tail_sum;
  uint32_t unit_end;
  uint32_t group;
  uint64_t epoch;
};
static_assert(sizeof(HeadValue) == 56);

constexpr uint8_t kScrubVersion = 1;
struct ScrubBytes {
  uint8_t version = kScrubVersion;
  uint8_t is_running = 0;
  uint8_t reserved[6] = {};
  uint64_t bytes_checked = 0;
  uint64_t bytes_total = 0;
  uint64_t errors_found = 0;
  uint64_t errors_repaired = 0;
  int64_t last_round_ended_ns = 0;
  int64_t waits_since_ns = 0;
};
static_assert(sizeof(ScrubBytes) == 56);

struct GroupEntryValue {
  uint64_t epoch;
  uint64_t version;
  uint64_t bytes;
};
static_assert(sizeof(GroupEntryValue) == 24);

struct ExtentValue {
  uint32_t segment;
  uint32_t header_block;
  uint32_t record_first_block;
  uint16_t record_blocks;
  uint16_t first_block_of_unit;
  uint16_t block_count;
  uint8_t header_blocks;
  uint8_t flags;
};
static_assert(sizeof(ExtentValue) == 20);

struct DeadRangeValue {
  uint32_t segment;
  uint32_t first_block;
  uint32_t block_count;
};
static_assert(sizeof(DeadRangeValue) == 12);

struct CheckpointBytes {
  uint8_t version = kIndexVersion;
  uint8_t reserved[3] = {};
  uint32_t next_segment = 0;
  uint64_t sequence = 0;
  uint64_t next_sequence = 0;
};
static_assert(sizeof(CheckpointBytes) == 24);

struct SegmentValueBytes {
  uint64_t generation;
  uint32_t scan_from_block;
  uint32_t reserved;
};
static_assert(sizeof(SegmentValueBytes) == 16);

template <typename T>
void AppendStruct(std::string* out, const T& value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// Takes a T off the front of `bytes`; false if there are too few.
template <typename T>
bool TakeStruct(std::string_view* bytes, T* value) {
  if (bytes->size() < sizeof(T)) return false;
  std::memcpy(value, bytes->data(), sizeof(T));
  bytes->remove_prefix(sizeof(T));
  return true;
}

std::span<const uint8_t> BytesOf(std::string_view text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

void AppendBigEndian(std::string* out, uint64_t value, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) out->push_back(static_cast<char>(value >> (8 * i)));
}

uint64_t LoadBigEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (char byte : bytes) value = (value << 8) | static_cast<uint8_t>(byte);
  return value;
}

// Takes the head of a chunk off the front of `bytes`.
bool TakeHead(std::string_view* bytes, ChunkHead* head) {
  HeadValue stored;
  if (!TakeStruct(bytes, &stored)) return false;
  *head = ChunkHead{.bytes = stored.bytes,
                    .version = stored.version,
                    .record_number = stored.record_number,
                    .truncate_generation = stored.truncate_generation,
                    .tail_sum = stored.tail_sum,
                    .unit_end = stored.unit_end,
                    .group = GroupId(stored.group),
                    .epoch = Epoch(stored.epoch)};
  return true;
}

Status BadIndexValue(std::string_view what) {
  return Status(StatusCode::kCorruption, "the index holds a damaged value for " + std::string(what));
}

uint64_t SegmentHeaderSum(const SegmentHeader& header) {
  return Xxh3({reinterpret_cast<const uint8_t*>(&header), offsetof(SegmentHeader, header_sum)});
}

// Over the header with its sum field 0, followed by its entries: exactly the bytes of the block up to the end of the entries.
uint64_t RecordHeaderSum(std::string_view header_and_entries) {
  std::string bytes(header_and_entries);
  std::memset(bytes.data() + offsetof(RecordHeader, header_sum), 0, sizeof(uint64_t));
  return Xxh3(BytesOf(bytes));
}

// Bounds that hold for every record that was ever written, so that a damaged one leads nowhere outside its segment.
bool PlausibleRecord(const RecordHeader& header) {
  const uint32_t entries_max = header.kind == RecordKind::kDeleteData ? kDeleteEntriesMax : kRecordBlocksMax;
  if (header.entry_count > entries_max || header.header_blocks != HeaderBlocksFor(header.entry_count)) return false;
  if (header.kind == RecordKind::kDeleteData || header.kind == RecordKind::kCheckpoint || header.kind == RecordKind::kVoid) {
    return header.data_bytes == 0 || header.kind == RecordKind::kVoid;
  }
  if (header.kind < RecordKind::kWrite || header.kind > RecordKind::kTruncate) return false;
  const bool is_inline = (header.flags & kRecordInline) != 0;
  if (is_inline && !FitsInline(header.data_bytes)) return false;
  return header.entry_count == BlocksFor(header.data_bytes) &&
         uint64_t{header.first_block} + header.entry_count <= kChunkBlocksMax;
}

}  // namespace

std::string EncodeSegmentHeader(SegmentHeader header) {
  header.header_sum = SegmentHeaderSum(header);
  std::string block;
  AppendStruct(&block, header);
  block.resize(kBlockBytes);
  return block;
}

Result<SegmentHeader> DecodeSegmentHeader(std::span<const uint8_t> block) {
  SegmentHeader header;
  if (block.size() < sizeof(header)) return Status(StatusCode::kCorruption, "the segment header is cut short");
  std::memcpy(&header, block.data(), sizeof(header));
  if (header.magic != kSegmentMagic || header.header_sum != SegmentHeaderSum(header)) {
    return Status(StatusCode::kCorruption, "the segment header is damaged");
  }
  if (header.version != kSegmentVersion) {
    return Status(StatusCode::kNotSupported, "segment format version " + std::to_string(header.version) + ", this program reads " +
                                                 std::to_string(kSegmentVersion));
  }
  return header;
}

uint32_t RecordBlocks(const RecordHeader& header) {
  if ((header.flags & kRecordInline) != 0) return header.header_blocks;
  return header.header_blocks + BlocksFor(header.data_bytes);
}

std::string EncodeRecordHeader(RecordHeader header, std::span<const uint64_t> entries, std::span<const uint8_t> inline_data) {
  header.entry_count = static_cast<uint32_t>(entries.size());
  header.header_blocks = static_cast<uint8_t>(HeaderBlocksFor(header.entry_count));
  header.header_sum = 0;
  std::string bytes;
  bytes.reserve(size_t{header.header_blocks} * kBlockBytes);
  AppendStruct(&bytes, header);
  bytes.append(reinterpret_cast<const char*>(entries.data()), entries.size_bytes());
  const uint64_t sum = Xxh3(BytesOf(bytes));
  std::memcpy(bytes.data() + offsetof(RecordHeader, header_sum), &sum, sizeof(sum));
  bytes.append(reinterpret_cast<const char*>(inline_data.data()), inline_data.size());
  CHECK(bytes.size() <= size_t{header.header_blocks} * kBlockBytes, "inline data must fit behind the sums");
  bytes.resize(size_t{header.header_blocks} * kBlockBytes);
  return bytes;
}

std::optional<RecordHeader> PeekRecordHeader(std::span<const uint8_t> block, uint64_t segment_generation, uint32_t header_block) {
  RecordHeader header;
  if (block.size() < sizeof(header)) return std::nullopt;
  std::memcpy(&header, block.data(), sizeof(header));
  const bool is_ours = header.magic == kRecordMagic && header.version == kRecordVersion &&
                       header.segment_generation == segment_generation && header.header_block == header_block;
  if (!is_ours || !PlausibleRecord(header)) return std::nullopt;
  return header;
}

std::optional<DecodedRecord> DecodeRecordHeader(std::span<const uint8_t> blocks, uint64_t segment_generation, uint32_t header_block) {
  std::optional<RecordHeader> header = PeekRecordHeader(blocks, segment_generation, header_block);
  if (!header || blocks.size() < size_t{header->header_blocks} * kBlockBytes) return std::nullopt;
  const size_t summed_bytes = sizeof(RecordHeader) + size_t{8} * header->entry_count;
  const std::string_view text(reinterpret_cast<const char*>(blocks.data()), summed_bytes);
  if (RecordHeaderSum(text) != header->header_sum) return std::nullopt;
  DecodedRecord record{*header, std::vector<uint64_t>(header->entry_count)};
  if (!record.entries.empty()) {
    std::memcpy(record.entries.data(), blocks.data() + sizeof(RecordHeader), record.entries.size() * sizeof(uint64_t));
  }
  return record;
}

RecordPlace PlaceOf(SegmentNumber segment, const RecordHeader& header) {
  return RecordPlace{.segment = segment,
                     .header_block = header.header_block,
                     .record_first_block = header.first_block,
                     .record_blocks = static_cast<uint16_t>(BlocksFor(header.data_bytes)),
                     .header_blocks = header.header_blocks,
                     .flags = static_cast<uint8_t>(header.flags | (header.kind == RecordKind::kTruncate ? kPlaceInCut : 0))};
}

std::string DataKeyPrefix(DataId data) {
  std::string key(1, kUnitKeyTag);
  AppendBigEndian(&key, data.value(), 8);
  return key;
}

std::string ChunkKeyPrefix(ChunkId chunk) {
  std::string key = DataKeyPrefix(chunk.data);
  AppendBigEndian(&key, chunk.index, 4);
  return key;
}

std::string UnitKey(ChunkId chunk, uint32_t unit) {
  std::string key = ChunkKeyPrefix(chunk);
  AppendBigEndian(&key, unit, 4);
  return key;
}

std::optional<DecodedUnitKey> DecodeUnitKey(std::string_view key) {
  if (key.size() != 17 || key[0] != kUnitKeyTag) return std::nullopt;
  return DecodedUnitKey{.chunk = {.data = DataId(LoadBigEndian(key.substr(1, 8))),
                                  .index = static_cast<uint32_t>(LoadBigEndian(key.substr(9, 4)))},
                        .unit = static_cast<uint32_t>(LoadBigEndian(key.substr(13, 4)))};
}

std::string GroupKeyPrefix(GroupId group) {
  std::string key(1, kGroupKeyTag);
  AppendBigEndian(&key, group.value(), 4);
  return key;
}

std::string GroupKey(GroupId group, ChunkId chunk) {
  std::string key = GroupKeyPrefix(group);
  AppendBigEndian(&key, chunk.data.value(), 8);
  AppendBigEndian(&key, chunk.index, 4);
  return key;
}

std::optional<ChunkId> DecodeGroupKey(std::string_view key) {
  if (key.size() != 17 || key[0] != kGroupKeyTag) return std::nullopt;
  return ChunkId{.data = DataId(LoadBigEndian(key.substr(5, 8))), .index = static_cast<uint32_t>(LoadBigEndian(key.substr(13, 4)))};
}

std::string DamagedKey(ChunkId chunk) {
  std::string key(1, kDamagedKeyTag);
  AppendBigEndian(&key, chunk.data.value(), 8);
  AppendBigEndian(&key, chunk.index, 4);
  return key;
}

std::optional<ChunkId> DecodeDamagedKey(std::string_view key) {
  if (key.size() != 13 || key[0] != kDamagedKeyTag) return std::nullopt;
  return ChunkId{.data = DataId(LoadBigEndian(key.substr(1, 8))), .index = static_cast<uint32_t>(LoadBigEndian(key.substr(9, 4)))};
}

std::string NumberKey(char tag, uint64_t number) {
  std::string key(1, tag);
  AppendBigEndian(&key, number, 8);
  return key;
}

std::optional<uint64_t> DecodeNumberKey(char tag, std::string_view key) {
  if (key.size() != 9 || key[0] != tag) return std::nullopt;
  return LoadBigEndian(key.substr(1));
}

std::string EncodeUnit(uint32_t unit, const UnitValue& value, const ChunkHead* head) {
  CHECK((unit == 0) == (head != nullptr), "the head lies with unit 0");
  CHECK(value.extents.size() <= kUnitBlocks && value.sums.size() <= kUnitBlocks, "a unit has 256 blocks");
  std::string bytes;
  bytes.reserve(sizeof(UnitValueHeader) + sizeof(HeadValue) + value.extents.size() * sizeof(ExtentValue) + value.sums.size() * 8);
  UnitValueHeader header;
  header.has_head = head != nullptr;
  header.extent_count = static_cast<uint16_t>(value.extents.size());
  header.sum_count = static_cast<uint16_t>(value.sums.size());
  AppendStruct(&bytes, header);
  if (head != nullptr) {
    AppendStruct(&bytes, HeadValue{head->bytes, head->version, head->record_number, head->truncate_generation, head->tail_sum,
                                   head->unit_end, head->group.value(), head->epoch.value()});
  }
  for (const Extent& extent : value.extents) {
    AppendStruct(&bytes, ExtentValue{extent.place.segment.value(), extent.place.header_block, extent.place.record_first_block,
                                     extent.place.record_blocks, static_cast<uint16_t>(extent.first_block - unit * kUnitBlocks),
                                     static_cast<uint16_t>(extent.block_count), extent.place.header_blocks, extent.place.flags});
  }
  bytes.append(reinterpret_cast<const char*>(value.sums.data()), value.sums.size() * sizeof(uint64_t));
  return bytes;
}

Status DecodeUnit(std::string_view bytes, uint32_t unit, UnitValue* value, ChunkHead* head) {
  UnitValueHeader header;
  if (!TakeStruct(&bytes, &header) || header.version != kIndexVersion || (header.has_head != 0) != (unit == 0)) {
    return BadIndexValue("a unit of a chunk");
  }
  if (header.has_head != 0) {
    ChunkHead stored;
    if (!TakeHead(&bytes, &stored)) return BadIndexValue("the head of a chunk");
    if (head != nullptr) *head = stored;
  }
  value->extents.clear();
  uint32_t previous_end = 0;
  for (uint32_t i = 0; i < header.extent_count; ++i) {
    ExtentValue stored;
    if (!TakeStruct(&bytes, &stored)) return BadIndexValue("an extent");
    const uint32_t end = uint32_t{stored.first_block_of_unit} + stored.block_count;
    if (stored.first_block_of_unit < previous_end || stored.block_count == 0 || end > header.sum_count) return BadIndexValue("an extent");
    previous_end = end;
    value->extents.push_back(Extent{
        .first_block = unit * kUnitBlocks + stored.first_block_of_unit,
        .block_count = stored.block_count,
        .place = {SegmentNumber(stored.segment), stored.header_block, stored.record_first_block, stored.record_blocks,
                  stored.header_blocks, stored.flags}});
  }
  if (header.sum_count > kUnitBlocks || bytes.size() != size_t{header.sum_count} * 8) return BadIndexValue("the sums of a unit");
  value->sums.resize(header.sum_count);
  if (!value->sums.empty()) std::memcpy(value->sums.data(), bytes.data(), bytes.size());
  return Status::Ok();
}

Result<ChunkHead> DecodeHead(std::string_view bytes) {
  UnitValueHeader header;
  ChunkHead head;
  const bool is_head = TakeStruct(&bytes, &header) && header.version == kIndexVersion && header.has_head != 0 &&
                       TakeHead(&bytes, &head);
  if (!is_head) return BadIndexValue("the head of a chunk");
  return head;
}

std::string EncodeDamagedValue(GroupId group) {
  std::string bytes;
  AppendStruct(&bytes, group.value());
  return bytes;
}

Result<GroupId> DecodeDamagedValue(std::string_view bytes) {
  uint32_t group = 0;
  if (!TakeStruct(&bytes, &group) || !bytes.empty()) return BadIndexValue("a damaged chunk");
  return GroupId(group);
}

std::string EncodeScrub(const ScrubValue& value) {
  ScrubBytes stored;
  stored.is_running = value.is_running ? 1 : 0;
  stored.bytes_checked = value.bytes_checked;
  stored.bytes_total = value.bytes_total;
  stored.errors_found = value.errors_found;
  stored.errors_repaired = value.errors_repaired;
  stored.last_round_ended_ns = value.last_round_ended_ns;
  stored.waits_since_ns = value.waits_since_ns;
  std::string bytes;
  AppendStruct(&bytes, stored);
  return bytes + value.position;
}

Result<ScrubValue> DecodeScrub(std::string_view bytes) {
  ScrubBytes stored;
  if (!TakeStruct(&bytes, &stored) || stored.version != kScrubVersion) return BadIndexValue("the scrubbing");
  return ScrubValue{.is_running = stored.is_running != 0,
                    .bytes_checked = stored.bytes_checked,
                    .bytes_total = stored.bytes_total,
                    .errors_found = stored.errors_found,
                    .errors_repaired = stored.errors_repaired,
                    .last_round_ended_ns = stored.last_round_ended_ns,
                    .waits_since_ns = stored.waits_since_ns,
                    .position = std::string(bytes)};
}

std::string EncodeGroupEntry(const GroupEntry& entry) {
  std::string bytes;
  AppendStruct(&bytes, GroupEntryValue{entry.epoch.value(), entry.version, entry.bytes});
  return bytes;
}

Result<GroupEntry> DecodeGroupEntry(std::string_view bytes) {
  GroupEntryValue stored;
  if (!TakeStruct(&bytes, &stored) || !bytes.empty()) return BadIndexValue("a chunk of a group");
  return GroupEntry{.epoch = Epoch(stored.epoch), .version = stored.version, .bytes = stored.bytes};
}

std::string EncodeDeadRanges(std::span<const DeadRange> ranges) {
  std::string bytes;
  for (const DeadRange& range : ranges) {
    AppendStruct(&bytes, DeadRangeValue{range.segment.value(), range.first_block, range.block_count});
  }
  return bytes;
}

Result<std::vector<DeadRange>> DecodeDeadRanges(std::string_view bytes) {
  std::vector<DeadRange> ranges;
  DeadRangeValue stored;
  while (TakeStruct(&bytes, &stored)) {
    ranges.push_back(DeadRange{SegmentNumber(stored.segment), stored.first_block, stored.block_count});
  }
  if (!bytes.empty()) return BadIndexValue("dead ranges");
  return ranges;
}

std::string EncodeCheckpoint(const CheckpointValue& value) {
  CheckpointBytes stored;
  stored.next_segment = value.next_segment.value();
  stored.sequence = value.sequence.value();
  stored.next_sequence = value.next_sequence.value();
  std::string bytes;
  AppendStruct(&bytes, stored);
  return bytes;
}

Result<CheckpointValue> DecodeCheckpoint(std::string_view bytes) {
  CheckpointBytes stored;
  if (!TakeStruct(&bytes, &stored) || !bytes.empty()) return BadIndexValue("the checkpoint");
  if (stored.version != kIndexVersion) {
    return Status(StatusCode::kNotSupported, "index format version " + std::to_string(stored.version) + ", this program reads " +
                                                 std::to_string(kIndexVersion));
  }
  return CheckpointValue{.sequence = RecordSequence(stored.sequence),
                         .next_sequence = RecordSequence(stored.next_sequence),
                         .next_segment = SegmentNumber(stored.next_segment)};
}

std::string EncodeSegmentValue(const SegmentValue& value) {
  std::string bytes;
  AppendStruct(&bytes, SegmentValueBytes{value.generation, value.scan_from_block, 0});
  return bytes;
}

Result<SegmentValue> DecodeSegmentValue(std::string_view bytes) {
  SegmentValueBytes stored;
  if (!TakeStruct(&bytes, &stored) || !bytes.empty()) return BadIndexValue("a segment");
  return SegmentValue{stored.generation, stored.scan_from_block};
}

}  // namespace tarn::store
