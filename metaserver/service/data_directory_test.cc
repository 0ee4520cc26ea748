#include "metaserver/service/data_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/base/clock.h"
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

  // As a server does that makes a new group.
  Result<DataDirectory> Open() {
    auto directory = DataDirectory::Open(path_, &random_);
    if (!directory.ok() || !directory->is_new()) return directory;
    const MetaserverIdentity identity{NewClusterId(&random_), 1, clock_.WallNs()};
    const Status created = directory->Create(identity, [this](const std::string& log) {
      ++logs_made_;
      std::ofstream(log + "/metadata1") << "log";
      return make_log_;
    });
    if (!created.ok()) return created;
    return directory;
  }
  void MakeState(const std::string& name, const std::string& content) {
    fs::create_directories(path_ + "/" + name);
    std::ofstream(path_ + "/" + name + "/CURRENT") << content;
  }
  std::string State() { return ReadSmallFile(path_ + "/state/CURRENT").value(); }

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

TEST_F(DataDirectoryTest, NonceOfAFirstStartSurvivesACrash) {
  uint64_t nonce = 0;
  {
    const auto directory = DataDirectory::Open(path_, &random_);
    ASSERT_TRUE(directory.ok() && directory->is_new());
    nonce = directory->nonce();
    EXPECT_NE(nonce, 0u);
  }
  const auto directory = DataDirectory::Open(path_, &random_);
  ASSERT_TRUE(directory.ok() && directory->is_new());
  EXPECT_EQ(directory->nonce(), nonce);
}

TEST_F(DataDirectoryTest, CheckpointTakesThePlaceOfTheStateWholeOrNotAtAll) {
  { ASSERT_TRUE(Open().ok()); }
  MakeState("state", "old");
  MakeState("state.incoming", "half");
  MakeState("checkpoints/abc", "sent");
  {
    const auto directory = Open();
    ASSERT_TRUE(directory.ok()) << directory.status().ToString();
    EXPECT_EQ(State(), "old") << "a crash before it was whole";
    EXPECT_FALSE(fs::exists(directory->incoming_path()));
    EXPECT_FALSE(fs::exists(directory->checkpoint_path()));
  }
  {
    auto directory = Open();
    ASSERT_TRUE(directory.ok());
    MakeState("state.incoming", "new");
    ASSERT_TRUE(directory->MarkIncomingReady().ok());
    EXPECT_EQ(State(), "old");
  }
  {
    ASSERT_TRUE(Open().ok());
    EXPECT_EQ(State(), "new") << "a crash after it was whole";
  }
  auto directory = Open();
  ASSERT_TRUE(directory.ok());
  MakeState("state.incoming", "newer");
  ASSERT_TRUE(directory->MarkIncomingReady().ok());
  ASSERT_TRUE(directory->PutReadyState().ok());
  EXPECT_EQ(State(), "newer");
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
