// Data ids, sizes, truncates, ingest, quotas and dead data.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/layout/layout.h"
#include "metaserver/state/memory_kv.h"
#include "metaserver/state/testing/state_driver.h"

namespace tarn::meta {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class FileDataOpsTest : public testing::Test {
 protected:
  FileDataOpsTest() {
    driver_.SetUpCluster();
    root_ = driver_.root();
  }

  proto::MutationReply Allocate(uint64_t inode) {
    proto::Mutation mutation;
    mutation.mutable_allocate_data()->set_inode(inode);
    return driver_.Run(mutation);
  }
  proto::MutationReply TruncateDone(uint64_t inode, uint64_t generation) {
    proto::Mutation mutation;
    mutation.mutable_truncate_done()->set_inode(inode);
    mutation.mutable_truncate_done()->set_truncate_generation(generation);
    return driver_.Run(mutation);
  }
  proto::MutationReply Reserve(uint32_t count) {
    proto::Mutation mutation;
    mutation.mutable_reserve_data_ids()->set_volume(driver_.volume());
    mutation.mutable_reserve_data_ids()->set_count(count);
    return driver_.Run(mutation);
  }
  proto::Mutation Ingest(const std::string& name, uint64_t data_id, const proto::Layout& layout, uint64_t size_bytes,
                         bool replace = false) {
    proto::Mutation mutation;
    auto* op = mutation.mutable_create();
    op->set_parent(root_);
    op->set_name(name);
    op->set_type(proto::FILE_TYPE_REGULAR);
    op->set_mode(0600);
    op->set_data_id(data_id);
    *op->mutable_layout() = layout;
    op->set_size_bytes(size_bytes);
    op->set_mtime_ns(12345);
    op->set_replace(replace);
    return mutation;
  }
  void SetQuota(uint64_t bytes, uint64_t inodes) {
    proto::Mutation mutation;
    mutation.mutable_resize_volume()->set_name("v");
    mutation.mutable_resize_volume()->set_quota_bytes(bytes);
    mutation.mutable_resize_volume()->set_quota_inodes(inodes);
    ASSERT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kOk);
  }
  std::vector<uint64_t> DeadOn(uint64_t target, int64_t before_ns = INT64_MAX, size_t count_max = 100) {
    std::vector<DataId> dead;
    EXPECT_TRUE(driver_.machine().ListDeadData(TargetId(target), before_ns, count_max, &dead).ok());
    std::vector<uint64_t> values;
    for (const DataId data : dead) values.push_back(data.value());
    return values;
  }
  void Reclaim(uint64_t target, uint64_t data_id) {
    proto::Mutation mutation;
    mutation.mutable_data_reclaimed()->set_target(target);
    mutation.mutable_data_reclaimed()->add_data_ids(data_id);
    ASSERT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kOk);
  }

  MemoryKv store_;
  StateDriver driver_{&store_};
  uint64_t root_ = 0;
};

TEST_F(FileDataOpsTest, FirstWriteGetsDataIdAndLayoutOnce) {
  const uint64_t inode = driver_.Create(root_, "f").attributes().inode();
  const proto::MutationReply first = Allocate(inode);
  ASSERT_EQ(CodeOf(first), StatusCode::kOk);
  const proto::Attributes& file = first.attributes();
  EXPECT_NE(file.data_id(), 0u);
  EXPECT_EQ(file.layout().group_set_version(), 1u);
  EXPECT_EQ(file.layout().stripe_unit_bytes(), kDefaultStripeUnitBytes);
  EXPECT_EQ(file.layout().width(), kDefaultStripeWidth);
  EXPECT_EQ(file.layout().chunk_size_bytes(), kDefaultChunkSizeBytes);
  EXPECT_NE(file.layout().seed(), 0u);
  EXPECT_EQ(Allocate(inode).attributes().SerializeAsString(), file.SerializeAsString());
  EXPECT_EQ(CodeOf(Allocate(root_)), StatusCode::kIsDirectory);
  EXPECT_EQ(CodeOf(Allocate(9999)), StatusCode::kStaleHandle);
  const uint64_t link = driver_.Symlink(root_, "l", "x").attributes().inode();
  EXPECT_EQ(CodeOf(Allocate(link)), StatusCode::kInvalidArgument);
}

TEST_F(FileDataOpsTest, NoGroupsMeansNoSpaceWithAClearText) {
  MemoryKv store;
  StateDriver driver(&store);
  proto::Mutation volume;
  volume.mutable_create_volume()->mutable_volume()->set_name("v");
  const uint64_t root = driver.RunAsLeader(volume).volume().root();
  proto::Mutation create;
  create.mutable_create()->set_parent(root);
  create.mutable_create()->set_name("f");
  create.mutable_create()->set_type(proto::FILE_TYPE_REGULAR);
  proto::Mutation allocate;
  allocate.mutable_allocate_data()->set_inode(driver.RunAsLeader(create).attributes().inode());
  const proto::MutationReply reply = driver.RunAsLeader(allocate);
  EXPECT_EQ(CodeOf(reply), StatusCode::kNoSpace);
  EXPECT_THAT(reply.message(), testing::HasSubstr("no placement groups"));
}

TEST_F(FileDataOpsTest, NewFilesUseTheNewestGroupSet) {
  proto::Mutation groups;
  groups.mutable_add_groups()->add_groups()->add_targets(2);
  for (uint32_t id = 1; id <= 7; ++id) groups.mutable_add_groups()->mutable_group_set()->add_groups(id);
  ASSERT_EQ(CodeOf(driver_.RunAsLeader(groups)), StatusCode::kOk);
  const uint64_t inode = driver_.Create(root_, "f").attributes().inode();
  EXPECT_EQ(Allocate(inode).attributes().layout().group_set_version(), 2u);
}

TEST_F(FileDataOpsTest, CommitGrowsTheFileAndMovesItsGenerations) {
  const proto::Attributes file = driver_.CreateWithData(root_, "f", 100);
  EXPECT_EQ(file.size_bytes(), 100u);
  EXPECT_EQ(file.data_generation(), 1u);
  EXPECT_EQ(file.mtime_ns(), driver_.now_ns());
  const proto::MutationReply smaller = driver_.Commit(file, 50);
  EXPECT_EQ(smaller.attributes().size_bytes(), 100u);
  EXPECT_EQ(smaller.attributes().data_generation(), 2u);
  EXPECT_EQ(driver_.VolumeNow().used_bytes(), 100u);
}

TEST_F(FileDataOpsTest, CommitAlwaysMovesMtime) {
  const proto::Attributes file = driver_.CreateWithData(root_, "f", 100);
  proto::Mutation mutation;
  auto* op = mutation.mutable_commit_write();
  op->set_inode(file.inode());
  op->set_data_id(file.data_id());
  op->set_min_size_bytes(100);
  op->set_mtime_ns(777);
  EXPECT_EQ(driver_.Run(mutation).attributes().mtime_ns(), 777);
  EXPECT_EQ(driver_.Run(mutation).attributes().mtime_ns(), 778);
}

TEST_F(FileDataOpsTest, WritingTakesSetIdBits) {
  const proto::Attributes file = driver_.CreateWithData(root_, "f", 100);
  proto::Mutation chmod;
  chmod.mutable_set_attr()->set_inode(file.inode());
  chmod.mutable_set_attr()->set_mode(06755);
  driver_.Run(chmod);
  proto::Mutation write;
  write.mutable_commit_write()->set_inode(file.inode());
  write.mutable_commit_write()->set_data_id(file.data_id());
  write.mutable_commit_write()->set_clear_suid_sgid(true);
  EXPECT_EQ(driver_.Run(write).attributes().mode(), 0755u);
  driver_.Run(chmod);
  proto::Mutation truncate;
  truncate.mutable_truncate()->set_inode(file.inode());
  truncate.mutable_truncate()->set_clear_suid_sgid(true);
  EXPECT_EQ(driver_.Run(truncate).attributes().mode(), 0755u);
}

TEST_F(FileDataOpsTest, StaleCommitsAreRefused) {
  const proto::Attributes file = driver_.CreateWithData(root_, "f", 100);
  proto::Attributes other = file;
  other.set_data_id(file.data_id() + 1);
  EXPECT_EQ(CodeOf(driver_.Commit(other, 200)), StatusCode::kStaleTruncate);
  ASSERT_EQ(CodeOf(driver_.Truncate(file.inode(), 10)), StatusCode::kOk);
  EXPECT_EQ(CodeOf(driver_.Commit(file, 200)), StatusCode::kStaleTruncate);
  EXPECT_EQ(CodeOf(driver_.Commit(driver_.Attr(file.inode()), 200)), StatusCode::kOk);
  EXPECT_EQ(driver_.Attr(file.inode()).size_bytes(), 200u);
}

TEST_F(FileDataOpsTest, ShrinkIsPendingUntilDone) {
  const proto::Attributes file = driver_.CreateWithData(root_, "f", 100);
  const proto::MutationReply cut = driver_.Truncate(file.inode(), 40);
  ASSERT_EQ(CodeOf(cut), StatusCode::kOk);
  EXPECT_EQ(cut.attributes().size_bytes(), 40u);
  EXPECT_TRUE(cut.attributes().truncate_pending());
  EXPECT_EQ(cut.attributes().truncate_floor_bytes(), 40u);
  EXPECT_EQ(cut.attributes().truncate_generation(), 1u);
  EXPECT_EQ(cut.attributes().data_id(), file.data_id());
  EXPECT_EQ(cut.attributes().mtime_ns(), driver_.now_ns());
  EXPECT_GT(cut.attributes().data_generation(), file.data_generation());
  EXPECT_EQ(CodeOf(driver_.Truncate(file.inode(), 30)), StatusCode::kTruncatePending);
  // Growing does not wait, and keeps the floor.
  EXPECT_EQ(driver_.Truncate(file.inode(), 60).attributes().truncate_floor_bytes(), 40u);
  EXPECT_TRUE(TruncateDone(file.inode(), 99).attributes().truncate_pending());
  const proto::MutationReply done = TruncateDone(file.inode(), 1);
  EXPECT_FALSE(done.attributes().truncate_pending());
  EXPECT_EQ(done.attributes().size_bytes(), 60u);
  EXPECT_EQ(CodeOf(TruncateDone(file.inode(), 1)), StatusCode::kOk);
  EXPECT_EQ(driver_.Truncate(file.inode(), 30).attributes().truncate_generation(), 2u);
  EXPECT_EQ(driver_.VolumeNow().used_bytes(), 30u);
}

TEST_F(FileDataOpsTest, TruncateToZeroDropsTheDataAndKeepsTheGeneration) {
  const proto::Attributes file = driver_.CreateWithData(root_, "f", 100);
  driver_.Truncate(file.inode(), 40);
  const proto::MutationReply emptied = driver_.Truncate(file.inode(), 0);
  ASSERT_EQ(CodeOf(emptied), StatusCode::kOk);
  EXPECT_EQ(emptied.attributes().data_id(), 0u);
  EXPECT_FALSE(emptied.attributes().has_layout());
  EXPECT_FALSE(emptied.attributes().truncate_pending());
  EXPECT_EQ(emptied.attributes().truncate_generation(), 1u);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 1u);
  EXPECT_EQ(CodeOf(driver_.Commit(file, 10)), StatusCode::kStaleTruncate);
  const proto::MutationReply anew = Allocate(file.inode());
  EXPECT_NE(anew.attributes().data_id(), file.data_id());
  EXPECT_EQ(CodeOf(driver_.Commit(anew.attributes(), 10)), StatusCode::kOk);
  // An empty file stays one.
  driver_.Truncate(file.inode(), 0);
  EXPECT_EQ(CodeOf(driver_.Truncate(file.inode(), 0)), StatusCode::kOk);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 2u);
}

TEST_F(FileDataOpsTest, SparseFilesNeedNoData) {
  const uint64_t inode = driver_.Create(root_, "f").attributes().inode();
  const proto::MutationReply grown = driver_.Truncate(inode, 1 << 30);
  EXPECT_EQ(grown.attributes().size_bytes(), 1u << 30);
  EXPECT_EQ(grown.attributes().data_id(), 0u);
  EXPECT_FALSE(driver_.Truncate(inode, 5).attributes().truncate_pending());
  EXPECT_EQ(CodeOf(driver_.Truncate(root_, 5)), StatusCode::kIsDirectory);
}

TEST_F(FileDataOpsTest, SizesAboveTheLargestAreRefused) {
  const proto::Attributes file = driver_.CreateWithData(root_, "f", 1);
  const uint64_t size_max = FileSizeMaxOf(FileLayout{});
  EXPECT_EQ(CodeOf(driver_.Commit(file, size_max + 1)), StatusCode::kFileTooLarge);
  EXPECT_EQ(CodeOf(driver_.Truncate(file.inode(), size_max + 1)), StatusCode::kFileTooLarge);
  EXPECT_EQ(CodeOf(driver_.Truncate(file.inode(), size_max)), StatusCode::kOk);
  const uint64_t empty = driver_.Create(root_, "g").attributes().inode();
  EXPECT_EQ(CodeOf(driver_.Truncate(empty, ~uint64_t{0})), StatusCode::kFileTooLarge);
}

TEST_F(FileDataOpsTest, QuotaBoundsBytesAndInodes) {
  SetQuota(1000, 2);
  const proto::Attributes file = driver_.CreateWithData(root_, "f", 600);
  EXPECT_EQ(CodeOf(driver_.Commit(file, 1001)), StatusCode::kQuota);
  EXPECT_EQ(CodeOf(driver_.Truncate(file.inode(), 1001)), StatusCode::kQuota);
  EXPECT_EQ(CodeOf(driver_.Commit(file, 1000)), StatusCode::kOk);
  EXPECT_EQ(CodeOf(driver_.Mkdir(root_, "d")), StatusCode::kOk);
  EXPECT_EQ(CodeOf(driver_.Create(root_, "g")), StatusCode::kQuota);
  EXPECT_EQ(CodeOf(driver_.Mkdir(root_, "e")), StatusCode::kQuota);
  EXPECT_EQ(CodeOf(driver_.Symlink(root_, "l", "x")), StatusCode::kQuota);
  EXPECT_EQ(CodeOf(driver_.Link(file.inode(), root_, "h")), StatusCode::kOk);
  // Below what is used: shrinking and rewriting still work.
  SetQuota(100, 1);
  EXPECT_EQ(CodeOf(driver_.Commit(file, 1000)), StatusCode::kOk);
  EXPECT_EQ(CodeOf(driver_.Truncate(file.inode(), 500)), StatusCode::kOk);
  EXPECT_EQ(driver_.VolumeNow().used_bytes(), 500u);
  EXPECT_EQ(driver_.VolumeNow().used_inodes(), 2u);
}

TEST_F(FileDataOpsTest, IngestedFileAppearsWithItsData) {
  const proto::MutationReply reserved = Reserve(10);
  ASSERT_EQ(CodeOf(reserved), StatusCode::kOk);
  EXPECT_EQ(reserved.data_id_count(), 10u);
  EXPECT_EQ(reserved.layout_template().seed(), 0u);
  proto::Mutation ingest = Ingest("f", reserved.first_data_id(), reserved.layout_template(), 5000);
  ingest.mutable_create()->set_set_owner(true);
  ingest.mutable_create()->set_uid(7);
  ingest.mutable_create()->set_gid(8);
  const proto::MutationReply made = driver_.Run(ingest);
  ASSERT_EQ(CodeOf(made), StatusCode::kOk) << made.message();
  EXPECT_TRUE(made.created());
  EXPECT_EQ(made.attributes().size_bytes(), 5000u);
  EXPECT_EQ(made.attributes().mtime_ns(), 12345);
  EXPECT_EQ(made.attributes().uid(), 7u);
  EXPECT_EQ(made.attributes().gid(), 8u);
  EXPECT_EQ(made.attributes().data_generation(), 1u);
  EXPECT_EQ(driver_.VolumeNow().used_bytes(), 5000u);
  // The same again (a client that lost its session) is the same file; other data needs `replace`.
  const proto::MutationReply again = driver_.Run(ingest);
  EXPECT_EQ(CodeOf(again), StatusCode::kOk);
  EXPECT_FALSE(again.created());
  EXPECT_EQ(*driver_.machine().CountDeadData(), 0u);
  const auto other = Ingest("f", reserved.first_data_id() + 1, reserved.layout_template(), 10);
  EXPECT_EQ(CodeOf(driver_.Run(other)), StatusCode::kExists);
}

TEST_F(FileDataOpsTest, IngestReplacesInPlace) {
  const proto::Attributes old = driver_.CreateWithData(root_, "f", 9000);
  driver_.Link(old.inode(), root_, "g");
  const proto::MutationReply reserved = Reserve(1);
  const auto ingest = Ingest("f", reserved.first_data_id(), reserved.layout_template(), 100, true);
  const proto::MutationReply replaced = driver_.Run(ingest);
  ASSERT_EQ(CodeOf(replaced), StatusCode::kOk) << replaced.message();
  EXPECT_FALSE(replaced.created());
  EXPECT_EQ(replaced.attributes().inode(), old.inode());
  EXPECT_EQ(replaced.attributes().nlink(), 2u);
  EXPECT_EQ(replaced.attributes().size_bytes(), 100u);
  EXPECT_EQ(replaced.attributes().mode(), 0600u);
  EXPECT_GT(replaced.attributes().data_generation(), old.data_generation());
  EXPECT_EQ(*driver_.machine().CountDeadData(), 1u);
  EXPECT_EQ(driver_.VolumeNow().used_bytes(), 100u);
  driver_.Mkdir(root_, "d");
  EXPECT_EQ(CodeOf(driver_.Run(Ingest("d", reserved.first_data_id(), reserved.layout_template(), 1, true))),
            StatusCode::kExists);
}

TEST_F(FileDataOpsTest, BadIngestsAreRefused) {
  const proto::MutationReply reserved = Reserve(1);
  const uint64_t data = reserved.first_data_id();
  const proto::Layout& layout = reserved.layout_template();
  EXPECT_EQ(CodeOf(driver_.Run(Ingest("f", data + 1, layout, 1))), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(driver_.Run(Ingest("f", 0, layout, 1))), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(driver_.Run(Ingest("f", data, layout, ~uint64_t{0}))), StatusCode::kFileTooLarge);
  proto::Layout bad = layout;
  bad.set_group_set_version(9);
  EXPECT_EQ(CodeOf(driver_.Run(Ingest("f", data, bad, 1))), StatusCode::kInvalidArgument);
  bad = layout;
  bad.set_stripe_unit_bytes(5);
  EXPECT_EQ(CodeOf(driver_.Run(Ingest("f", data, bad, 1))), StatusCode::kInvalidArgument);
  proto::Mutation fifo = Ingest("f", data, layout, 1);
  fifo.mutable_create()->set_type(proto::FILE_TYPE_FIFO);
  EXPECT_EQ(CodeOf(driver_.Run(fifo)), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(Reserve(0)), StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(Reserve(65'537)), StatusCode::kInvalidArgument);
  EXPECT_EQ(driver_.Lookup(root_, "f"), StatusCode::kNotFound);
}

TEST_F(FileDataOpsTest, DataIdsAreNeverGivenTwice) {
  proto::Mutation reserve;
  reserve.mutable_reserve_data_ids()->set_volume(driver_.volume());
  reserve.mutable_reserve_data_ids()->set_count(4);
  const proto::LogEntry entry = driver_.Fill({reserve});
  EXPECT_EQ(CodeOf(driver_.ApplyEntry(entry)[0]), StatusCode::kOk);
  EXPECT_EQ(CodeOf(driver_.ApplyEntry(entry)[0]), StatusCode::kInternal);
}

TEST_F(FileDataOpsTest, DeadDataIsListedPerTargetAndForgottenWhenReclaimed) {
  const proto::Attributes first = driver_.CreateWithData(root_, "a", 1);
  const proto::Attributes second = driver_.CreateWithData(root_, "b", 1);
  EXPECT_THAT(DeadOn(1), IsEmpty());
  driver_.Unlink(root_, "b");
  const int64_t first_death = driver_.now_ns();
  driver_.Unlink(root_, "a");
  for (uint64_t target = 1; target <= 3; ++target) {
    EXPECT_THAT(DeadOn(target), ElementsAre(second.data_id(), first.data_id())) << "in the order of their deaths";
    EXPECT_THAT(DeadOn(target, first_death), IsEmpty());
    EXPECT_THAT(DeadOn(target, first_death + 1), ElementsAre(second.data_id()));
    EXPECT_THAT(DeadOn(target, INT64_MAX, 1), ElementsAre(second.data_id()));
  }
  EXPECT_THAT(DeadOn(4), IsEmpty());
  EXPECT_EQ(*driver_.machine().CountDeadData(), 2u);
  Reclaim(1, second.data_id());
  EXPECT_THAT(DeadOn(1), ElementsAre(first.data_id()));
  Reclaim(2, second.data_id());
  Reclaim(2, second.data_id());  // reports repeat
  EXPECT_EQ(*driver_.machine().CountDeadData(), 2u);
  Reclaim(3, second.data_id());
  EXPECT_EQ(*driver_.machine().CountDeadData(), 1u);
  Reclaim(3, 999);
  for (uint64_t target = 1; target <= 3; ++target) Reclaim(target, first.data_id());
  EXPECT_EQ(*driver_.machine().CountDeadData(), 0u);
  for (const auto& [key, value] : store_.Snapshot()) EXPECT_TRUE(key[0] != 'G' && key[0] != 'Q') << key;
}

// ---- Whether the data is settled (docs/elastic.md) ----

class BeingWrittenTest : public FileDataOpsTest {
 protected:
  void AddElasticTarget() {
    proto::Mutation mutation;
    auto* request = mutation.mutable_register_server()->mutable_request();
    request->set_address("127.0.0.1:7999");
    request->set_incarnation(99);
    request->add_targets()->set_target_class(proto::TARGET_CLASS_ELASTIC);
    ASSERT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kOk);
  }
  // Of a session that takes part in write grants, or not.
  void OpenSession(bool caches) {
    proto::Mutation open;
    open.mutable_open_session()->set_nonce(caches ? 71 : 72);
    open.mutable_open_session()->set_caches(caches);
    driver_.set_session(driver_.RunAsLeader(open).session());
  }
  proto::Attributes Commit(uint64_t inode, bool settles) {
    const proto::Attributes file = driver_.Attr(inode);
    proto::Mutation mutation;
    mutation.mutable_commit_write()->set_inode(inode);
    mutation.mutable_commit_write()->set_data_id(file.data_id());
    mutation.mutable_commit_write()->set_truncate_generation(file.truncate_generation());
    mutation.mutable_commit_write()->set_settles(settles);
    EXPECT_EQ(CodeOf(driver_.Run(mutation)), StatusCode::kOk);
    return driver_.Attr(inode);
  }
  proto::Attributes Mark(uint64_t inode, bool writing) {
    proto::Mutation mutation;
    mutation.mutable_mark_writing()->set_inode(inode);
    mutation.mutable_mark_writing()->set_writing(writing);
    EXPECT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kOk);
    return driver_.Attr(inode);
  }
};

TEST_F(BeingWrittenTest, WithoutElasticTargetsNothingIsKept) {
  OpenSession(true);
  const uint64_t inode = driver_.CreateWithData(root_, "f", 10).inode();
  EXPECT_FALSE(Commit(inode, false).being_written());
}

TEST_F(BeingWrittenTest, ASessionWithoutGrantsSettlesWithEveryCommit) {
  AddElasticTarget();
  OpenSession(false);
  const uint64_t inode = driver_.CreateWithData(root_, "f", 10).inode();
  EXPECT_FALSE(Commit(inode, false).being_written());
}

TEST_F(BeingWrittenTest, FromAGrantToTheCommitThatEndsIt) {
  AddElasticTarget();
  OpenSession(true);
  const uint64_t inode = driver_.CreateWithData(root_, "f", 10).inode();
  proto::Attributes before = Commit(inode, true);
  EXPECT_FALSE(before.being_written());
  proto::Attributes now = Mark(inode, true);
  EXPECT_TRUE(now.being_written());
  EXPECT_GT(now.data_generation(), before.data_generation());
  EXPECT_GT(now.change(), before.change());
  EXPECT_EQ(now.mtime_ns(), before.mtime_ns());
  EXPECT_EQ(now.ctime_ns(), before.ctime_ns());
  before = now;
  now = Commit(inode, false);
  EXPECT_TRUE(now.being_written());
  EXPECT_GT(now.data_generation(), before.data_generation());
  before = now;
  now = Commit(inode, true);
  EXPECT_FALSE(now.being_written());
  EXPECT_GT(now.data_generation(), before.data_generation());
}

TEST_F(BeingWrittenTest, AGrantThatEndsWithoutACommitRaisesTheGeneration) {
  AddElasticTarget();
  const uint64_t inode = driver_.CreateWithData(root_, "f", 10).inode();
  const proto::Attributes marked = Mark(inode, true);
  const proto::Attributes released = Mark(inode, false);
  EXPECT_FALSE(released.being_written());
  EXPECT_GT(released.data_generation(), marked.data_generation());
  EXPECT_EQ(Mark(inode, false).data_generation(), released.data_generation()) << "there is nothing to end";
}

TEST_F(BeingWrittenTest, EveryGrantRaisesTheGeneration) {
  AddElasticTarget();
  const uint64_t inode = driver_.CreateWithData(root_, "f", 10).inode();
  const uint64_t first = Mark(inode, true).data_generation();
  EXPECT_GT(Mark(inode, true).data_generation(), first);
}

TEST_F(BeingWrittenTest, OtherDataIsSettled) {
  AddElasticTarget();
  const uint64_t inode = driver_.CreateWithData(root_, "f", 10).inode();
  Mark(inode, true);
  ASSERT_EQ(CodeOf(driver_.Truncate(inode, 0)), StatusCode::kOk);
  EXPECT_FALSE(driver_.Attr(inode).being_written());
}

}  // namespace
}  // namespace tarn::meta
