#include "common/base/posix_io.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <string>

namespace tarn {
namespace {

class PosixIo : public testing::Test {
 protected:
  PosixIo() {
    std::string pattern = testing::TempDir() + "posix_io_XXXXXX";
    directory_ = mkdtemp(pattern.data());
  }
  ~PosixIo() override { std::filesystem::remove_all(directory_); }

  std::string directory_;
};

TEST_F(PosixIo, SmallFilesComeBackAsWritten) {
  const std::string path = directory_ + "/file";
  ASSERT_TRUE(WriteSmallFileDurably(path, "first").ok());
  ASSERT_TRUE(WriteSmallFileDurably(path, std::string(100'000, 'x')).ok());
  auto contents = ReadSmallFile(path);
  ASSERT_TRUE(contents.ok()) << contents.status().ToString();
  EXPECT_EQ(*contents, std::string(100'000, 'x'));
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST_F(PosixIo, TooLongAndMissingFilesAreNamed) {
  const std::string path = directory_ + "/file";
  ASSERT_TRUE(WriteSmallFileDurably(path, "12345").ok());
  EXPECT_EQ(ReadSmallFile(path, 4).status().code(), StatusCode::kTooLong);
  EXPECT_TRUE(ReadSmallFile(path, 5).ok());
  const Status missing = ReadSmallFile(directory_ + "/absent").status();
  EXPECT_EQ(missing.code(), StatusCode::kNotFound);
  EXPECT_THAT(missing.message(), testing::HasSubstr(directory_ + "/absent"));
}

TEST_F(PosixIo, AShorterFileIsCorruption) {
  const std::string path = directory_ + "/file";
  ASSERT_TRUE(WriteSmallFileDurably(path, "12345").ok());
  auto file = OpenFile(path, O_RDWR);
  ASSERT_TRUE(file.ok());
  std::array<uint8_t, 4> bytes{};
  EXPECT_TRUE(PreadFull(file->get(), bytes, 1, path).ok());
  EXPECT_EQ(bytes[3], '5');
  EXPECT_TRUE(PwriteFull(file->get(), bytes, 4, path).ok());
  EXPECT_EQ(PreadFull(file->get(), bytes, 5, path).code(), StatusCode::kCorruption);
  EXPECT_EQ(*ReadSmallFile(path), "12342345");
}

TEST_F(PosixIo, DirectoriesAreMadeOnce) {
  EXPECT_TRUE(MakeDirectories(directory_ + "/a/b/c").ok());
  EXPECT_TRUE(MakeDirectories(directory_ + "/a/b/c/").ok());
  EXPECT_TRUE(std::filesystem::is_directory(directory_ + "/a/b/c"));
  ASSERT_TRUE(WriteSmallFileDurably(directory_ + "/a/file", "").ok());
  EXPECT_EQ(MakeDirectories(directory_ + "/a/file/d").code(), StatusCode::kNotDirectory);
}

TEST_F(PosixIo, ALockedFileIsBusyAndNamesItsHolder) {
  const std::string path = directory_ + "/LOCK";
  auto held = LockFile(path);
  ASSERT_TRUE(held.ok());
  const Status refused = LockFile(path).status();
  EXPECT_EQ(refused.code(), StatusCode::kBusy);
  EXPECT_EQ(refused.message(), path + " is locked by process " + std::to_string(getpid()));
  held->Reset();
  EXPECT_TRUE(LockFile(path).ok());
}

}  // namespace
}  // namespace tarn
