#include "common/io/record_file.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <vector>

#include "common/base/posix_io.h"

namespace tarn {
namespace {

namespace fs = std::filesystem;

class RecordFileTest : public testing::Test {
 protected:
  RecordFileTest() {
    std::string pattern = (fs::temp_directory_path() / "record_file_test.XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    path_ = directory_ + "/file";
  }
  ~RecordFileTest() override { fs::remove_all(directory_); }

  void WriteSome() {
    auto writer = RecordFileWriter::Create(path_, "TESTFILE");
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE(writer->Append("ab").ok());
    ASSERT_TRUE(writer->Append(std::string(100'000, 'x')).ok());
    ASSERT_TRUE(writer->Finish().ok());
  }
  // The records, or the status that reading ended with.
  StatusCode ReadAll(std::vector<std::string>* records, const std::string& magic = "TESTFILE") {
    auto reader = RecordFileReader::Open(path_, magic);
    if (!reader.ok()) return reader.status().code();
    while (true) {
      auto record = reader->Next();
      if (!record.ok()) return record.status().code();
      if (!*record) return StatusCode::kOk;
      records->push_back(**record);
    }
  }
  StatusCode CodeOf(const std::string& contents) {
    EXPECT_TRUE(WriteSmallFileDurably(path_, contents).ok());
    std::vector<std::string> ignored;
    return ReadAll(&ignored);
  }

  std::string directory_;
  std::string path_;
};

TEST_F(RecordFileTest, GivesBackWhatWasWritten) {
  WriteSome();
  std::vector<std::string> records;
  ASSERT_EQ(ReadAll(&records), StatusCode::kOk);
  EXPECT_EQ(records, (std::vector<std::string>{"ab", std::string(100'000, 'x')}));
  EXPECT_FALSE(fs::exists(path_ + ".partial"));
}

TEST_F(RecordFileTest, HasItsGoldenBytes) {
  auto writer = RecordFileWriter::Create(path_, "TESTFILE");
  ASSERT_TRUE(writer->Append("ab").ok());
  ASSERT_TRUE(writer->Finish().ok());
  const std::string bytes = *ReadSmallFile(path_);
  ASSERT_EQ(bytes.size(), 16u + 16 + 2 + 16 + 16);
  EXPECT_EQ(bytes.substr(0, 16), std::string("TESTFILE\x01\0\0\0\0\0\0\0", 16));
  EXPECT_EQ(bytes.substr(16, 8), std::string("\x02\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(bytes.substr(32, 2), "ab");
  EXPECT_EQ(bytes.substr(34, 8), std::string(8, '\0'));
  EXPECT_EQ(bytes.substr(50), std::string("\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0", 16));
}

TEST_F(RecordFileTest, NothingIsThereBeforeItIsFinished) {
  auto writer = RecordFileWriter::Create(path_, "TESTFILE");
  ASSERT_TRUE(writer->Append("ab").ok());
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(RecordFileTest, ACutAtAnyPlaceIsNoticed) {
  auto writer = RecordFileWriter::Create(path_, "TESTFILE");
  ASSERT_TRUE(writer->Append("ab").ok());
  ASSERT_TRUE(writer->Append("cdef").ok());
  ASSERT_TRUE(writer->Finish().ok());
  const std::string whole = *ReadSmallFile(path_);
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    EXPECT_EQ(CodeOf(whole.substr(0, bytes)), StatusCode::kCorruption) << bytes;
  }
  EXPECT_EQ(CodeOf(whole + "x"), StatusCode::kCorruption);
  EXPECT_EQ(CodeOf(whole), StatusCode::kOk);
}

TEST_F(RecordFileTest, AFlippedBitAnywhereIsNoticed) {
  auto writer = RecordFileWriter::Create(path_, "TESTFILE");
  ASSERT_TRUE(writer->Append("ab").ok());
  ASSERT_TRUE(writer->Finish().ok());
  const std::string whole = *ReadSmallFile(path_);
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    EXPECT_NE(CodeOf(damaged), StatusCode::kOk) << at;
  }
}

TEST_F(RecordFileTest, AnotherKindOfFileIsRefused) {
  WriteSome();
  std::vector<std::string> records;
  EXPECT_EQ(ReadAll(&records, "OTHERFIL"), StatusCode::kCorruption);
}

}  // namespace
}  // namespace tarn
