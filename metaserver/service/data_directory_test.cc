#include "metaserver/service/data_directory.h"

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

class DataDirectoryTest : public ::testing::Test {
 protected:
  DataDirectoryTest() {
    std::string pattern = (fs::temp_directory_path() / "data_directory_test.XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~DataDirectoryTest() override { fs::remove_all(path_); }

  Result<DataDirectory> Open() {
    return DataDirectory::Open(path_, &clock_, &random_, [this](const std::string& log, uint64_t) {
      ++logs_made_;
      std::ofstream(log + "/metadata1") << "log";
      return make_log_;
    });
  }

  std::string path_;
  FakeClock clock_;
  SeededRandom random_{1};
  int logs_made_ = 0;
  Status make_log_;
};

TEST_F(DataDirectoryTest, EmptyDirectoryGetsAnIdentityThatStays) {
  MetaserverIdentity identity;
  {
    const auto directory = Open();
    ASSERT_TRUE(directory.ok()) << directory.status().ToString();
    EXPECT_TRUE(directory->is_new());
    identity = directory->identity();
    EXPECT_EQ(identity.cluster_id.size(), 16u);
    EXPECT_EQ(identity.member_id, 1u);
  }
  const auto again = Open();
  ASSERT_TRUE(again.ok());
  EXPECT_FALSE(again->is_new());
  EXPECT_EQ(again->identity().cluster_id, identity.cluster_id);
  EXPECT_EQ(again->identity().created_ns, clock_.WallNs());
  EXPECT_EQ(logs_made_, 1);
}

TEST_F(DataDirectoryTest, IsLocked) {
  const auto first = Open();
  const auto second = Open();
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), StatusCode::kBusy);
  EXPECT_THAT(second.status().message(), HasSubstr(path_ + "/LOCK"));
}

TEST_F(DataDirectoryTest, FirstStartThatDidNotEndBeginsAgain) {
  make_log_ = Status(StatusCode::kIoError, "planted");
  EXPECT_EQ(Open().status().code(), StatusCode::kIoError);
  EXPECT_TRUE(fs::exists(path_ + "/log/metadata1"));
  make_log_ = Status::Ok();
  const auto directory = Open();
  ASSERT_TRUE(directory.ok()) << directory.status().ToString();
  EXPECT_TRUE(directory->is_new());
  EXPECT_FALSE(fs::exists(path_ + "/CREATING"));
}

TEST_F(DataDirectoryTest, ForeignDirectoryIsRefusedAndUntouched) {
  std::ofstream(path_ + "/thesis.tex") << "text";
  const auto directory = Open();
  ASSERT_FALSE(directory.ok());
  EXPECT_THAT(directory.status().message(), HasSubstr("thesis.tex"));
  EXPECT_EQ(logs_made_, 0);
}

TEST_F(DataDirectoryTest, LostIdentityIsRefused) {
  { ASSERT_TRUE(Open().ok()); }
  fs::remove(path_ + "/METASERVER");
  const auto directory = Open();
  ASSERT_FALSE(directory.ok());
  EXPECT_THAT(directory.status().message(), HasSubstr("METASERVER is missing"));
  EXPECT_TRUE(fs::exists(path_ + "/log/metadata1"));
}

TEST(MetaserverIdentity, GoldenBytes) {
  const MetaserverIdentity identity{.cluster_id = "0123456789abcdef", .member_id = 0x0102, .created_ns = 0x0304};
  const std::string bytes = EncodeIdentity(identity);
  const std::string golden(
      "TARNMETA\x01\0\0\0\0\0\0\0"
      "0123456789abcdef"
      "\x02\x01\0\0\0\0\0\0\x04\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
      56);
  ASSERT_EQ(bytes.size(), 64u);
  EXPECT_EQ(bytes.substr(0, 56), golden);
  const auto decoded = DecodeIdentity(bytes, "METASERVER");
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->cluster_id, identity.cluster_id);
  EXPECT_EQ(decoded->member_id, identity.member_id);
  EXPECT_EQ(decoded->created_ns, identity.created_ns);
}

TEST(MetaserverIdentity, EveryFlippedBitIsNoticed) {
  const std::string bytes = EncodeIdentity({.cluster_id = "0123456789abcdef", .member_id = 1, .created_ns = 2});
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    EXPECT_EQ(DecodeIdentity(damaged, "METASERVER").status().code(), StatusCode::kCorruption) << bit;
  }
  EXPECT_FALSE(DecodeIdentity(bytes.substr(1), "METASERVER").ok());
}

}  // namespace
}  // namespace tarn::meta
