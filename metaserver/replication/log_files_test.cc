#include "metaserver/replication/log_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/base/posix_io.h"

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr uint8_t kCommand = 1;

std::span<const uint8_t> BytesOf(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

class LogFilesTest : public ::testing::Test {
 protected:
  LogFilesTest() {
    std::string pattern = (fs::temp_directory_path() / "log_files_test.XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    EXPECT_TRUE(LogFiles::Create(directory_, std::nullopt, &random_).ok());
    EXPECT_EQ(Reopen().ToString(), "kOk");
  }
  ~LogFilesTest() override {
    files_.reset();
    fs::remove_all(directory_);
  }

  Status Reopen() {
    files_.reset();
    loaded_ = LoadedLog();
    auto opened = LogFiles::Open(directory_, &random_, &loaded_);
    if (opened.ok()) files_ = std::move(*opened);
    return opened.status();
  }
  // One write of entries "<term>:<index>", padded to `bytes`.
  void Append(uint64_t first, int count, uint64_t term, size_t bytes = 0) {
    std::vector<std::string> texts;
    std::vector<LogEntryRef> entries;
    for (int i = 0; i < count; ++i) texts.push_back(Text(first + i, term, bytes));
    for (const std::string& text : texts) entries.push_back({.term = term, .type = kCommand, .bytes = BytesOf(text)});
    ASSERT_EQ(files_->Append(first, entries).ToString(), "kOk");
  }
  static std::string Text(uint64_t index, uint64_t term, size_t bytes = 0) {
    std::string text = std::to_string(term) + ":" + std::to_string(index);
    text.resize(std::max(bytes, text.size()), '.');
    return text;
  }
  std::vector<std::string> Texts() {
    std::vector<std::string> texts;
    for (const LoadedEntry& entry : loaded_.entries) texts.push_back(entry.bytes.substr(0, entry.bytes.find('.')));
    return texts;
  }
  std::string Segment(uint64_t number) const { return directory_ + "/" + SegmentName(number); }
  static void Overwrite(const std::string& path, size_t offset, const std::string& bytes) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(offset));
    file << bytes;
    ASSERT_TRUE(file.good());
  }
  static void FlipBit(const std::string& path, size_t offset) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    const int byte = file.get();
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(static_cast<char>(byte ^ 0x10));
    ASSERT_TRUE(file.good());
  }
  LogMarker Marker(uint64_t index, uint64_t term) {
    LogMarker marker;
    marker.index = index;
    marker.term = term;
    marker.configuration_index = 1;
    marker.configuration = "members";
    marker.data = "state";
    return marker;
  }

  SystemRandom random_;
  std::string directory_;
  LoadedLog loaded_;
  std::unique_ptr<LogFiles> files_;
};

TEST_F(LogFilesTest, EntriesComeBackWithTermAndVote) {
  Append(1, 3, 1);
  Append(4, 1, 2);
  ASSERT_TRUE(files_->WriteVote(7, 3).ok());
  ASSERT_EQ(Reopen().ToString(), "kOk");
  EXPECT_EQ(Texts(), (std::vector<std::string>{"1:1", "1:2", "1:3", "2:4"}));
  EXPECT_EQ(loaded_.entries[3].term, 2u);
  EXPECT_EQ(loaded_.start_index, 1u);
  EXPECT_EQ(loaded_.term, 7u);
  EXPECT_EQ(loaded_.voted_for, 3u);
  EXPECT_EQ(loaded_.torn, "");
}

TEST_F(LogFilesTest, AnAppendReplacesWhatConflicts) {
  Append(1, 5, 1);
  Append(3, 1, 2);
  ASSERT_EQ(Reopen().ToString(), "kOk");
  EXPECT_EQ(Texts(), (std::vector<std::string>{"1:1", "1:2", "2:3"}));
  Append(4, 1, 2);
  ASSERT_EQ(Reopen().ToString(), "kOk");
  EXPECT_EQ(Texts(), (std::vector<std::string>{"1:1", "1:2", "2:3", "2:4"}));
}

TEST_F(LogFilesTest, SegmentsFollowEachOther) {
  for (int i = 1; i <= 40; ++i) Append(i, 1, 1, 1 << 20);
  ASSERT_EQ(Reopen().ToString(), "kOk");
  ASSERT_EQ(loaded_.entries.size(), 40u);
  EXPECT_EQ(loaded_.entries[39].bytes, Text(40, 1, 1 << 20));
  EXPECT_TRUE(fs::exists(Segment(5)));
}

TEST_F(LogFilesTest, LargeEntriesOfOneAppendAreSplitOverSegments) {
  Append(1, 5, 1, 3 << 20);
  ASSERT_EQ(Reopen().ToString(), "kOk");
  EXPECT_EQ(Texts(), (std::vector<std::string>{"1:1", "1:2", "1:3", "1:4", "1:5"}));
}

TEST_F(LogFilesTest, TornEndIsDroppedAndWrittenOver) {
  Append(1, 2, 1);
  Append(3, 1, 1, 10'000);
  files_.reset();
  // The middle block of the last write never reached the disk.
  Overwrite(Segment(1), kLogBlockBytes * 3, std::string(kLogBlockBytes, 'x'));
  ASSERT_EQ(Reopen().ToString(), "kOk");
  EXPECT_EQ(Texts(), (std::vector<std::string>{"1:1", "1:2"}));
  EXPECT_THAT(loaded_.torn, HasSubstr(Segment(1)));
  Append(3, 1, 2);
  Append(4, 1, 2);
  ASSERT_EQ(Reopen().ToString(), "kOk");
  EXPECT_EQ(Texts(), (std::vector<std::string>{"1:1", "1:2", "2:3", "2:4"}));
  EXPECT_EQ(loaded_.torn, "");
}

TEST_F(LogFilesTest, EveryFlippedBitInEntriesThatWereDurableIsRefusedAndNamed) {
  Append(1, 2, 1);
  Append(3, 2, 1);
  files_.reset();
  for (const size_t offset : {0u, 9u, 17u, 25u, 41u, 49u, 65u, 100u}) {
    FlipBit(Segment(1), kLogBlockBytes + offset % 90);
    const Status status = Reopen();
    EXPECT_EQ(status.code(), StatusCode::kCorruption) << offset;
    EXPECT_THAT(status.message(), HasSubstr(Segment(1) + ": damaged at byte 4096")) << offset;
    FlipBit(Segment(1), kLogBlockBytes + offset % 90);
  }
  EXPECT_EQ(Reopen().ToString(), "kOk");
}

TEST_F(LogFilesTest, DamageAtTheEndIsSeenAfterACleanStop) {
  Append(1, 1, 1);
  ASSERT_TRUE(files_->Seal().ok());
  files_.reset();
  FlipBit(Segment(1), kLogBlockBytes + 70);
  EXPECT_EQ(Reopen().code(), StatusCode::kCorruption);
}

TEST_F(LogFilesTest, DamageBeforeASegmentThatContinuesIsRefused) {
  for (int i = 1; i <= 10; ++i) Append(i, 1, 1, 1 << 20);
  files_.reset();
  // The last group of the first segment, whole.
  ASSERT_TRUE(fs::exists(Segment(2)));
  const size_t group = kLogBlockBytes + (1 << 20);
  Overwrite(Segment(1), kLogBlockBytes + 6 * group, std::string(group, '\0'));
  const Status status = Reopen();
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_THAT(status.message(), HasSubstr(Segment(1) + ": damaged at byte"));
}

TEST_F(LogFilesTest, MissingSegmentIsRefused) {
  for (int i = 1; i <= 20; ++i) Append(i, 1, 1, 1 << 20);
  files_.reset();
  fs::remove(Segment(2));
  EXPECT_THAT(Reopen().message(), HasSubstr(Segment(2) + ": missing"));
  fs::remove(Segment(1));
  EXPECT_THAT(Reopen().message(), HasSubstr(Segment(1) + ": missing"));
}

TEST_F(LogFilesTest, DamagedSegmentHeaderIsRefused) {
  Append(1, 1, 1);
  files_.reset();
  FlipBit(Segment(1), 20);
  EXPECT_THAT(Reopen().message(), HasSubstr(Segment(1)));
}

TEST_F(LogFilesTest, MarkerLetsSegmentsGoAndTheyAreUsedAgain) {
  uint64_t next = 1;
  for (int round = 1; round <= 6; ++round) {
    for (int i = 0; i < 16; ++i, ++next) Append(next, 1, 1, 1 << 20);
    ASSERT_TRUE(files_->PutMarker(Marker(next - 1, 1), next - 4).ok());
  }
  // What remains: the last four entries, segments made ahead or kept for that.
  size_t segments = 0;
  for (const auto& entry : fs::directory_iterator(directory_)) {
    segments += SegmentNumber(entry.path().filename().string()).has_value() ? 1 : 0;
  }
  EXPECT_LE(segments, 6u);
  ASSERT_EQ(Reopen().ToString(), "kOk");
  ASSERT_TRUE(loaded_.marker.has_value());
  EXPECT_EQ(loaded_.marker->index, 96u);
  EXPECT_EQ(loaded_.marker->data, "state");
  EXPECT_LE(loaded_.start_index, 92u);
  EXPECT_EQ(loaded_.start_index + loaded_.entries.size(), 97u);
  EXPECT_EQ(Texts().back(), "1:96");
}

TEST_F(LogFilesTest, OldGroupsOfASegmentUsedAgainAreNotRead) {
  for (int i = 1; i <= 16; ++i) Append(i, 1, 1, 1 << 20);
  ASSERT_TRUE(files_->PutMarker(Marker(16, 1), 0).ok());
  Append(17, 1, 2, 1 << 20);
  // Takes over spares, with whole groups of their first life in them.
  for (int i = 18; i <= 40; ++i) Append(i, 1, 2, 2 << 20);
  ASSERT_EQ(Reopen().ToString(), "kOk");
  EXPECT_EQ(loaded_.start_index, 17u);
  EXPECT_EQ(loaded_.entries.size(), 24u);
  for (const LoadedEntry& entry : loaded_.entries) EXPECT_EQ(entry.term, 2u);
}

TEST_F(LogFilesTest, AMarkerFromElsewhereDropsAllEntries) {
  Append(1, 5, 1);
  ASSERT_TRUE(files_->PutMarker(Marker(100, 4), 0).ok());
  ASSERT_EQ(Reopen().ToString(), "kOk");
  EXPECT_EQ(loaded_.start_index, 101u);
  EXPECT_TRUE(loaded_.entries.empty());
  Append(101, 1, 4);
  ASSERT_EQ(Reopen().ToString(), "kOk");
  EXPECT_EQ(Texts(), (std::vector<std::string>{"4:101"}));
}

TEST_F(LogFilesTest, LogThatEndsBeforeItsMarkerIsRefused) {
  Append(1, 3, 1);
  Append(4, 2, 1);
  ASSERT_TRUE(files_->PutMarker(Marker(5, 1), 1).ok());
  files_.reset();
  Overwrite(Segment(1), kLogBlockBytes * 2, std::string(kLogBlockBytes, '\0'));
  EXPECT_THAT(Reopen().message(), HasSubstr("the log ends at entry 3, before its snapshot's 5"));
}

TEST_F(LogFilesTest, OneDamagedCopyOfTermAndVoteIsMadeGood) {
  ASSERT_TRUE(files_->WriteVote(3, 2).ok());
  ASSERT_TRUE(files_->WriteVote(9, 1).ok());
  files_.reset();
  FlipBit(directory_ + "/vote-a", 17);
  ASSERT_EQ(Reopen().ToString(), "kOk");
  EXPECT_EQ(loaded_.term, 9u);
  EXPECT_EQ(loaded_.voted_for, 1u);
  files_.reset();
  FlipBit(directory_ + "/vote-b", 17);
  ASSERT_EQ(Reopen().ToString(), "kOk");
  EXPECT_EQ(loaded_.term, 9u);
  files_.reset();
  FlipBit(directory_ + "/vote-a", 3);
  FlipBit(directory_ + "/vote-b", 30);
  EXPECT_EQ(Reopen().code(), StatusCode::kCorruption);
}

TEST_F(LogFilesTest, DamagedMarkerIsRefused) {
  ASSERT_TRUE(files_->PutMarker(Marker(100, 4), 0).ok());
  files_.reset();
  FlipBit(directory_ + "/snapshot", 70);
  EXPECT_THAT(Reopen().message(), HasSubstr(directory_ + "/snapshot"));
}

TEST(LogFormat, GoldenBytes) {
  const std::string text = "abc";
  const LogEntryRef entry{.term = 5, .type = 1, .bytes = BytesOf(text)};
  std::vector<uint8_t> block(GroupBytes({&entry, 1}));
  ASSERT_EQ(block.size(), kLogBlockBytes);
  EncodeGroup({.generation = 0x0102, .sequence = 3, .first_index = 4}, {&entry, 1}, block);
  const std::string head(reinterpret_cast<const char*>(block.data()), 40);
  EXPECT_EQ(head, std::string(
                      "TRLG\x48\0\0\0\x02\x01\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0", 40));
  const std::string body(reinterpret_cast<const char*>(block.data()) + 48, 24);
  EXPECT_EQ(body, std::string("\x05\0\0\0\0\0\0\0\x03\0\0\0\x01\0\0\0abc\0\0\0\0\0", 24));
  const auto group = DecodeGroup(block, 0x0102);
  ASSERT_TRUE(group.has_value());
  EXPECT_FALSE(DecodeGroup(block, 0x0103).has_value());
  const std::string vote = EncodeVote(1, 2, 3);
  EXPECT_EQ(vote.substr(0, 32),
            std::string("TRLV\x01\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0", 32));
  std::vector<uint8_t> header(kLogBlockBytes);
  EncodeSegmentHeader(7, 9, header);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(header.data()), 24),
            std::string("TRLS\x01\0\0\0\x07\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0", 24));
  LogMarker marker;
  marker.index = 1;
  marker.term = 2;
  marker.configuration_index = 3;
  marker.first_segment = 4;
  marker.first_sequence = 5;
  marker.configuration = "c";
  marker.data = "dd";
  const std::string bytes = EncodeMarker(marker);
  EXPECT_EQ(bytes.substr(0, 56), std::string("TRLM\x01\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0"
                                             "\x04\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0",
                                             56));
  EXPECT_EQ(bytes.substr(64), "cdd");
  EXPECT_EQ(SegmentName(0x1f), "000000000000001f.log");
  EXPECT_EQ(SegmentNumber("000000000000001f.log"), 0x1fu);
  EXPECT_FALSE(SegmentNumber("000000000000001f.log.new").has_value());
}

}  // namespace
}  // namespace tarn::meta
