// create, mkdir, symlink, link, unlink, rmdir: what POSIX says of them, their errors, times and counts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metaserver/state/keys.h"
#include "metaserver/state/limits.h"
#include "metaserver/state/memory_kv.h"
#include "metaserver/state/records.h"
#include "metaserver/state/testing/state_driver.h"

namespace tarn::meta {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class NamespaceOpsTest : public testing::Test {
 protected:
  NamespaceOpsTest() {
    driver_.SetUpCluster();
    root_ = driver_.root();
  }

  proto::Mutation CreateMutation(uint64_t parent, const std::string& name) {
    proto::Mutation mutation;
    mutation.mutable_create()->set_parent(parent);
    mutation.mutable_create()->set_name(name);
    mutation.mutable_create()->set_type(proto::FILE_TYPE_REGULAR);
    mutation.mutable_create()->set_mode(0644);
    return mutation;
  }

  MemoryKv store_;
  StateDriver driver_{&store_};
  uint64_t root_ = 0;
};

TEST_F(NamespaceOpsTest, NewFileBelongsToTheCallerAndStampsItsParent) {
  const proto::Attributes before = driver_.Attr(root_);
  proto::Mutation mutation = CreateMutation(root_, "f");
  mutation.mutable_create()->set_mode(0100640);  // type bits are not part of the mode
  mutation.mutable_caller()->set_uid(1000);
  mutation.mutable_caller()->set_gid(100);
  const proto::MutationReply reply = driver_.Run(mutation);
  ASSERT_EQ(CodeOf(reply), StatusCode::kOk) << reply.message();
  EXPECT_TRUE(reply.created());
  const proto::Attributes& file = reply.attributes();
  EXPECT_EQ(file.mode(), 0640u);
  EXPECT_EQ(file.uid(), 1000u);
  EXPECT_EQ(file.gid(), 100u);
  EXPECT_EQ(file.nlink(), 1u);
  EXPECT_EQ(file.size_bytes(), 0u);
  EXPECT_EQ(file.data_id(), 0u);
  EXPECT_EQ(file.volume(), driver_.volume());
  EXPECT_EQ(file.mtime_ns(), driver_.now_ns());
  EXPECT_EQ(file.btime_ns(), driver_.now_ns());
  const proto::Attributes after = driver_.Attr(root_);
  EXPECT_EQ(after.mtime_ns(), driver_.now_ns());
  EXPECT_EQ(after.ctime_ns(), driver_.now_ns());
  EXPECT_GT(after.change(), before.change());
  EXPECT_EQ(after.atime_ns(), before.atime_ns());
  EXPECT_EQ(after.nlink(), before.nlink());
  proto::Attributes found;
  EXPECT_EQ(driver_.Lookup(root_, "f", &found), StatusCode::kOk);
  EXPECT_EQ(found.SerializeAsString(), file.SerializeAsString());
}

TEST_F(NamespaceOpsTest, RepliesShowTheDirectoriesAsTheChangeLeftThem) {
  const auto shows = [&](const proto::MutationReply& reply, uint64_t directory, const proto::Attributes& shown) {
    EXPECT_EQ(CodeOf(reply), StatusCode::kOk) << reply.message();
    EXPECT_EQ(shown.SerializeAsString(), driver_.Attr(directory).SerializeAsString());
  };
  proto::MutationReply reply = driver_.Create(root_, "f");
  shows(reply, root_, reply.parent());
  const uint64_t file = reply.attributes().inode();
  reply = driver_.Mkdir(root_, "d");
  shows(reply, root_, reply.parent());
  const uint64_t directory = reply.attributes().inode();
  reply = driver_.Symlink(root_, "s", "f");
  shows(reply, root_, reply.parent());
  reply = driver_.Link(file, directory, "g");
  shows(reply, directory, reply.new_parent());
  reply = driver_.Rename(root_, "f", root_, "h");
  shows(reply, root_, reply.parent());
  EXPECT_FALSE(reply.has_new_parent());
  reply = driver_.Rename(root_, "s", directory, "s");
  shows(reply, root_, reply.parent());
  shows(reply, directory, reply.new_parent());
  reply = driver_.Unlink(directory, "s");
  shows(reply, directory, reply.parent());
  reply = driver_.Unlink(directory, "g");
  shows(reply, directory, reply.parent());
  reply = driver_.Rmdir(root_, "d");
  shows(reply, root_, reply.parent());
}

TEST_F(NamespaceOpsTest, NameOfNoInodeIsAnErrorOfItsOwnOnly) {
  const uint64_t file = driver_.Create(root_, "f").attributes().inode();
  driver_.Create(root_, "g");
  KvBatch damage;
  damage.changes.push_back({InodeKey(InodeId(file)), std::nullopt});
  ASSERT_TRUE(store_.Write(damage).ok());
  driver_.Reopen();
  EXPECT_EQ(CodeOf(driver_.Unlink(root_, "f")), StatusCode::kInternal);
  EXPECT_EQ(CodeOf(driver_.Rename(root_, "f", root_, "h")), StatusCode::kInternal);
  EXPECT_EQ(CodeOf(driver_.Rename(root_, "g", root_, "f")), StatusCode::kInternal);
  EXPECT_EQ(CodeOf(driver_.Create(root_, "f")), StatusCode::kInternal);
  EXPECT_EQ(CodeOf(driver_.Unlink(root_, "g")), StatusCode::kOk) << "the rest goes on";
}

TEST_F(NamespaceOpsTest, CreateFindsWhatExists) {
  const proto::MutationReply first = driver_.Create(root_, "f");
  driver_.Mkdir(root_, "d");
  driver_.Symlink(root_, "l", "f");
  const proto::MutationReply again = driver_.Run(CreateMutation(root_, "f"));
  EXPECT_EQ(CodeOf(again), StatusCode::kOk);
  EXPECT_FALSE(again.created());
  EXPECT_EQ(again.attributes().SerializeAsString(), first.attributes().SerializeAsString());
  EXPECT_EQ(CodeOf(driver_.Create(root_, "f")), StatusCode::kExists);
  EXPECT_EQ(CodeOf(driver_.Run(CreateMutation(root_, "d"))), StatusCode::kIsDirectory);
  EXPECT_EQ(CodeOf(driver_.Run(CreateMutation(root_, "l"))), StatusCode::kExists);
}

TEST_F(NamespaceOpsTest, SpecialFilesHaveTypeAndDevice) {
  proto::Mutation mutation = CreateMutation(root_, "null");
  mutation.mutable_create()->set_type(proto::FILE_TYPE_CHARACTER_DEVICE);
  mutation.mutable_create()->set_rdev(0x103);
  const proto::MutationReply device = driver_.Run(mutation);
  EXPECT_EQ(device.attributes().type(), proto::FILE_TYPE_CHARACTER_DEVICE);
  EXPECT_EQ(device.attributes().rdev(), 0x103u);
  for (const auto type : {proto::FILE_TYPE_DIRECTORY, proto::FILE_TYPE_SYMLINK, proto::FILE_TYPE_UNSPECIFIED}) {
    mutation.mutable_create()->set_type(type);
    mutation.mutable_create()->set_name("other");
    EXPECT_EQ(CodeOf(driver_.Run(mutation)), StatusCode::kInvalidArgument);
  }
}

TEST_F(NamespaceOpsTest, SetGroupIdDirectoriesHandDownTheirGroup) {
  proto::Mutation chown;
  const uint64_t parent = driver_.Mkdir(root_, "shared").attributes().inode();
  chown.mutable_set_attr()->set_inode(parent);
  chown.mutable_set_attr()->set_gid(500);
  chown.mutable_set_attr()->set_mode(02775);
  ASSERT_EQ(CodeOf(driver_.Run(chown)), StatusCode::kOk);
  const proto::MutationReply file = driver_.Create(parent, "f");
  EXPECT_EQ(file.attributes().gid(), 500u);
  EXPECT_EQ(file.attributes().mode(), 0644u);
  const proto::MutationReply directory = driver_.Mkdir(parent, "d");
  EXPECT_EQ(directory.attributes().gid(), 500u);
  EXPECT_EQ(directory.attributes().mode(), 02755u);
}

struct NameCase {
  std::string name;
  StatusCode created;
  StatusCode unlinked;
  StatusCode removed;  // rmdir
};

TEST_F(NamespaceOpsTest, BadNamesAreRefused) {
  const NameCase cases[] = {
      {"", StatusCode::kNotFound, StatusCode::kNotFound, StatusCode::kNotFound},
      {".", StatusCode::kExists, StatusCode::kIsDirectory, StatusCode::kInvalidArgument},
      {"..", StatusCode::kExists, StatusCode::kIsDirectory, StatusCode::kNotEmpty},
      {"a/b", StatusCode::kInvalidArgument, StatusCode::kInvalidArgument, StatusCode::kInvalidArgument},
      {std::string("a\0b", 3), StatusCode::kInvalidArgument, StatusCode::kInvalidArgument,
       StatusCode::kInvalidArgument},
      {std::string(256, 'x'), StatusCode::kNameTooLong, StatusCode::kNameTooLong, StatusCode::kNameTooLong},
  };
  const uint64_t file = driver_.Create(root_, "f").attributes().inode();
  for (const NameCase& each : cases) {
    EXPECT_EQ(CodeOf(driver_.Create(root_, each.name)), each.created) << each.name;
    EXPECT_EQ(CodeOf(driver_.Mkdir(root_, each.name)), each.created) << each.name;
    EXPECT_EQ(CodeOf(driver_.Symlink(root_, each.name, "t")), each.created) << each.name;
    EXPECT_EQ(CodeOf(driver_.Link(file, root_, each.name)), each.created) << each.name;
    EXPECT_EQ(CodeOf(driver_.Unlink(root_, each.name)), each.unlinked) << each.name;
    EXPECT_EQ(CodeOf(driver_.Rmdir(root_, each.name)), each.removed) << each.name;
  }
  EXPECT_EQ(CodeOf(driver_.Create(root_, std::string(255, 'x'))), StatusCode::kOk);
  EXPECT_EQ(CodeOf(driver_.Create(root_, "\xff\xfe not UTF-8")), StatusCode::kOk);
}

TEST_F(NamespaceOpsTest, ParentsMustBeDirectoriesThatExist) {
  const uint64_t file = driver_.Create(root_, "f").attributes().inode();
  const uint64_t gone = driver_.Mkdir(root_, "gone").attributes().inode();
  ASSERT_EQ(CodeOf(driver_.Rmdir(root_, "gone")), StatusCode::kOk);
  for (const auto& [parent, code] : {std::pair{file, StatusCode::kNotDirectory}, {gone, StatusCode::kNotFound}}) {
    EXPECT_EQ(CodeOf(driver_.Create(parent, "x")), code);
    EXPECT_EQ(CodeOf(driver_.Mkdir(parent, "x")), code);
    EXPECT_EQ(CodeOf(driver_.Symlink(parent, "x", "t")), code);
    EXPECT_EQ(CodeOf(driver_.Link(file, parent, "x")), code);
    EXPECT_EQ(CodeOf(driver_.Unlink(parent, "x")), code);
    EXPECT_EQ(CodeOf(driver_.Rmdir(parent, "x")), code);
    EXPECT_EQ(CodeOf(driver_.Rename(parent, "x", root_, "y")), code);
    EXPECT_EQ(CodeOf(driver_.Rename(root_, "f", parent, "y")), code);
    EXPECT_EQ(driver_.Lookup(parent, "x"), code);
  }
}

TEST_F(NamespaceOpsTest, DirectoriesCountTheirSubdirectories) {
  const proto::MutationReply made = driver_.Mkdir(root_, "d", 0750);
  EXPECT_EQ(made.attributes().nlink(), 2u);
  EXPECT_EQ(made.attributes().parent(), root_);
  EXPECT_EQ(made.attributes().mode(), 0750u);
  const uint64_t directory = made.attributes().inode();
  driver_.Mkdir(directory, "a");
  driver_.Mkdir(directory, "b");
  driver_.Create(directory, "f");
  EXPECT_EQ(driver_.Attr(directory).nlink(), 4u);
  EXPECT_EQ(driver_.Attr(directory).size_bytes(), 3u);
  EXPECT_EQ(driver_.Attr(root_).nlink(), 3u);
  EXPECT_EQ(CodeOf(driver_.Mkdir(root_, "d")), StatusCode::kExists);
  EXPECT_EQ(CodeOf(driver_.Rmdir(root_, "d")), StatusCode::kNotEmpty);
  EXPECT_EQ(CodeOf(driver_.Unlink(root_, "d")), StatusCode::kIsDirectory);
  EXPECT_EQ(CodeOf(driver_.Rmdir(directory, "f")), StatusCode::kNotDirectory);
  EXPECT_EQ(CodeOf(driver_.Rmdir(directory, "none")), StatusCode::kNotFound);
  driver_.Rmdir(directory, "a");
  driver_.Rmdir(directory, "b");
  driver_.Unlink(directory, "f");
  EXPECT_EQ(driver_.Attr(directory).nlink(), 2u);
  const proto::MutationReply removed = driver_.Rmdir(root_, "d");
  ASSERT_EQ(CodeOf(removed), StatusCode::kOk);
  EXPECT_EQ(removed.removed().inode(), directory);
  EXPECT_EQ(removed.removed().nlink(), 0u);
  EXPECT_EQ(driver_.AttrCode(directory), StatusCode::kStaleHandle);
  EXPECT_EQ(driver_.Attr(root_).nlink(), 2u);
  EXPECT_EQ(driver_.Attr(root_).mtime_ns(), driver_.now_ns());
}

TEST_F(NamespaceOpsTest, SymlinksKeepTheirTarget) {
  const std::string target(kSymlinkTargetBytesMax, 't');
  const proto::MutationReply made = driver_.Symlink(root_, "l", target);
  ASSERT_EQ(CodeOf(made), StatusCode::kOk);
  EXPECT_EQ(made.attributes().mode(), 0777u);
  EXPECT_EQ(made.attributes().size_bytes(), target.size());
  EXPECT_EQ(driver_.Attr(made.attributes().inode()).symlink_target(), target);
  EXPECT_EQ(CodeOf(driver_.Symlink(root_, "m", target + "t")), StatusCode::kNameTooLong);
  EXPECT_EQ(CodeOf(driver_.Symlink(root_, "m", "")), StatusCode::kNotFound);
  EXPECT_EQ(CodeOf(driver_.Symlink(root_, "m", std::string("a\0b", 3))), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(driver_.Symlink(root_, "l", "x")), StatusCode::kExists);
}

TEST_F(NamespaceOpsTest, LinksAreCountedAndShareTheInode) {
  const uint64_t file = driver_.Create(root_, "f").attributes().inode();
  const uint64_t directory = driver_.Mkdir(root_, "d").attributes().inode();
  const proto::MutationReply linked = driver_.Link(file, directory, "g");
  ASSERT_EQ(CodeOf(linked), StatusCode::kOk);
  EXPECT_EQ(linked.attributes().nlink(), 2u);
  EXPECT_EQ(linked.attributes().ctime_ns(), driver_.now_ns());
  EXPECT_EQ(driver_.Attr(directory).mtime_ns(), driver_.now_ns());
  proto::Attributes found;
  EXPECT_EQ(driver_.Lookup(directory, "g", &found), StatusCode::kOk);
  EXPECT_EQ(found.inode(), file);
  EXPECT_EQ(CodeOf(driver_.Link(file, directory, "g")), StatusCode::kExists);
  EXPECT_EQ(CodeOf(driver_.Link(directory, root_, "x")), StatusCode::kNotPermitted);
  EXPECT_EQ(CodeOf(driver_.Link(99999, root_, "x")), StatusCode::kStaleHandle);
  const proto::MutationReply unlinked = driver_.Unlink(root_, "f", true);
  EXPECT_EQ(unlinked.removed().nlink(), 1u);
  EXPECT_EQ(unlinked.removed().ctime_ns(), driver_.now_ns());
  EXPECT_EQ(driver_.Attr(file).nlink(), 1u);
  EXPECT_EQ(driver_.VolumeNow().used_inodes(), 2u);
}

TEST_F(NamespaceOpsTest, TooManyLinksAreRefused) {
  proto::Attributes file = driver_.Create(root_, "f").attributes();
  file.set_nlink(kFileLinksMax);
  ASSERT_TRUE(store_.Write(KvBatch{.changes = {{InodeKey(InodeId(file.inode())), EncodeInode(file)}}}).ok());
  driver_.Reopen();  // the state machine remembers what it has written itself
  EXPECT_EQ(CodeOf(driver_.Link(file.inode(), root_, "g")), StatusCode::kTooManyLinks);
  proto::Attributes directory = driver_.Mkdir(root_, "d").attributes();
  directory.set_nlink(kDirectoryLinksMax);
  ASSERT_TRUE(store_.Write(KvBatch{.changes = {{InodeKey(InodeId(directory.inode())), EncodeInode(directory)}}}).ok());
  driver_.Reopen();
  EXPECT_EQ(CodeOf(driver_.Mkdir(directory.inode(), "x")), StatusCode::kTooManyLinks);
  EXPECT_EQ(CodeOf(driver_.Create(directory.inode(), "x")), StatusCode::kOk);
}

TEST_F(NamespaceOpsTest, LinkAcrossVolumesIsRefused) {
  proto::Mutation volume;
  volume.mutable_create_volume()->mutable_volume()->set_name("other");
  const uint64_t other = driver_.RunAsLeader(volume).volume().root();
  const uint64_t file = driver_.Create(root_, "f").attributes().inode();
  EXPECT_EQ(CodeOf(driver_.Link(file, other, "f")), StatusCode::kCrossDevice);
  EXPECT_EQ(CodeOf(driver_.Rename(root_, "f", other, "f")), StatusCode::kCrossDevice);
}

TEST_F(NamespaceOpsTest, UnlinkedFileGoesUnlessHeldOpen) {
  const proto::Attributes gone = driver_.CreateWithData(root_, "gone", 4096);
  const proto::Attributes held = driver_.CreateWithData(root_, "held", 8192);
  const proto::MutationReply removed = driver_.Unlink(root_, "gone");
  EXPECT_EQ(removed.removed().inode(), gone.inode());
  EXPECT_EQ(removed.removed().nlink(), 0u);
  EXPECT_EQ(driver_.AttrCode(gone.inode()), StatusCode::kStaleHandle);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 1u);
  EXPECT_EQ(driver_.VolumeNow().used_bytes(), 8192u);

  driver_.Unlink(root_, "held", true);
  EXPECT_EQ(driver_.Lookup(root_, "held"), StatusCode::kNotFound);
  EXPECT_EQ(driver_.Attr(held.inode()).nlink(), 0u);
  EXPECT_EQ(CodeOf(driver_.Link(held.inode(), root_, "again")), StatusCode::kNotFound);
  EXPECT_EQ(CodeOf(driver_.Commit(held, 10'000)), StatusCode::kOk);  // still writable through its handle
  EXPECT_EQ(driver_.VolumeNow().used_bytes(), 10'000u);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 1u);
  proto::Mutation release;
  release.mutable_release_orphan()->set_inode(held.inode());
  EXPECT_EQ(CodeOf(driver_.Run(release)), StatusCode::kOk);
  EXPECT_EQ(driver_.AttrCode(held.inode()), StatusCode::kStaleHandle);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 2u);
  EXPECT_EQ(driver_.VolumeNow().used_bytes(), 0u);
  EXPECT_EQ(driver_.VolumeNow().used_inodes(), 0u);
  EXPECT_EQ(CodeOf(driver_.Run(release)), StatusCode::kOk);  // nothing left to release
  EXPECT_THAT(driver_.Names(root_), IsEmpty());
}

TEST_F(NamespaceOpsTest, EndOfASessionReleasesItsOrphans) {
  const proto::Attributes held = driver_.CreateWithData(root_, "held", 8192);
  driver_.Unlink(root_, "held", true);
  proto::Mutation close;
  close.mutable_close_session()->set_session(driver_.session());
  close.mutable_close_session()->set_expired(true);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(close)), StatusCode::kOk);
  EXPECT_EQ(driver_.AttrCode(held.inode()), StatusCode::kStaleHandle);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 1u);
  EXPECT_EQ(CodeOf(driver_.Create(root_, "f")), StatusCode::kUnknownSession);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(close)), StatusCode::kUnknownSession);
}

TEST_F(NamespaceOpsTest, FailedCommandLeavesNothingBehindInItsEntry) {
  const uint64_t directory = driver_.Mkdir(root_, "d").attributes().inode();
  driver_.Create(directory, "f");
  const auto before = store_.Snapshot();
  proto::Mutation make = CreateMutation(root_, "ok");
  proto::Mutation fail;
  fail.mutable_rmdir()->set_parent(root_);
  fail.mutable_rmdir()->set_name("d");
  const auto replies = driver_.ApplyAll({fail, make, fail});
  EXPECT_EQ(CodeOf(replies[0]), StatusCode::kNotEmpty);
  EXPECT_FALSE(replies[0].message().empty());
  EXPECT_EQ(CodeOf(replies[1]), StatusCode::kOk);
  EXPECT_EQ(CodeOf(replies[2]), StatusCode::kNotEmpty);
  EXPECT_THAT(driver_.Names(root_), ElementsAre("d", "ok"));
  EXPECT_THAT(driver_.Names(directory), ElementsAre("f"));
  EXPECT_EQ(driver_.Attr(root_).size_bytes(), 2u);
  EXPECT_EQ(store_.Snapshot().size(), before.size() + 2);  // an inode and a dentry
}

TEST_F(NamespaceOpsTest, TimeNeverGoesBack) {
  driver_.Create(root_, "f");
  const int64_t last = driver_.now_ns();
  driver_.set_now_ns(last - 1'000'000'000);
  const proto::MutationReply reply = driver_.Create(root_, "g");
  EXPECT_EQ(reply.attributes().mtime_ns(), last);
  EXPECT_EQ(driver_.machine().header().last_time_ns(), last);
}

TEST_F(NamespaceOpsTest, InodeIdIsNeverUsedTwice) {
  proto::LogEntry entry = driver_.Fill({CreateMutation(root_, "f")});
  driver_.ApplyEntry(entry);
  entry.mutable_commands(0)->mutable_mutation()->mutable_create()->set_name("g");
  EXPECT_EQ(CodeOf(driver_.ApplyEntry(entry)[0]), StatusCode::kInternal);
  entry.mutable_commands(0)->set_inode(0);
  EXPECT_EQ(CodeOf(driver_.ApplyEntry(entry)[0]), StatusCode::kInternal);
  EXPECT_THAT(driver_.Names(root_), ElementsAre("f"));
}

TEST_F(NamespaceOpsTest, OnAFullDiskNothingGrowsAndRemovalGoesOn) {
  driver_.Create(root_, "old");
  const proto::Mutation create = CreateMutation(root_, "new");
  const auto apply = [&](const proto::Mutation& mutation) {
    proto::LogEntry entry = driver_.Fill({mutation});
    entry.set_no_growth(true);
    return CodeOf(driver_.ApplyEntry(entry)[0]);
  };
  EXPECT_EQ(apply(create), StatusCode::kNoSpace);
  proto::Mutation unlink;
  unlink.mutable_unlink()->set_parent(root_);
  unlink.mutable_unlink()->set_name("old");
  EXPECT_EQ(apply(unlink), StatusCode::kOk);
  EXPECT_THAT(driver_.Names(root_), ElementsAre());
  EXPECT_EQ(CodeOf(driver_.ApplyEntry(driver_.Fill({create}))[0]), StatusCode::kOk);
}

}  // namespace
}  // namespace tarn::meta
