// chmod, chown, utimens and extended attributes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metaserver/state/limits.h"
#include "metaserver/state/memory_kv.h"
#include "metaserver/state/testing/state_driver.h"

namespace tarn::meta {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class AttributesOpsTest : public testing::Test {
 protected:
  AttributesOpsTest() {
    driver_.SetUpCluster();
    file_ = driver_.Create(driver_.root(), "f").attributes().inode();
  }

  proto::Mutation SetAttr(uint64_t inode) {
    proto::Mutation mutation;
    mutation.mutable_set_attr()->set_inode(inode);
    return mutation;
  }
  StatusCode SetXattr(uint64_t inode, const std::string& name, const std::string& value, bool create_only = false,
                      bool replace_only = false) {
    proto::Mutation mutation;
    auto* op = mutation.mutable_set_xattr();
    op->set_inode(inode);
    op->set_name(name);
    op->set_value(value);
    op->set_create_only(create_only);
    op->set_replace_only(replace_only);
    return CodeOf(driver_.Run(mutation));
  }
  StatusCode RemoveXattr(uint64_t inode, const std::string& name) {
    proto::Mutation mutation;
    mutation.mutable_remove_xattr()->set_inode(inode);
    mutation.mutable_remove_xattr()->set_name(name);
    return CodeOf(driver_.Run(mutation));
  }
  StatusCode GetXattr(uint64_t inode, const std::string& name, std::string* value = nullptr) {
    proto::GetXattrRequest request;
    request.set_inode(inode);
    request.set_name(name);
    proto::GetXattrReply reply;
    const Status status = driver_.machine().GetXattr(request, &reply);
    if (status.ok() && value != nullptr) *value = reply.value();
    return status.code();
  }
  std::vector<std::string> Xattrs(uint64_t inode) {
    proto::ListXattrRequest request;
    request.set_inode(inode);
    proto::ListXattrReply reply;
    EXPECT_TRUE(driver_.machine().ListXattr(request, &reply).ok());
    return {reply.names().begin(), reply.names().end()};
  }

  MemoryKv store_;
  StateDriver driver_{&store_};
  uint64_t file_ = 0;
};

TEST_F(AttributesOpsTest, OnlyWhatIsGivenChanges) {
  const proto::Attributes before = driver_.Attr(file_);
  proto::Mutation mutation = SetAttr(file_);
  mutation.mutable_set_attr()->set_mode(0100600);
  const proto::MutationReply reply = driver_.Run(mutation);
  proto::Attributes expected = before;
  expected.set_mode(0600);
  expected.set_ctime_ns(driver_.now_ns());
  expected.set_change(before.change() + 1);
  EXPECT_EQ(reply.attributes().SerializeAsString(), expected.SerializeAsString());
  EXPECT_EQ(driver_.Attr(file_).SerializeAsString(), expected.SerializeAsString());
}

TEST_F(AttributesOpsTest, TimesAreSetOrTakenFromTheClock) {
  proto::Mutation mutation = SetAttr(file_);
  mutation.mutable_set_attr()->set_atime_ns(-5);  // before 1970
  mutation.mutable_set_attr()->set_mtime_now(true);
  const proto::MutationReply reply = driver_.Run(mutation);
  EXPECT_EQ(reply.attributes().atime_ns(), -5);
  EXPECT_EQ(reply.attributes().mtime_ns(), driver_.now_ns());
  mutation = SetAttr(file_);
  mutation.mutable_set_attr()->set_atime_now(true);
  mutation.mutable_set_attr()->set_mtime_ns(7);
  mutation.mutable_set_attr()->set_ctime_ns(8);
  const proto::MutationReply again = driver_.Run(mutation);
  EXPECT_EQ(again.attributes().atime_ns(), driver_.now_ns());
  EXPECT_EQ(again.attributes().mtime_ns(), 7);
  EXPECT_EQ(again.attributes().ctime_ns(), 8);
}

TEST_F(AttributesOpsTest, GivingAFileAwayTakesSetIdBits) {
  const struct {
    uint32_t mode;
    uint32_t after;
  } cases[] = {{06755, 00755}, {06745, 02745}, {04644, 00644}, {02644, 02644}, {01777, 01777}};
  for (const auto& each : cases) {
    proto::Mutation mutation = SetAttr(file_);
    mutation.mutable_set_attr()->set_mode(each.mode);
    driver_.Run(mutation);
    mutation = SetAttr(file_);
    mutation.mutable_set_attr()->set_uid(1000);
    EXPECT_EQ(driver_.Run(mutation).attributes().mode(), each.after) << std::oct << each.mode;
  }
  proto::Mutation both = SetAttr(file_);
  both.mutable_set_attr()->set_gid(5);
  both.mutable_set_attr()->set_mode(04755);
  EXPECT_EQ(driver_.Run(both).attributes().mode(), 04755u);
  proto::Mutation written = SetAttr(file_);
  written.mutable_set_attr()->set_clear_suid_sgid(true);
  EXPECT_EQ(driver_.Run(written).attributes().mode(), 00755u);
}

TEST_F(AttributesOpsTest, DirectoriesKeepTheirSetGroupId) {
  const uint64_t directory = driver_.Mkdir(driver_.root(), "d", 02770).attributes().inode();
  proto::Mutation mutation = SetAttr(directory);
  mutation.mutable_set_attr()->set_gid(5);
  EXPECT_EQ(driver_.Run(mutation).attributes().mode(), 02770u);
}

TEST_F(AttributesOpsTest, GoneInodeIsStale) {
  EXPECT_EQ(CodeOf(driver_.Run(SetAttr(9999))), StatusCode::kStaleHandle);
  EXPECT_EQ(SetXattr(9999, "user.a", "1"), StatusCode::kStaleHandle);
  EXPECT_EQ(RemoveXattr(9999, "user.a"), StatusCode::kStaleHandle);
  EXPECT_EQ(GetXattr(9999, "user.a"), StatusCode::kStaleHandle);
}

TEST_F(AttributesOpsTest, XattrsAreSetListedAndRemoved) {
  EXPECT_EQ(GetXattr(file_, "user.a"), StatusCode::kNoAttribute);
  EXPECT_EQ(RemoveXattr(file_, "user.a"), StatusCode::kNoAttribute);
  EXPECT_THAT(Xattrs(file_), IsEmpty());
  EXPECT_EQ(SetXattr(file_, "user.b", "2"), StatusCode::kOk);
  EXPECT_TRUE(driver_.Attr(file_).has_xattrs());
  EXPECT_EQ(driver_.Attr(file_).ctime_ns(), driver_.now_ns());
  EXPECT_EQ(SetXattr(file_, "user.a", ""), StatusCode::kOk);
  EXPECT_THAT(Xattrs(file_), ElementsAre("user.a", "user.b"));
  std::string value = "x";
  EXPECT_EQ(GetXattr(file_, "user.a", &value), StatusCode::kOk);
  EXPECT_EQ(value, "");
  EXPECT_EQ(SetXattr(file_, "user.a", "1", true), StatusCode::kExists);
  EXPECT_EQ(SetXattr(file_, "user.c", "1", false, true), StatusCode::kNoAttribute);
  EXPECT_EQ(SetXattr(file_, "user.a", "new", false, true), StatusCode::kOk);
  EXPECT_EQ(GetXattr(file_, "user.a", &value), StatusCode::kOk);
  EXPECT_EQ(value, "new");
  EXPECT_EQ(RemoveXattr(file_, "user.a"), StatusCode::kOk);
  EXPECT_TRUE(driver_.Attr(file_).has_xattrs());
  EXPECT_EQ(RemoveXattr(file_, "user.b"), StatusCode::kOk);
  EXPECT_FALSE(driver_.Attr(file_).has_xattrs());
}

TEST_F(AttributesOpsTest, XattrBoundsAreKept) {
  EXPECT_EQ(SetXattr(file_, "", "1"), StatusCode::kTooLong);
  EXPECT_EQ(SetXattr(file_, std::string(256, 'n'), "1"), StatusCode::kTooLong);
  EXPECT_EQ(SetXattr(file_, std::string(255, 'n'), std::string(kXattrValueBytesMax, 'v')), StatusCode::kOk);
  EXPECT_EQ(SetXattr(file_, "user.a", std::string(kXattrValueBytesMax + 1, 'v')), StatusCode::kArgumentTooBig);
  EXPECT_EQ(SetXattr(file_, std::string("a\0b", 3), "1"), StatusCode::kInvalidArgument);
  EXPECT_EQ(SetXattr(file_, "user.a", "1", true, true), StatusCode::kInvalidArgument);
  EXPECT_EQ(GetXattr(file_, ""), StatusCode::kTooLong);
  StatusCode code = StatusCode::kOk;
  int count = 1;
  for (; count < 1000 && code == StatusCode::kOk; ++count) {
    code = SetXattr(file_, std::to_string(1000 + count) + std::string(251, 'n'), "");
  }
  EXPECT_EQ(code, StatusCode::kNoSpace);
  EXPECT_EQ(Xattrs(file_).size(), 256u);  // 256 names of 255 bytes and their zeros are 64 KiB
}

TEST_F(AttributesOpsTest, XattrsGoWithTheirInode) {
  EXPECT_EQ(SetXattr(file_, "user.a", "1"), StatusCode::kOk);
  driver_.Unlink(driver_.root(), "f");
  for (const auto& [key, value] : store_.Snapshot()) EXPECT_NE(key[0], 'X');
}

}  // namespace
}  // namespace tarn::meta
