#include "chunkserver/store/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "chunkserver/store/target_identity.h"

namespace tarn::store {
namespace {

using testing::HasSubstr;

std::string Hex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const char byte : bytes) {
    text.push_back(kDigits[static_cast<uint8_t>(byte) >> 4]);
    text.push_back(kDigits[static_cast<uint8_t>(byte) & 15]);
  }
  return text;
}

std::span<const uint8_t> BytesOf(std::string_view text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

SegmentHeader SomeSegment() {
  SegmentHeader header;
  header.number = 0x11;
  header.blocks = 0x2000;
  header.generation = 0x0123456789abcdef;
  for (uint8_t i = 0; i < 16; ++i) header.target_uuid[i] = static_cast<uint8_t>(0xa0 + i);
  return header;
}

RecordHeader SomeRecord() {
  RecordHeader header;
  header.kind = RecordKind::kWrite;
  header.segment_generation = 0x0123456789abcdef;
  header.sequence = 0x21;
  header.durable_through = 0x1f;
  header.data_id = 0x0010000000000003;
  header.chunk_index = 4;
  header.header_block = 5;
  header.first_block = 6;
  header.data_bytes = 4096 + 100;
  header.record_number = 7;
  header.chunk_version = 8;
  header.truncate_generation = 9;
  header.cut_bytes = 0;
  header.tail_sum = 0x1111111111111111;
  header.group = 10;
  header.epoch = 11;
  return header;
}

constexpr uint64_t kSums[] = {0x2222222222222222, 0x3333333333333333};

TEST(SegmentFormat, HeaderHasItsGoldenBytes) {
  const std::string block = EncodeSegmentHeader(SomeSegment());
  ASSERT_EQ(block.size(), kBlockBytes);
  EXPECT_EQ(Hex(block.substr(0, 40)),
            "54524e53"          // magic "TRNS"
            "01000000"          // version, reserved
            "11000000"          // number
            "00200000"          // blocks
            "efcdab8967452301"  // generation
            "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf");
  EXPECT_EQ(Hex(block.substr(40, 8)), "de2788b41054c610");
  EXPECT_EQ(block.find_first_not_of('\0', 48), std::string::npos);
}

TEST(SegmentFormat, DamagedHeaderIsRefused) {
  std::string block = EncodeSegmentHeader(SomeSegment());
  const Result<SegmentHeader> decoded = DecodeSegmentHeader(BytesOf(block));
  ASSERT_TRUE(decoded.ok()) << decoded.status().ToString();
  EXPECT_EQ(decoded->number, 0x11u);
  for (size_t i = 0; i < sizeof(SegmentHeader); ++i) {
    std::string damaged = block;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x40);
    EXPECT_EQ(DecodeSegmentHeader(BytesOf(damaged)).status().code(), StatusCode::kCorruption) << i;
  }
  EXPECT_EQ(DecodeSegmentHeader(BytesOf(block).first(10)).status().code(), StatusCode::kCorruption);
}

TEST(SegmentFormat, LaterVersionIsNamed) {
  SegmentHeader later = SomeSegment();
  later.version = 2;
  const Status refused = DecodeSegmentHeader(BytesOf(EncodeSegmentHeader(later))).status();
  EXPECT_EQ(refused.code(), StatusCode::kNotSupported);
  EXPECT_THAT(refused.message(), HasSubstr("version 2"));
}

TEST(RecordFormat, HeaderHasItsGoldenBytes) {
  const std::string block = EncodeRecordHeader(SomeRecord(), kSums, {});
  ASSERT_EQ(block.size(), kBlockBytes);
  EXPECT_EQ(Hex(block.substr(0, 120)),
            "54524e52"          // magic "TRNR"
            "01" "01" "01" "00" // version, kind, header blocks, flags
            "efcdab8967452301"  // segment generation
            "2100000000000000"  // sequence
            "1f00000000000000"  // durable through
            "0300000000001000"  // data id
            "04000000"          // chunk index
            "05000000"          // header block
            "06000000"          // first block
            "64100000"          // data bytes
            "0700000000000000"  // record number
            "0800000000000000"  // chunk version
            "0900000000000000"  // truncate generation
            "0000000000000000"  // cut bytes
            "1111111111111111"  // tail sum
            "02000000"          // entries
            "0a000000"          // group
            "0b00000000000000"  // epoch
            "0000000000000000");
  EXPECT_EQ(Hex(block.substr(120, 8)), "cb2683d95f534da4");
  EXPECT_EQ(Hex(block.substr(128, 16)), "22222222222222223333333333333333");
}

TEST(RecordFormat, ComesBackAsItWas) {
  const std::string block = EncodeRecordHeader(SomeRecord(), kSums, {});
  const auto decoded = DecodeRecordHeader(BytesOf(block), SomeRecord().segment_generation, 5);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->entries, std::vector<uint64_t>(std::begin(kSums), std::end(kSums)));
  EXPECT_EQ(decoded->header.data_bytes, 4196u);
  EXPECT_EQ(RecordBlocks(decoded->header), 3u);
}

// As records were before they had groups and epochs.
TEST(RecordFormat, ARecordWithoutGroupAndEpochHasThemZero) {
  RecordHeader header = SomeRecord();
  header.group = 0;
  header.epoch = 0;
  const std::string block = EncodeRecordHeader(header, kSums, {});
  EXPECT_EQ(Hex(block.substr(100, 20)), "00000000" "0000000000000000" "0000000000000000");
  EXPECT_EQ(Hex(block.substr(120, 8)), "89e370b2cb89babb");
  const auto decoded = DecodeRecordHeader(BytesOf(block), header.segment_generation, 5);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->header.group, 0u);
  EXPECT_EQ(decoded->header.epoch, 0u);
}

TEST(RecordFormat, AnyFlippedByteOfHeaderOrSumsIsNoticed) {
  const std::string block = EncodeRecordHeader(SomeRecord(), kSums, {});
  for (size_t i = 0; i < sizeof(RecordHeader) + sizeof(kSums); ++i) {
    std::string damaged = block;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x04);
    EXPECT_FALSE(DecodeRecordHeader(BytesOf(damaged), SomeRecord().segment_generation, 5)) << i;
  }
}

TEST(RecordFormat, RecordsOfOtherSegmentsAndPlacesAreNotTaken) {
  const std::string block = EncodeRecordHeader(SomeRecord(), kSums, {});
  EXPECT_FALSE(DecodeRecordHeader(BytesOf(block), SomeRecord().segment_generation + 1, 5));
  EXPECT_FALSE(DecodeRecordHeader(BytesOf(block), SomeRecord().segment_generation, 6));
}

TEST(RecordFormat, TheLargestWriteHasAHeaderOfThreeBlocks) {
  const std::vector<uint64_t> sums(kRecordBlocksMax, 5);
  RecordHeader header = SomeRecord();
  header.data_bytes = kRecordBlocksMax * kBlockBytes;
  const std::string blocks = EncodeRecordHeader(header, sums, {});
  ASSERT_EQ(blocks.size(), 3 * kBlockBytes);
  const auto decoded = DecodeRecordHeader(BytesOf(blocks), header.segment_generation, 5);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->entries, sums);
  EXPECT_EQ(RecordBlocks(decoded->header), 3 + kRecordBlocksMax);
  EXPECT_FALSE(DecodeRecordHeader(BytesOf(blocks).first(2 * kBlockBytes), header.segment_generation, 5));
}

TEST(RecordFormat, SmallDataLiesInTheHeadersBlock) {
  EXPECT_EQ(kInlineDataOffset, 136u);
  EXPECT_TRUE(FitsInline(kInlineDataBytesMax));
  EXPECT_FALSE(FitsInline(kInlineDataBytesMax + 1));
  EXPECT_FALSE(FitsInline(0));
  RecordHeader header = SomeRecord();
  header.data_bytes = 3;
  header.flags = kRecordInline;
  const std::string block = EncodeRecordHeader(header, {kSums, 1}, BytesOf("abc"));
  EXPECT_EQ(block.substr(kInlineDataOffset, 4), std::string("abc\0", 4));
  EXPECT_EQ(RecordBlocks(DecodeRecordHeader(BytesOf(block), header.segment_generation, 5)->header), 1u);
}

TEST(IndexFormat, KeysSortByChunkAndUnit) {
  EXPECT_EQ(Hex(UnitKey({DataId(0x0102030405060708), 9}, 10)), "63" "0102030405060708" "00000009" "0000000a");
  EXPECT_LT(UnitKey({DataId(1), 2}, 300), UnitKey({DataId(1), 3}, 0));
  EXPECT_LT(UnitKey({DataId(255), 0}, 0), UnitKey({DataId(256), 0}, 0));
  EXPECT_EQ(Hex(NumberKey(kSegmentKeyTag, 7)), "73" "0000000000000007");
  EXPECT_EQ(DecodeNumberKey(kSegmentKeyTag, NumberKey(kSegmentKeyTag, 7)), 7u);
  EXPECT_EQ(DecodeNumberKey(kDeadKeyTag, NumberKey(kSegmentKeyTag, 7)), std::nullopt);
  const auto decoded = DecodeUnitKey(UnitKey({DataId(11), 12}, 13));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->chunk, (ChunkId{DataId(11), 12}));
  EXPECT_EQ(decoded->unit, 13u);
  EXPECT_EQ(Hex(GroupKey(GroupId(5), {DataId(0x0102030405060708), 9})), "67" "00000005" "0102030405060708" "00000009");
  EXPECT_EQ(DecodeGroupKey(GroupKey(GroupId(5), {DataId(11), 12})), (ChunkId{DataId(11), 12}));
  EXPECT_EQ(DecodeGroupKey(UnitKey({DataId(11), 12}, 13)), std::nullopt);
}

UnitValue SomeUnit() {
  UnitValue unit;
  unit.extents.push_back(Extent{.first_block = 0,
                                .block_count = 2,
                                .place = {.segment = SegmentNumber(3), .header_block = 4, .record_first_block = 0, .record_blocks = 5, .header_blocks = 1, .flags = 0}});
  unit.sums = {kSums[0], kSums[1]};
  return unit;
}

TEST(IndexFormat, UnitHasItsGoldenBytes) {
  const ChunkHead head{.bytes = 8192, .version = 1, .record_number = 2, .truncate_generation = 3, .tail_sum = 4, .unit_end = 1,
                       .group = GroupId(5), .epoch = Epoch(6)};
  EXPECT_EQ(Hex(EncodeUnit(0, SomeUnit(), &head)),
            "02" "01" "0100" "0200" "0000"  // version, has head, extents, sums
            "0020000000000000" "0100000000000000" "0200000000000000" "0300000000000000" "0400000000000000" "01000000"
            "05000000" "0600000000000000"  // group, epoch
            "03000000" "04000000" "00000000" "0500" "0000" "0200" "01" "00"  // the extent
            "2222222222222222" "3333333333333333");
}

TEST(IndexFormat, UnitComesBackAsItWas) {
  ChunkHead head{.bytes = 8192, .version = 1, .record_number = 2, .truncate_generation = 3, .tail_sum = 4, .unit_end = 1,
                 .group = GroupId(5), .epoch = Epoch(6)};
  const std::string bytes = EncodeUnit(0, SomeUnit(), &head);
  UnitValue unit;
  ChunkHead found;
  ASSERT_TRUE(DecodeUnit(bytes, 0, &unit, &found).ok());
  EXPECT_EQ(found.bytes, 8192u);
  EXPECT_EQ(found.record_number, 2u);
  EXPECT_EQ(found.group, GroupId(5));
  EXPECT_EQ(found.epoch, Epoch(6));
  ASSERT_EQ(unit.extents.size(), 1u);
  EXPECT_EQ(unit.extents[0].place.segment, SegmentNumber(3));
  EXPECT_EQ(unit.sums, SomeUnit().sums);
  EXPECT_EQ(DecodeHead(bytes)->epoch, Epoch(6));
  EXPECT_EQ(DecodeHead(std::string_view(bytes).substr(0, 20)).status().code(), StatusCode::kCorruption);
}

TEST(IndexFormat, OtherVersionsAreRefused) {
  std::string checkpoint = EncodeCheckpoint({.sequence = RecordSequence(9), .next_sequence = RecordSequence(10), .next_segment = SegmentNumber(11)});
  ASSERT_TRUE(DecodeCheckpoint(checkpoint).ok());
  for (const char version : {1, 3}) {
    checkpoint[0] = version;
    EXPECT_EQ(DecodeCheckpoint(checkpoint).status().code(), StatusCode::kNotSupported);
  }
}

TEST(IndexFormat, DamagedValuesAreRefused) {
  const ChunkHead head{.bytes = 8192, .version = 1, .record_number = 2, .truncate_generation = 0, .tail_sum = 0, .unit_end = 1,
                       .group = {}, .epoch = {}};
  const std::string bytes = EncodeUnit(0, SomeUnit(), &head);
  UnitValue unit;
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_EQ(DecodeUnit(std::string_view(bytes).substr(0, length), 0, &unit, nullptr).code(), StatusCode::kCorruption) << length;
  }
  EXPECT_EQ(DecodeUnit(bytes + "x", 0, &unit, nullptr).code(), StatusCode::kCorruption);
  EXPECT_EQ(DecodeUnit(bytes, 1, &unit, nullptr).code(), StatusCode::kCorruption);
  std::string behind_the_sums = bytes;
  behind_the_sums[8 + 56 + 16] = 77;  // the extent's block count
  EXPECT_EQ(DecodeUnit(behind_the_sums, 0, &unit, nullptr).code(), StatusCode::kCorruption);
  EXPECT_EQ(DecodeDeadRanges("short").status().code(), StatusCode::kCorruption);
  EXPECT_EQ(DecodeGroupEntry("short").status().code(), StatusCode::kCorruption);
  EXPECT_EQ(DecodeCheckpoint("short").status().code(), StatusCode::kCorruption);
  EXPECT_EQ(DecodeSegmentValue("short").status().code(), StatusCode::kCorruption);
}

TEST(IndexFormat, SmallValuesHaveTheirGoldenBytes) {
  const DeadRange ranges[] = {{SegmentNumber(1), 2, 3}, {SegmentNumber(4), 5, 6}};
  EXPECT_EQ(Hex(EncodeDeadRanges(ranges)), "01000000" "02000000" "03000000" "04000000" "05000000" "06000000");
  EXPECT_EQ(DecodeDeadRanges(EncodeDeadRanges(ranges))->at(1), ranges[1]);
  EXPECT_EQ(Hex(EncodeCheckpoint({.sequence = RecordSequence(9), .next_sequence = RecordSequence(10), .next_segment = SegmentNumber(11)})),
            "02000000" "0b000000" "0900000000000000" "0a00000000000000");
  const ScrubValue scrub{.is_running = true, .bytes_checked = 1, .bytes_total = 2, .errors_found = 3, .errors_repaired = 4,
                         .last_round_ended_ns = 5, .waits_since_ns = 6, .position = "at"};
  EXPECT_EQ(Hex(EncodeScrub(scrub)), "0101000000000000" "0100000000000000" "0200000000000000" "0300000000000000" "0400000000000000"
                                     "0500000000000000" "0600000000000000" "6174");
  EXPECT_EQ(DecodeScrub(EncodeScrub(scrub))->position, "at");
  EXPECT_EQ(DecodeScrub(EncodeScrub(scrub))->errors_repaired, 4u);
  EXPECT_EQ(DecodeScrub("short").status().code(), StatusCode::kCorruption);
  EXPECT_EQ(Hex(DamagedKey({DataId(1), 2})), "78" "0000000000000001" "00000002");
  EXPECT_EQ(DecodeDamagedKey(DamagedKey({DataId(1), 2})), (ChunkId{DataId(1), 2}));
  EXPECT_EQ(Hex(EncodeDamagedValue(GroupId(5))), "05000000");
  EXPECT_EQ(*DecodeDamagedValue(EncodeDamagedValue(GroupId(5))), GroupId(5));
  const GroupEntry entry{.epoch = Epoch(1), .version = 2, .bytes = 3};
  EXPECT_EQ(Hex(EncodeGroupEntry(entry)), "0100000000000000" "0200000000000000" "0300000000000000");
  EXPECT_EQ(*DecodeGroupEntry(EncodeGroupEntry(entry)), entry);
  EXPECT_EQ(Hex(EncodeSegmentValue({.generation = 12, .scan_from_block = 13})), "0c00000000000000" "0d000000" "00000000");
}

TargetIdentity SomeIdentity() {
  TargetIdentity identity{.cluster_id = "\x01\x02", .server = ServerId(3), .target = TargetId(4)};
  for (uint8_t i = 0; i < 16; ++i) identity.uuid[i] = i;
  identity.index_made = true;
  return identity;
}

TEST(TargetFile, HasItsGoldenText) {
  EXPECT_EQ(EncodeTargetIdentity(SomeIdentity()),
            "format tarn-target 1\n"
            "uuid 000102030405060708090a0b0c0d0e0f\n"
            "cluster 0102\n"
            "server 3\n"
            "target 4\n"
            "index made\n"
            "sum ecf3016f5d1b8219\n");
}

TEST(TargetFile, ComesBackAsItWasOrIsRefused) {
  const std::string text = EncodeTargetIdentity(SomeIdentity());
  const Result<TargetIdentity> found = DecodeTargetIdentity(text);
  ASSERT_TRUE(found.ok()) << found.status().ToString();
  EXPECT_EQ(found->uuid, SomeIdentity().uuid);
  EXPECT_EQ(found->cluster_id, "\x01\x02");
  EXPECT_EQ(found->target, TargetId(4));
  EXPECT_TRUE(found->index_made);
  for (size_t i = 0; i < text.size(); ++i) {
    std::string damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x02);
    EXPECT_FALSE(DecodeTargetIdentity(damaged).ok()) << i;
    EXPECT_FALSE(DecodeTargetIdentity(text.substr(0, i)).ok()) << i;
  }
}

}  // namespace
}  // namespace tarn::store
