// Look-ups, paths and listings.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "metaserver/state/keys.h"
#include "metaserver/state/limits.h"
#include "metaserver/state/memory_kv.h"
#include "metaserver/state/records.h"
#include "metaserver/state/testing/state_driver.h"

namespace tarn::meta {
namespace {

using testing::ElementsAre;

class NamespaceReadsTest : public testing::Test {
 protected:
  NamespaceReadsTest() {
    driver_.SetUpCluster();
    root_ = driver_.root();
  }

  StatusCode Path(uint64_t root, const std::string& path, uint64_t* inode = nullptr) {
    proto::LookupPathRequest request;
    request.set_root(root);
    request.set_path(path);
    proto::LookupReply reply;
    const Status status = driver_.machine().LookupPath(request, &reply);
    if (status.ok() && inode != nullptr) *inode = reply.attributes().inode();
    return status.code();
  }
  uint64_t InodeOfPath(uint64_t root, const std::string& path) {
    uint64_t inode = 0;
    EXPECT_EQ(Path(root, path, &inode), StatusCode::kOk) << path;
    return inode;
  }
  proto::ReadDirReply Page(uint64_t directory, uint64_t after_cookie, uint32_t entries_max,
                           bool with_attributes = false) {
    proto::ReadDirRequest request;
    request.set_directory(directory);
    request.set_after_cookie(after_cookie);
    request.set_entries_max(entries_max);
    request.set_with_attributes(with_attributes);
    proto::ReadDirReply reply;
    EXPECT_TRUE(driver_.machine().ReadDir(request, &reply).ok());
    return reply;
  }
  StatusCode ListCode(uint64_t directory) {
    proto::ReadDirRequest request;
    request.set_directory(directory);
    proto::ReadDirReply reply;
    return driver_.machine().ReadDir(request, &reply).code();
  }

  MemoryKv store_;
  StateDriver driver_{&store_};
  uint64_t root_ = 0;
};

TEST_F(NamespaceReadsTest, LookupKnowsDots) {
  const uint64_t directory = driver_.Mkdir(root_, "d").attributes().inode();
  proto::Attributes found;
  EXPECT_EQ(driver_.Lookup(directory, ".", &found), StatusCode::kOk);
  EXPECT_EQ(found.inode(), directory);
  EXPECT_EQ(driver_.Lookup(directory, "..", &found), StatusCode::kOk);
  EXPECT_EQ(found.inode(), root_);
  EXPECT_EQ(driver_.Lookup(root_, "..", &found), StatusCode::kOk);
  EXPECT_EQ(found.inode(), root_);
}

TEST_F(NamespaceReadsTest, LookupErrors) {
  const uint64_t file = driver_.Create(root_, "f").attributes().inode();
  EXPECT_EQ(driver_.Lookup(root_, "none"), StatusCode::kNotFound);
  EXPECT_EQ(driver_.Lookup(root_, ""), StatusCode::kNotFound);
  EXPECT_EQ(driver_.Lookup(root_, std::string(256, 'x')), StatusCode::kNameTooLong);
  EXPECT_EQ(driver_.Lookup(root_, "a/b"), StatusCode::kInvalidArgument);
  EXPECT_EQ(driver_.Lookup(file, "x"), StatusCode::kNotDirectory);
  EXPECT_EQ(driver_.Lookup(file, "."), StatusCode::kNotDirectory);
  EXPECT_EQ(driver_.Lookup(9999, "x"), StatusCode::kNotFound);
  EXPECT_EQ(driver_.AttrCode(9999), StatusCode::kStaleHandle);
}

TEST_F(NamespaceReadsTest, PathsAreResolvedWithoutFollowingLinks) {
  const uint64_t a = driver_.Mkdir(root_, "a").attributes().inode();
  const uint64_t b = driver_.Mkdir(a, "b").attributes().inode();
  const uint64_t file = driver_.Create(b, "f").attributes().inode();
  const uint64_t link = driver_.Symlink(root_, "l", "a").attributes().inode();
  EXPECT_EQ(InodeOfPath(root_, "a/b/f"), file);
  EXPECT_EQ(InodeOfPath(root_, "//a///b/./f"), file);
  EXPECT_EQ(InodeOfPath(root_, "a/b/../b/f"), file);
  EXPECT_EQ(InodeOfPath(root_, "../../a"), a);
  EXPECT_EQ(InodeOfPath(root_, ""), root_);
  EXPECT_EQ(InodeOfPath(root_, "a/"), a);
  EXPECT_EQ(InodeOfPath(root_, "l"), link);
  EXPECT_EQ(Path(root_, "l/b"), StatusCode::kNotDirectory);
  EXPECT_EQ(Path(root_, "a/b/f/x"), StatusCode::kNotDirectory);
  EXPECT_EQ(Path(root_, "a/none/f"), StatusCode::kNotFound);
  EXPECT_EQ(Path(root_, std::string(256, 'x')), StatusCode::kNameTooLong);
  EXPECT_EQ(Path(root_, std::string(kPathBytesMax + 1, '/')), StatusCode::kNameTooLong);
}

TEST_F(NamespaceReadsTest, ListingGoesOnAfterAnyCookie) {
  std::set<std::string> made;
  for (int i = 0; i < 500; ++i) {
    made.insert("file " + std::to_string(i));
    driver_.Create(root_, "file " + std::to_string(i));
  }
  for (const uint32_t entries_max : {1u, 7u, 499u, 500u, 501u, 0u}) {
    std::set<std::string> listed;
    uint64_t cookie = 0;
    bool end = false;
    while (!end) {
      const proto::ReadDirReply page = Page(root_, cookie, entries_max);
      if (entries_max != 0) {
        EXPECT_LE(page.entries_size(), static_cast<int>(entries_max));
      }
      for (const proto::Entry& entry : page.entries()) {
        EXPECT_GT(entry.cookie(), cookie);
        cookie = entry.cookie();
        EXPECT_TRUE(listed.insert(entry.name()).second) << entry.name();
      }
      end = page.end();
    }
    EXPECT_EQ(listed, made) << entries_max;
  }
}

TEST_F(NamespaceReadsTest, ListingGoesOnAfterANameThatWent) {
  for (int i = 0; i < 10; ++i) driver_.Create(root_, std::to_string(i));
  const proto::ReadDirReply first = Page(root_, 0, 5);
  driver_.Unlink(root_, first.entries(4).name());
  EXPECT_EQ(Page(root_, first.entries(4).cookie(), 10).entries_size(), 5);
  EXPECT_TRUE(Page(root_, kCookieMax, 10).end());
  EXPECT_TRUE(Page(root_, ~uint64_t{0}, 10).end());
}

TEST_F(NamespaceReadsTest, EntriesCarryWhatIsAskedFor) {
  const proto::Attributes file = driver_.CreateWithData(root_, "f", 1000);
  const proto::ReadDirReply plain = Page(root_, 0, 10);
  ASSERT_EQ(plain.entries_size(), 1);
  EXPECT_EQ(plain.entries(0).cookie(), NameCookie("f"));
  proto::Attributes expected;
  expected.set_inode(file.inode());
  expected.set_type(proto::FILE_TYPE_REGULAR);
  EXPECT_EQ(plain.entries(0).attributes().SerializeAsString(), expected.SerializeAsString());
  const proto::ReadDirReply all = Page(root_, 0, 10, true);
  EXPECT_EQ(all.entries(0).attributes().SerializeAsString(), file.SerializeAsString());
}

TEST_F(NamespaceReadsTest, PageNeverEndsBetweenEqualCookies) {
  // No two short names are known to share a cookie, so the keys are made by hand.
  KvBatch batch;
  const auto add = [&](uint64_t cookie, const std::string& name) {
    proto::DentryRecord dentry;
    dentry.set_inode(root_);
    dentry.set_type(proto::FILE_TYPE_DIRECTORY);
    std::string key = DentryAfterCookie(InodeId(root_), cookie - 1);
    batch.changes.push_back({key + name, Encode(dentry)});
  };
  for (int i = 0; i < 3; ++i) add(100, "a" + std::to_string(i));
  for (int i = 0; i < 3; ++i) add(200, "b" + std::to_string(i));
  add(300, "c");
  ASSERT_TRUE(store_.Write(batch).ok());
  const proto::ReadDirReply first = Page(root_, 0, 1);
  ASSERT_EQ(first.entries_size(), 3);
  EXPECT_FALSE(first.end());
  const proto::ReadDirReply second = Page(root_, first.entries(2).cookie(), 2);
  ASSERT_EQ(second.entries_size(), 3);
  EXPECT_EQ(second.entries(0).name(), "b0");
  EXPECT_FALSE(second.end());
  const proto::ReadDirReply third = Page(root_, 200, 2, true);
  ASSERT_EQ(third.entries_size(), 1);
  EXPECT_TRUE(third.end());
}

TEST_F(NamespaceReadsTest, PagesAreBoundedInBytes) {
  const std::string long_name(250, 'n');
  for (int i = 0; i < 4000; ++i) driver_.Create(root_, std::to_string(10'000 + i) + long_name.substr(5));
  const proto::ReadDirReply page = Page(root_, 0, 0, true);
  EXPECT_FALSE(page.end());
  EXPECT_LT(page.ByteSizeLong(), kReadDirBytesMax + 1000);
  EXPECT_GT(page.entries_size(), 1000);
}

TEST_F(NamespaceReadsTest, OnlyDirectoriesAreListed) {
  const uint64_t file = driver_.Create(root_, "f").attributes().inode();
  EXPECT_EQ(ListCode(file), StatusCode::kNotDirectory);
  EXPECT_EQ(ListCode(9999), StatusCode::kNotFound);
}

TEST_F(NamespaceReadsTest, UnreadableRecordIsCorruption) {
  const uint64_t file = driver_.Create(root_, "f").attributes().inode();
  ASSERT_TRUE(store_.Write(KvBatch{.changes = {{InodeKey(InodeId(file)), "\xff\xff"}}}).ok());
  EXPECT_EQ(driver_.AttrCode(file), StatusCode::kCorruption);
  ASSERT_TRUE(store_.Write(KvBatch{.changes = {{DentryKey(InodeId(root_), "f"), "\xff"}}}).ok());
  EXPECT_EQ(ListCode(root_), StatusCode::kCorruption);
}

}  // namespace
}  // namespace tarn::meta
