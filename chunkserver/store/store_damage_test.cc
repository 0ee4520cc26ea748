// Damaged and foreign directories are refused with a line that names the file; damaged data is never passed off as good.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "chunkserver/store/index.h"
#include "chunkserver/store/store_fixture.h"
#include "chunkserver/store/store_model.h"
#include "common/base/posix_io.h"

namespace tarn::store {
namespace {

using testing::HasSubstr;

class StoreDamageTest : public StoreFixture {
 protected:
  std::string InTarget(const std::string& name) const { return options_.directory + "/" + name; }
  std::string SegmentPath(uint32_t number) const { return InTarget("segments/" + SegmentFileName(SegmentNumber(number))); }

  void ExpectRefused(StatusCode code, const std::string& text) {
    const Status refused = TryOpen();
    EXPECT_EQ(refused.code(), code) << refused.ToString();
    EXPECT_THAT(refused.message(), HasSubstr(text));
    EXPECT_EQ(refused.message().find('\n'), std::string::npos) << "one line";
  }

  static void FlipByte(const std::string& path, uint64_t offset) {
    const Result<UniqueFd> file = OpenFile(path, O_RDWR);
    ASSERT_TRUE(file.ok()) << file.status().ToString();
    uint8_t byte = 0;
    ASSERT_EQ(pread(file->get(), &byte, 1, static_cast<off_t>(offset)), 1);
    byte ^= 0x10;
    ASSERT_EQ(pwrite(file->get(), &byte, 1, static_cast<off_t>(offset)), 1);
  }

  static uint64_t FindInFile(const std::string& path, const std::string& needle) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    return bytes.find(needle);
  }

  std::string TryRead(ChunkId chunk) {
    std::string problem;
    ReadWholeChunk(store_.get(), chunk, &problem);
    return problem;
  }
};

TEST_F(StoreDamageTest, ASecondServerIsRefused) {
  Open();
  std::unique_ptr<ChunkStore> first = std::move(store_);
  ExpectRefused(StatusCode::kBusy, InTarget("LOCK"));
}

TEST_F(StoreDamageTest, ADirectoryOfSomethingElseIsRefused) {
  std::filesystem::create_directories(options_.directory);
  std::ofstream(InTarget("precious.txt")) << "data";
  ExpectRefused(StatusCode::kCorruption, "precious.txt");
  EXPECT_TRUE(std::filesystem::exists(InTarget("precious.txt")));
}

TEST_F(StoreDamageTest, ADamagedTargetFileIsRefused) {
  Open();
  Close();
  FlipByte(InTarget("TARGET"), 30);
  ExpectRefused(StatusCode::kCorruption, InTarget("TARGET"));
}

TEST_F(StoreDamageTest, AnotherClustersTargetIsRefused) {
  Open();
  ASSERT_TRUE(store_->Adopt("cluster-a", ServerId(1), TargetId(2)).ok());
  Reopen();
  EXPECT_EQ(store_->identity().cluster_id, "cluster-a");
  EXPECT_TRUE(store_->Adopt("cluster-a", ServerId(1), TargetId(2)).ok());
  const Status foreign = store_->Adopt("cluster-b", ServerId(1), TargetId(2));
  EXPECT_EQ(foreign.code(), StatusCode::kPermission);
  EXPECT_THAT(foreign.message(), HasSubstr(InTarget("TARGET")));
  EXPECT_EQ(store_->Adopt("cluster-a", ServerId(1), TargetId(3)).code(), StatusCode::kPermission);
}

TEST_F(StoreDamageTest, AMissingSegmentIsNamed) {
  Open();
  Write(Id(1), 0, Pattern(9'000, 1));
  Close();
  std::filesystem::remove(SegmentPath(1));
  ExpectRefused(StatusCode::kCorruption, SegmentFileName(SegmentNumber(1)));
}

TEST_F(StoreDamageTest, ADamagedSegmentHeaderIsNamed) {
  Open();
  Write(Id(1), 0, Pattern(9'000, 1));
  Close();
  FlipByte(SegmentPath(1), 17);
  ExpectRefused(StatusCode::kCorruption, SegmentPath(1));
}

TEST_F(StoreDamageTest, ASegmentOfAnotherTargetIsNamed) {
  Open();
  Write(Id(1), 0, Pattern(9'000, 1));
  Close();
  std::filesystem::copy(SegmentPath(1), directory_ + "/foreign");
  std::filesystem::remove_all(options_.directory);
  Open();
  Write(Id(1), 0, Pattern(9'000, 2));
  Close();
  std::filesystem::copy(directory_ + "/foreign", SegmentPath(1), std::filesystem::copy_options::overwrite_existing);
  ExpectRefused(StatusCode::kCorruption, "another target");
}

TEST_F(StoreDamageTest, AMissingIndexIsNotReplacedByAnEmptyOne) {
  Open();
  Write(Id(1), 0, "bytes");
  Close();
  std::filesystem::remove_all(InTarget("index"));
  ExpectRefused(StatusCode::kCorruption, "--rebuild-index");
  options_.rebuild_index = true;
  Open();
  EXPECT_EQ(TryRead(Id(1)), "");
  EXPECT_EQ(store_->StatData(DataId(1))->at(0).bytes, 5u);
}

TEST_F(StoreDamageTest, ADamagedIndexFileIsNamed) {
  Open();
  for (uint64_t data = 1; data < 200; ++data) Write(Id(data), 0, "bytes");
  Close();
  bool has_table = false;
  for (const auto& entry : std::filesystem::directory_iterator(InTarget("index"))) {
    if (entry.path().extension() != ".sst") continue;
    has_table = true;
    std::filesystem::resize_file(entry.path(), 100);
  }
  ASSERT_TRUE(has_table);
  ExpectRefused(StatusCode::kCorruption, ".sst");
  options_.rebuild_index = true;
  Open();
  EXPECT_EQ(store_->StatData(DataId(17))->at(0).bytes, 5u);
}

TEST_F(StoreDamageTest, AnInterruptedRebuildIsNotTakenForAnIndex) {
  Open();
  Write(Id(1), 0, "bytes");
  Close();
  // An index without a checkpoint is what a rebuild leaves that was killed half-way.
  std::filesystem::remove_all(InTarget("index"));
  ASSERT_TRUE(Index::Open({.path = InTarget("index"), .create_if_missing = true}).ok());
  ExpectRefused(StatusCode::kCorruption, "--rebuild-index");
}

TEST_F(StoreDamageTest, AFlippedByteIsNeverPassedOffAsGood) {
  Open();
  const std::string bytes = Pattern(20'000, 1);
  Write(Id(1), 0, bytes);
  Close();
  const uint64_t position = FindInFile(SegmentPath(1), bytes.substr(8'192, 64));
  ASSERT_NE(position, std::string::npos);
  FlipByte(SegmentPath(1), position + 5);
  Open();
  // The plain read passes on bytes and stored sum, which do not fit: the client sees that.
  EXPECT_THAT(TryRead(Id(1)), HasSubstr("block 2"));
  std::vector<uint8_t> found;
  const Status corrupt = store_->ReadVerified({.chunk = Id(1), .offset = 0, .length = 32'768, .view = {}}, &found).status();
  EXPECT_EQ(corrupt.code(), StatusCode::kCorruption);
  EXPECT_THAT(corrupt.message(), HasSubstr("chunk 1:0 block 2"));
  EXPECT_THAT(corrupt.message(), HasSubstr(SegmentPath(1) + " at byte " + std::to_string(position)));
  EXPECT_THAT(corrupt.message(), HasSubstr("target 0"));
  EXPECT_EQ(store_->metrics().checksum_errors, 1u);
  // A write that would have to merge with it is refused, one that replaces the block heals it.
  EXPECT_EQ(TryWrite(Id(1), 9'000, "x").status().code(), StatusCode::kCorruption);
  Write(Id(1), 8'192, bytes.substr(8'192, 4'096));
  EXPECT_EQ(TryRead(Id(1)), "");
}

TEST_F(StoreDamageTest, ADurableRecordThatIsDamagedBeforeItIsIndexedIsNotForgotten) {
  Open();
  const std::string bytes = Pattern(20'000, 1);
  Write(Id(1), 0, Pattern(20'000, 7));
  Write(Id(1), 0, bytes);
  ASSERT_TRUE(store_->Commit().ok());
  Write(Id(2), 0, "a later record tells that the first two were durable");
  Kill();
  const uint64_t position = FindInFile(SegmentPath(1), bytes.substr(4'096, 64));
  FlipByte(SegmentPath(1), position);
  Open();
  EXPECT_THAT(TryRead(Id(1)), HasSubstr("block 1")) << "neither the older bytes nor the damaged ones";
}

TEST_F(StoreDamageTest, ADurableRecordThatIsMissingStopsTheStart) {
  Open();
  Write(Id(1), 0, Pattern(20'000, 1));
  ASSERT_TRUE(store_->Commit().ok());
  Write(Id(2), 0, "a later record tells that the first was durable");
  Kill();
  // The first record's header follows the segment's.
  FlipByte(SegmentPath(1), 4096 + 20);
  ExpectRefused(StatusCode::kCorruption, "though it was durable");
}

TEST_F(StoreDamageTest, BytesThatLookLikeRecordsAreData) {
  Open();
  Write(Id(1), 0, Pattern(20'000, 1));
  Close();
  std::ifstream file(SegmentPath(1), std::ios::binary);
  const std::string segment((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  Open();
  Write(Id(2), 0, segment);
  Kill();
  Open();
  EXPECT_EQ(TryRead(Id(1)), "");
  std::string problem;
  EXPECT_EQ(ReadWholeChunk(store_.get(), Id(2), &problem), segment);
  EXPECT_EQ(problem, "");
}

}  // namespace
}  // namespace tarn::store
