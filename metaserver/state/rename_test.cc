// rename: every case that POSIX and renameat2 name, with link counts and times.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metaserver/state/memory_kv.h"
#include "metaserver/state/testing/state_driver.h"

namespace tarn::meta {
namespace {

using testing::ElementsAre;

class RenameTest : public testing::Test {
 protected:
  RenameTest() {
    driver_.SetUpCluster();
    root_ = driver_.root();
  }

  uint64_t File(uint64_t parent, const std::string& name) { return driver_.Create(parent, name).attributes().inode(); }
  uint64_t Directory(uint64_t parent, const std::string& name) {
    return driver_.Mkdir(parent, name).attributes().inode();
  }
  proto::MutationReply Flags(uint64_t parent, const std::string& name, uint64_t new_parent, const std::string& new_name,
                             bool no_replace, bool exchange) {
    proto::Mutation mutation;
    auto* op = mutation.mutable_rename();
    op->set_parent(parent);
    op->set_name(name);
    op->set_new_parent(new_parent);
    op->set_new_name(new_name);
    op->set_no_replace(no_replace);
    op->set_exchange(exchange);
    return driver_.Run(mutation);
  }
  StatusCode Exchange(uint64_t parent, const std::string& name, uint64_t new_parent, const std::string& new_name) {
    return CodeOf(Flags(parent, name, new_parent, new_name, false, true));
  }
  StatusCode Rename(uint64_t parent, const std::string& name, uint64_t new_parent, const std::string& new_name) {
    return CodeOf(driver_.Rename(parent, name, new_parent, new_name));
  }
  uint64_t InodeOf(uint64_t parent, const std::string& name) {
    proto::Attributes found;
    return driver_.Lookup(parent, name, &found) == StatusCode::kOk ? found.inode() : 0;
  }

  MemoryKv store_;
  StateDriver driver_{&store_};
  uint64_t root_ = 0;
};

TEST_F(RenameTest, MovesAFileWithinItsDirectory) {
  const uint64_t file = File(root_, "a");
  const proto::MutationReply reply = driver_.Rename(root_, "a", root_, "b");
  ASSERT_EQ(CodeOf(reply), StatusCode::kOk);
  EXPECT_EQ(reply.attributes().inode(), file);
  EXPECT_EQ(reply.attributes().ctime_ns(), driver_.now_ns());
  EXPECT_FALSE(reply.has_removed());
  EXPECT_THAT(driver_.Names(root_), ElementsAre("b"));
  EXPECT_EQ(driver_.Attr(root_).size_bytes(), 1u);
  EXPECT_EQ(driver_.Attr(root_).mtime_ns(), driver_.now_ns());
}

TEST_F(RenameTest, MovesAFileToAnotherDirectory) {
  const uint64_t file = File(root_, "a");
  const uint64_t directory = Directory(root_, "d");
  EXPECT_EQ(Rename(root_, "a", directory, "b"), StatusCode::kOk);
  EXPECT_EQ(InodeOf(directory, "b"), file);
  EXPECT_EQ(driver_.Attr(root_).size_bytes(), 1u);
  EXPECT_EQ(driver_.Attr(directory).size_bytes(), 1u);
  EXPECT_EQ(driver_.Attr(root_).mtime_ns(), driver_.now_ns());
  EXPECT_EQ(driver_.Attr(directory).mtime_ns(), driver_.now_ns());
}

TEST_F(RenameTest, MovedDirectoryHasANewParent) {
  const uint64_t a = Directory(root_, "a");
  const uint64_t b = Directory(root_, "b");
  const uint64_t moved = Directory(a, "moved");
  EXPECT_EQ(Rename(a, "moved", b, "here"), StatusCode::kOk);
  EXPECT_EQ(driver_.Attr(a).nlink(), 2u);
  EXPECT_EQ(driver_.Attr(b).nlink(), 3u);
  EXPECT_EQ(driver_.Attr(moved).parent(), b);
  EXPECT_EQ(InodeOf(moved, ".."), b);
}

TEST_F(RenameTest, FileReplacesFile) {
  File(root_, "a");
  const proto::Attributes old = driver_.CreateWithData(root_, "b", 5000);
  const proto::MutationReply reply = driver_.Rename(root_, "a", root_, "b");
  ASSERT_EQ(CodeOf(reply), StatusCode::kOk);
  EXPECT_EQ(reply.removed().inode(), old.inode());
  EXPECT_EQ(reply.removed().nlink(), 0u);
  EXPECT_EQ(driver_.AttrCode(old.inode()), StatusCode::kStaleHandle);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 1u);
  EXPECT_THAT(driver_.Names(root_), ElementsAre("b"));
  EXPECT_EQ(driver_.Attr(root_).size_bytes(), 1u);
  EXPECT_EQ(driver_.VolumeNow().used_bytes(), 0u);
  EXPECT_EQ(driver_.VolumeNow().used_inodes(), 1u);
}

TEST_F(RenameTest, ReplacedFileThatIsHeldOpenStaysReadable) {
  File(root_, "a");
  const proto::Attributes old = driver_.CreateWithData(root_, "b", 5000);
  proto::Mutation mutation;
  auto* op = mutation.mutable_rename();
  op->set_parent(root_);
  op->set_name("a");
  op->set_new_parent(root_);
  op->set_new_name("b");
  op->set_replaced_held_open(true);
  ASSERT_EQ(CodeOf(driver_.Run(mutation)), StatusCode::kOk);
  EXPECT_EQ(driver_.Attr(old.inode()).nlink(), 0u);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 0u);
  proto::Mutation release;
  release.mutable_release_orphan()->set_inode(old.inode());
  EXPECT_EQ(CodeOf(driver_.Run(release)), StatusCode::kOk);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 1u);
}

TEST_F(RenameTest, DirectoryReplacesEmptyDirectoryOnly) {
  const uint64_t a = Directory(root_, "a");
  const uint64_t b = Directory(root_, "b");
  const uint64_t c = Directory(root_, "c");
  File(c, "f");
  EXPECT_EQ(Rename(root_, "a", root_, "c"), StatusCode::kNotEmpty);
  EXPECT_EQ(Rename(root_, "a", root_, "b"), StatusCode::kOk);
  EXPECT_EQ(driver_.AttrCode(b), StatusCode::kStaleHandle);
  EXPECT_EQ(InodeOf(root_, "b"), a);
  EXPECT_EQ(driver_.Attr(root_).nlink(), 4u);
  // Replacing under another parent: that parent's count stays, the old one's falls.
  Directory(c, "e");
  EXPECT_EQ(Rename(root_, "b", c, "e"), StatusCode::kOk);
  EXPECT_EQ(driver_.Attr(root_).nlink(), 3u);
  EXPECT_EQ(driver_.Attr(c).nlink(), 3u);
  EXPECT_EQ(driver_.VolumeNow().used_inodes(), 3u);
}

TEST_F(RenameTest, TypesDoNotMix) {
  File(root_, "f");
  Directory(root_, "d");
  EXPECT_EQ(Rename(root_, "d", root_, "f"), StatusCode::kNotDirectory);
  EXPECT_EQ(Rename(root_, "f", root_, "d"), StatusCode::kIsDirectory);
}

TEST_F(RenameTest, DirectoryDoesNotMoveIntoItself) {
  const uint64_t a = Directory(root_, "a");
  const uint64_t b = Directory(a, "b");
  const uint64_t c = Directory(b, "c");
  EXPECT_EQ(Rename(root_, "a", a, "x"), StatusCode::kInvalidArgument);
  EXPECT_EQ(Rename(root_, "a", c, "x"), StatusCode::kInvalidArgument);
  EXPECT_EQ(Rename(b, "c", root_, "a"), StatusCode::kNotEmpty);  // over its own ancestor
  EXPECT_EQ(Exchange(b, "c", root_, "a"), StatusCode::kInvalidArgument);
  EXPECT_EQ(Exchange(root_, "a", b, "c"), StatusCode::kInvalidArgument);
  EXPECT_EQ(Rename(b, "c", root_, "c"), StatusCode::kOk);
}

TEST_F(RenameTest, TwoNamesOfOneInodeStayAsTheyAre) {
  const uint64_t file = File(root_, "a");
  driver_.Link(file, root_, "b");
  const proto::Attributes before = driver_.Attr(file);
  const proto::MutationReply reply = driver_.Rename(root_, "a", root_, "b");
  EXPECT_EQ(CodeOf(reply), StatusCode::kOk);
  EXPECT_FALSE(reply.has_removed());
  EXPECT_EQ(Rename(root_, "a", root_, "a"), StatusCode::kOk);
  EXPECT_THAT(driver_.Names(root_), ElementsAre("a", "b"));
  EXPECT_EQ(driver_.Attr(file).SerializeAsString(), before.SerializeAsString());
  EXPECT_EQ(CodeOf(Flags(root_, "a", root_, "b", true, false)), StatusCode::kExists);
}

TEST_F(RenameTest, NoReplaceRefusesWhatExists) {
  File(root_, "a");
  File(root_, "b");
  EXPECT_EQ(CodeOf(Flags(root_, "a", root_, "b", true, false)), StatusCode::kExists);
  EXPECT_EQ(CodeOf(Flags(root_, "a", root_, "c", true, false)), StatusCode::kOk);
  EXPECT_EQ(CodeOf(Flags(root_, "b", root_, "c", true, true)), StatusCode::kInvalidArgument);
}

TEST_F(RenameTest, ExchangeSwapsAnyTypes) {
  const uint64_t a = Directory(root_, "a");
  const uint64_t b = Directory(root_, "b");
  const uint64_t directory = Directory(a, "x");
  const uint64_t file = File(b, "y");
  EXPECT_EQ(Exchange(a, "x", b, "y"), StatusCode::kOk);
  EXPECT_EQ(InodeOf(a, "x"), file);
  EXPECT_EQ(InodeOf(b, "y"), directory);
  EXPECT_EQ(driver_.Attr(a).nlink(), 2u);
  EXPECT_EQ(driver_.Attr(b).nlink(), 3u);
  EXPECT_EQ(driver_.Attr(directory).parent(), b);
  EXPECT_EQ(driver_.Attr(a).size_bytes(), 1u);
  EXPECT_EQ(Exchange(a, "x", b, "none"), StatusCode::kNotFound);
  EXPECT_EQ(Exchange(a, "none", b, "y"), StatusCode::kNotFound);
  EXPECT_EQ(Exchange(root_, "a", root_, "b"), StatusCode::kOk);
  EXPECT_EQ(InodeOf(root_, "a"), b);
  EXPECT_EQ(driver_.Attr(root_).nlink(), 4u);
}

TEST_F(RenameTest, BadNamesAreRefused) {
  File(root_, "f");
  EXPECT_EQ(Rename(root_, "none", root_, "x"), StatusCode::kNotFound);
  EXPECT_EQ(Rename(root_, "f", root_, ""), StatusCode::kNotFound);
  for (const char* dots : {".", ".."}) {
    EXPECT_EQ(Rename(root_, dots, root_, "x"), StatusCode::kInvalidArgument);
    EXPECT_EQ(Rename(root_, "f", root_, dots), StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(Rename(root_, "f", root_, std::string(256, 'x')), StatusCode::kNameTooLong);
  EXPECT_EQ(Rename(root_, "f", root_, "a/b"), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tarn::meta
