// Sessions and exactly-once mutations: every repeated mutation gets its first answer and leaves the state byte for byte
// as it was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metaserver/state/limits.h"
#include "metaserver/state/memory_kv.h"
#include "metaserver/state/testing/state_driver.h"

namespace tarn::meta {
namespace {

// What of a reply a repeat gets.
proto::MutationReply Remembered(proto::MutationReply reply) {
  reply.clear_parent();
  reply.clear_new_parent();
  return reply;
}

class SessionOpsTest : public testing::Test {
 protected:
  SessionOpsTest() {
    driver_.SetUpCluster();
    root_ = driver_.root();
  }

  static proto::Mutation Open(uint64_t nonce) {
    proto::Mutation mutation;
    mutation.mutable_open_session()->set_nonce(nonce);
    mutation.mutable_open_session()->set_client_name("c");
    return mutation;
  }
  proto::Mutation Mkdir(const std::string& name) {
    proto::Mutation mutation;
    mutation.mutable_mkdir()->set_parent(root_);
    mutation.mutable_mkdir()->set_name(name);
    mutation.set_session(driver_.session());
    return mutation;
  }
  // The state without what every entry changes.
  MemoryKv::Contents StateWithoutHeader() {
    MemoryKv::Contents contents = store_.Snapshot();
    contents.erase("A");
    return contents;
  }
  size_t Results() {
    size_t count = 0;
    for (const auto& [key, value] : store_.Snapshot()) count += key[0] == 'R' ? 1 : 0;
    return count;
  }
  std::vector<proto::Mutation> OneOfEach();

  MemoryKv store_;
  StateDriver driver_{&store_};
  uint64_t root_ = 0;
};

TEST_F(SessionOpsTest, NonceFindsTheSessionAlreadyOpened) {
  const proto::MutationReply first = driver_.RunAsLeader(Open(5));
  EXPECT_NE(first.session(), 0u);
  EXPECT_NE(first.session(), driver_.session());
  EXPECT_EQ(driver_.RunAsLeader(Open(5)).session(), first.session());
  EXPECT_NE(driver_.RunAsLeader(Open(6)).session(), first.session());
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(Open(0))), StatusCode::kInvalidArgument);
  proto::Mutation unknown = Open(7);
  unknown.mutable_open_session()->set_volume(99);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(unknown)), StatusCode::kNotFound);
  std::vector<proto::SessionRecord> sessions;
  ASSERT_TRUE(driver_.machine().ListSessions(&sessions).ok());
  EXPECT_EQ(sessions.size(), 3u);
  EXPECT_EQ(sessions[0].client_name(), "test");
}

TEST_F(SessionOpsTest, SequencesAreChecked) {
  proto::Mutation mutation = Mkdir("a");
  EXPECT_EQ(CodeOf(driver_.ApplyAll({mutation})[0]), StatusCode::kInvalidArgument);
  mutation.set_sequence(3);
  mutation.set_acked_through(3);
  EXPECT_EQ(CodeOf(driver_.ApplyAll({mutation})[0]), StatusCode::kInvalidArgument);
  mutation.set_acked_through(2);
  EXPECT_EQ(CodeOf(driver_.ApplyAll({mutation})[0]), StatusCode::kOk);
  mutation.set_sequence(2);
  mutation.set_acked_through(0);
  EXPECT_EQ(CodeOf(driver_.ApplyAll({mutation})[0]), StatusCode::kStaleSequence);
  mutation.set_sequence(3 + kSessionResultsMax);
  EXPECT_EQ(CodeOf(driver_.ApplyAll({mutation})[0]), StatusCode::kResourceExhausted);
  mutation.set_session(12345);
  EXPECT_EQ(CodeOf(driver_.ApplyAll({mutation})[0]), StatusCode::kUnknownSession);
}

TEST_F(SessionOpsTest, ResultsAreKeptUntilAcknowledged) {
  for (uint64_t sequence = 1; sequence <= 5; ++sequence) {
    proto::Mutation mutation = Mkdir("d" + std::to_string(sequence));
    mutation.set_sequence(sequence);
    driver_.ApplyAll({mutation});
  }
  EXPECT_EQ(Results(), 5u);
  proto::Mutation sixth = Mkdir("d6");
  sixth.set_sequence(6);
  sixth.set_acked_through(4);
  driver_.ApplyAll({sixth});
  EXPECT_EQ(Results(), 2u);
  proto::Mutation late = Mkdir("d4");
  late.set_sequence(4);
  EXPECT_EQ(CodeOf(driver_.ApplyAll({late})[0]), StatusCode::kStaleSequence);
  proto::Mutation fifth = Mkdir("d5");
  fifth.set_sequence(5);
  EXPECT_EQ(CodeOf(driver_.ApplyAll({fifth})[0]), StatusCode::kOk) << "the first answer, not kExists";
}

TEST_F(SessionOpsTest, RepeatWithinOneEntryGetsTheFirstAnswer) {
  proto::Mutation mutation = Mkdir("a");
  mutation.set_sequence(1);
  const auto replies = driver_.ApplyAll({mutation, mutation});
  EXPECT_EQ(CodeOf(replies[0]), StatusCode::kOk);
  EXPECT_EQ(replies[1].SerializeAsString(), Remembered(replies[0]).SerializeAsString());
}

TEST_F(SessionOpsTest, FailuresAreRememberedToo) {
  proto::Mutation rmdir;
  rmdir.mutable_rmdir()->set_parent(root_);
  rmdir.mutable_rmdir()->set_name("later");
  driver_.Sign(&rmdir);
  EXPECT_EQ(CodeOf(driver_.ApplyAll({rmdir})[0]), StatusCode::kNotFound);
  driver_.Mkdir(root_, "later");
  proto::Mutation again = rmdir;
  EXPECT_EQ(CodeOf(driver_.ApplyAll({again})[0]), StatusCode::kStaleSequence) << "the next one acknowledged it";
  EXPECT_EQ(driver_.Lookup(root_, "later"), StatusCode::kOk);
}

std::vector<proto::Mutation> SessionOpsTest::OneOfEach() {
  const proto::Attributes file = driver_.CreateWithData(root_, "file", 1000);
  const uint64_t other = driver_.Mkdir(root_, "other").attributes().inode();
  driver_.Mkdir(root_, "empty");
  driver_.Create(root_, "victim");
  const uint64_t orphan = driver_.Create(root_, "orphan").attributes().inode();
  driver_.Unlink(root_, "orphan", true);
  const uint64_t fresh = driver_.Create(root_, "fresh").attributes().inode();
  proto::Mutation xattr;
  xattr.mutable_set_xattr()->set_inode(fresh);
  xattr.mutable_set_xattr()->set_name("user.old");
  driver_.Run(xattr);
  driver_.Truncate(file.inode(), 500);

  std::vector<proto::Mutation> all(19);
  size_t next = 0;
  const auto add = [&]() -> proto::Mutation& { return all[next++]; };
  auto* create = add().mutable_create();
  create->set_parent(root_);
  create->set_name("made");
  create->set_type(proto::FILE_TYPE_REGULAR);
  create->set_exclusive(true);
  auto* mkdir = add().mutable_mkdir();
  mkdir->set_parent(root_);
  mkdir->set_name("made dir");
  auto* symlink = add().mutable_symlink();
  symlink->set_parent(root_);
  symlink->set_name("made link");
  symlink->set_target("x");
  auto* link = add().mutable_link();
  link->set_inode(file.inode());
  link->set_new_parent(other);
  link->set_new_name("hard");
  auto* unlink = add().mutable_unlink();
  unlink->set_parent(root_);
  unlink->set_name("victim");
  auto* rmdir = add().mutable_rmdir();
  rmdir->set_parent(root_);
  rmdir->set_name("empty");
  auto* rename = add().mutable_rename();
  rename->set_parent(root_);
  rename->set_name("file");
  rename->set_new_parent(other);
  rename->set_new_name("moved");
  add().mutable_set_attr()->set_inode(fresh);
  all[next - 1].mutable_set_attr()->set_mode(0600);
  auto* done = add().mutable_truncate_done();
  done->set_inode(file.inode());
  done->set_truncate_generation(1);
  auto* truncate = add().mutable_truncate();
  truncate->set_inode(file.inode());
  truncate->set_size_bytes(0);
  add().mutable_allocate_data()->set_inode(fresh);
  auto* commit = add().mutable_commit_write();  // of an empty file without data
  commit->set_inode(file.inode());
  commit->set_truncate_generation(1);
  commit->set_min_size_bytes(10);
  auto* set_xattr = add().mutable_set_xattr();
  set_xattr->set_inode(fresh);
  set_xattr->set_name("user.a");
  set_xattr->set_create_only(true);
  auto* remove_xattr = add().mutable_remove_xattr();
  remove_xattr->set_inode(fresh);
  remove_xattr->set_name("user.old");
  add().mutable_release_orphan()->set_inode(orphan);
  auto* reserve = add().mutable_reserve_data_ids();
  reserve->set_volume(driver_.volume());
  reserve->set_count(3);
  add().mutable_create_volume()->mutable_volume()->set_name("w");
  auto* resize = add().mutable_resize_volume();
  resize->set_name("w");
  resize->set_quota_bytes(99);
  add().mutable_delete_volume()->set_name("w");
  EXPECT_EQ(next, all.size());
  return all;
}

TEST_F(SessionOpsTest, EveryMutationRepeatedChangesNothing) {
  for (proto::Mutation& mutation : OneOfEach()) {
    driver_.Sign(&mutation);
    const proto::MutationReply first = driver_.ApplyAll({mutation})[0];
    EXPECT_EQ(CodeOf(first), StatusCode::kOk) << mutation.ShortDebugString() << first.message();
    const MemoryKv::Contents state = StateWithoutHeader();
    const proto::StateHeader header = driver_.machine().header();
    for (int repeat = 0; repeat < 2; ++repeat) {
      const proto::MutationReply again = driver_.ApplyAll({mutation})[0];
      EXPECT_EQ(again.SerializeAsString(), Remembered(first).SerializeAsString()) << mutation.ShortDebugString();
      EXPECT_EQ(StateWithoutHeader(), state) << mutation.ShortDebugString();
      driver_.Reopen();
    }
    EXPECT_EQ(driver_.machine().header().next_data_id(), header.next_data_id());
    EXPECT_EQ(driver_.machine().header().next_inode(), header.next_inode());
    EXPECT_EQ(driver_.machine().header().next_volume(), header.next_volume());
  }
}

TEST_F(SessionOpsTest, ClosedSessionIsGoneWithAllItsRecords) {
  driver_.Mkdir(root_, "a");
  proto::Mutation other;
  other.mutable_close_session()->set_session(driver_.session() + 1);
  EXPECT_EQ(CodeOf(driver_.Run(other)), StatusCode::kInvalidArgument);
  proto::Mutation close;
  close.mutable_close_session()->set_session(driver_.session());
  EXPECT_EQ(CodeOf(driver_.Run(close)), StatusCode::kOk);
  for (const auto& [key, value] : store_.Snapshot()) {
    EXPECT_TRUE(key[0] != 'R' && key[0] != 'S' && key[0] != 'N' && key[0] != 'O') << key;
  }
  EXPECT_EQ(CodeOf(driver_.Run(close)), StatusCode::kUnknownSession);
  EXPECT_NE(driver_.RunAsLeader(Open(4711)).session(), driver_.session()) << "a session id is not used again";
}

TEST_F(SessionOpsTest, MutationWithoutOperationIsRefused) {
  EXPECT_EQ(CodeOf(driver_.Run(proto::Mutation())), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace tarn::meta
