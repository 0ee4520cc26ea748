// Each kind of damage is planted in the store, found, named, and repaired; a state that nothing happened to is clean.
#include "metaserver/state/fsck/check_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "metaserver/state/keys.h"
#include "metaserver/state/memory_kv.h"
#include "metaserver/state/records.h"
#include "metaserver/state/testing/namespace_workload.h"
#include "metaserver/state/testing/state_driver.h"

namespace tarn::meta {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class CheckStateTest : public testing::Test {
 protected:
  CheckStateTest() {
    driver_.SetUpCluster();
    root_ = driver_.root();
    directory_ = driver_.Mkdir(root_, "directory").attributes().inode();
    inner_ = driver_.Mkdir(directory_, "inner").attributes().inode();
    file_ = driver_.CreateWithData(directory_, "file", 1000).inode();
    linked_ = driver_.CreateWithData(directory_, "linked", 70).inode();
    driver_.Link(linked_, inner_, "again");
  }

  std::vector<FsckFinding> Check(uint64_t window_inodes = 16 << 20) { return CheckStore(store_, window_inodes); }
  static std::vector<FsckFinding> CheckStore(const MemoryKv& store, uint64_t window_inodes) {
    std::vector<FsckFinding> findings;
    FsckProgress progress;
    FsckOptions options;
    options.window_inodes = window_inodes;
    const Status status = CheckState(*store.View(), options,
                                     {.found = [&](FsckFinding finding) { findings.push_back(std::move(finding)); },
                                      .progress = [](const FsckProgress&) { return true; }},
                                     &progress);
    EXPECT_TRUE(status.ok()) << status.ToString();
    EXPECT_GT(progress.inodes_checked, 0u);
    return findings;
  }
  static std::vector<std::string> Kinds(const std::vector<FsckFinding>& findings) {
    std::vector<std::string> kinds;
    for (const FsckFinding& finding : findings) kinds.push_back(finding.kind);
    return kinds;
  }
  // As the server does: rounds of checks and repairs until nothing is found. Returns the rounds.
  int RepairAll() {
    int rounds = 0;
    for (std::vector<FsckFinding> findings = Check(); !findings.empty() && rounds < 5; findings = Check()) {
      ++rounds;
      proto::Mutation mutation;
      for (const FsckFinding& finding : findings) mutation.mutable_repair()->MergeFrom(finding.repair);
      const proto::MutationReply reply = driver_.RunAsLeader(mutation);
      EXPECT_EQ(reply.status(), 0u) << reply.message();
    }
    EXPECT_THAT(Kinds(Check()), IsEmpty());
    return rounds;
  }
  void Put(std::string key, std::string value) {
    ASSERT_TRUE(store_.Write({.changes = {{std::move(key), std::move(value)}}}).ok());
    driver_.Reopen();
  }
  void Delete(std::string key) {
    ASSERT_TRUE(store_.Write({.changes = {{std::move(key), std::nullopt}}}).ok());
    driver_.Reopen();
  }
  void PutInode(const proto::Attributes& inode) { Put(InodeKey(InodeId(inode.inode())), EncodeInode(inode)); }
  void PutDentry(uint64_t parent, const std::string& name, uint64_t inode, proto::FileType type) {
    proto::DentryRecord dentry;
    dentry.set_inode(inode);
    dentry.set_type(type);
    Put(DentryKey(InodeId(parent), name), Encode(dentry));
  }
  // Damage: the directory gets its name elsewhere, and no operation has looked whether that can be.
  void MoveByHand(uint64_t directory, uint64_t from, const std::string& name, uint64_t to, const std::string& new_name) {
    Delete(DentryKey(InodeId(from), name));
    PutDentry(to, new_name, directory, proto::FILE_TYPE_DIRECTORY);
    proto::Attributes moved = driver_.Attr(directory);
    moved.set_parent(to);
    PutInode(moved);
  }
  proto::RepairOp FirstRepair() { return Check().at(0).repair; }

  MemoryKv store_;
  StateDriver driver_{&store_};
  uint64_t root_ = 0;
  uint64_t directory_ = 0;
  uint64_t inner_ = 0;
  uint64_t file_ = 0;
  uint64_t linked_ = 0;
};

TEST_F(CheckStateTest, AHealthyStateIsCleanInWindowsOfAnySize) {
  EXPECT_THAT(Kinds(Check()), IsEmpty());
  EXPECT_THAT(Kinds(Check(1)), IsEmpty());
  EXPECT_THAT(Kinds(Check(3)), IsEmpty());
}

TEST_F(CheckStateTest, RandomHistoriesAreCleanAtAnyMoment) {
  for (uint64_t seed = 1; seed <= 20 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    MemoryKv store;
    StateDriver driver(&store);
    driver.SetUpCluster();
    NamespaceWorkload workload(seed);
    workload.AddDirectory(driver.root());
    for (int step = 0; step < 400; ++step) {
      workload.Learn(driver.Run(workload.Next()));
      proto::Mutation background;
      const uint64_t kind = workload.Below(30);
      if (kind < 3) background.mutable_propagate_counters()->set_steps_max(1 + static_cast<uint32_t>(kind));
      if (kind == 3) background.mutable_purge()->set_volume(driver.volume());
      if (kind == 3) background.mutable_purge()->set_steps_max(3);
      if (kind == 4) {
        background.mutable_remove_tree()->set_parent(driver.root());
        background.mutable_remove_tree()->set_name("n" + std::to_string(workload.Below(8)));
      }
      if (background.op_case() != proto::Mutation::OP_NOT_SET) driver.RunAsLeader(background);
      if (step % 40 != 0) continue;
      const auto findings = CheckStore(store, 64);
      EXPECT_THAT(Kinds(findings), IsEmpty()) << findings[0].what << " at step " << step;
      if (HasFailure()) return;
    }
  }
}

TEST_F(CheckStateTest, ANameThatPointsAtNothingGoes) {
  PutDentry(directory_, "dangling", 4711, proto::FILE_TYPE_REGULAR);
  const auto findings = Check();
  EXPECT_THAT(Kinds(findings), ElementsAre("dangling-dentry", "wrong-entry-count"));
  EXPECT_THAT(findings[0].what, testing::HasSubstr("'dangling' in directory"));
  EXPECT_EQ(RepairAll(), 1);
  EXPECT_EQ(driver_.Lookup(directory_, "dangling"), StatusCode::kNotFound);
}

TEST_F(CheckStateTest, ANameInADirectoryThatIsGoneGoesAndItsFileIsFoundAgain) {
  Delete(InodeKey(InodeId(inner_)));
  EXPECT_GT(RepairAll(), 0);
  // The file that had a name in it has one left.
  EXPECT_EQ(driver_.Attr(linked_).nlink(), 1u);
  EXPECT_EQ(driver_.Lookup(directory_, "inner"), StatusCode::kNotFound);
}

TEST_F(CheckStateTest, AFileWithoutANameIsFoundAgain) {
  Delete(DentryKey(InodeId(directory_), "file"));
  EXPECT_EQ(Kinds(Check())[0], "lost-inode");
  RepairAll();
  proto::Attributes lost_and_found;
  ASSERT_EQ(driver_.Lookup(root_, "lost+found", &lost_and_found), StatusCode::kOk);
  proto::Attributes found;
  ASSERT_EQ(driver_.Lookup(lost_and_found.inode(), "#" + std::to_string(file_), &found), StatusCode::kOk);
  EXPECT_EQ(found.size_bytes(), 1000u);
  EXPECT_EQ(found.data_id(), driver_.Attr(file_).data_id());
  EXPECT_EQ(lost_and_found.mode(), 0700u);
}

TEST_F(CheckStateTest, ADirectoryWithoutANameIsFoundAgainWithWhatIsInIt) {
  Delete(DentryKey(InodeId(root_), "directory"));
  RepairAll();
  proto::Attributes lost_and_found;
  ASSERT_EQ(driver_.Lookup(root_, "lost+found", &lost_and_found), StatusCode::kOk);
  ASSERT_EQ(driver_.Lookup(lost_and_found.inode(), "#" + std::to_string(directory_)), StatusCode::kOk);
  EXPECT_EQ(driver_.Lookup(directory_, "file"), StatusCode::kOk);
}

TEST_F(CheckStateTest, DirectoriesThatLieInOneAnotherAreCutOpenAndFoundAgain) {
  const uint64_t deep = driver_.Mkdir(inner_, "deep").attributes().inode();
  driver_.Mkdir(deep, "deeper");
  MoveByHand(directory_, root_, "directory", deep, "up");
  for (const uint64_t window : {uint64_t{1}, uint64_t{3}, uint64_t{16} << 20}) {
    const auto kinds = Kinds(Check(window));
    EXPECT_EQ(std::ranges::count(kinds, "cut-off-circle"), 1) << "window " << window;
    EXPECT_EQ(std::ranges::count(kinds, "lost-inode"), 0) << "window " << window;
  }
  RepairAll();
  proto::Attributes lost_and_found;
  ASSERT_EQ(driver_.Lookup(root_, "lost+found", &lost_and_found), StatusCode::kOk);
  ASSERT_EQ(driver_.Lookup(lost_and_found.inode(), "#" + std::to_string(directory_)), StatusCode::kOk);
  EXPECT_EQ(driver_.Lookup(directory_, "file"), StatusCode::kOk);
  EXPECT_EQ(driver_.Lookup(deep, "deeper"), StatusCode::kOk);
  EXPECT_EQ(driver_.Lookup(deep, "up"), StatusCode::kNotFound);
  proto::Mutation propagate;
  propagate.mutable_propagate_counters()->set_steps_max(1000);
  driver_.RunAsLeader(propagate);
  EXPECT_EQ((*ReadDirectorySize(*store_.View(), InodeId(root_)))->total, (TreeSize{1070, 2, 5}));
}

TEST_F(CheckStateTest, ADirectoryThatLiesInItselfIsFoundAgain) {
  MoveByHand(inner_, directory_, "inner", inner_, "itself");
  EXPECT_THAT(Kinds(Check()), testing::Contains("cut-off-circle"));
  RepairAll();
  EXPECT_EQ(driver_.Lookup(inner_, "again"), StatusCode::kOk);
  EXPECT_EQ(driver_.Lookup(inner_, "itself"), StatusCode::kNotFound);
}

TEST_F(CheckStateTest, ParentsThatNamesContradictAreNoCircle) {
  proto::Attributes directory = driver_.Attr(directory_);
  directory.set_parent(inner_);
  PutInode(directory);
  EXPECT_THAT(Kinds(Check()), ElementsAre("wrong-parent"));
  RepairAll();
}

TEST_F(CheckStateTest, ACircleThatWasOpenedMeanwhileIsLeftAlone) {
  MoveByHand(directory_, root_, "directory", inner_, "up");
  proto::Mutation mutation;
  for (const FsckFinding& finding : Check()) {
    if (finding.kind == "cut-off-circle") *mutation.mutable_repair() = finding.repair;
  }
  ASSERT_EQ(mutation.repair().dentries_size(), 1);
  MoveByHand(directory_, inner_, "up", root_, "back");
  EXPECT_EQ(driver_.RunAsLeader(mutation).purged(), 0u);
  RepairAll();
  EXPECT_EQ(driver_.Lookup(root_, "back"), StatusCode::kOk);
}

TEST_F(CheckStateTest, LinkCountsBecomeWhatTheNamesSay) {
  for (const uint32_t wrong : {1u, 5u}) {
    proto::Attributes linked = driver_.Attr(linked_);
    linked.set_nlink(wrong);
    PutInode(linked);
    EXPECT_EQ(Kinds(Check())[0], "wrong-link-count");
    RepairAll();
    EXPECT_EQ(driver_.Attr(linked_).nlink(), 2u);
  }
  PutDentry(root_, "third", file_, proto::FILE_TYPE_REGULAR);
  RepairAll();
  EXPECT_EQ(driver_.Attr(file_).nlink(), 2u);
}

TEST_F(CheckStateTest, ARepairLeavesWhatChangedMeanwhile) {
  proto::Attributes linked = driver_.Attr(linked_);
  linked.set_nlink(5);
  PutInode(linked);
  proto::Mutation mutation;
  *mutation.mutable_repair() = FirstRepair();
  driver_.Unlink(inner_, "again");
  EXPECT_EQ(driver_.RunAsLeader(mutation).purged(), 0u);
  EXPECT_EQ(driver_.Attr(linked_).nlink(), 4u);
  RepairAll();
  EXPECT_EQ(driver_.Attr(linked_).nlink(), 1u);
}

TEST_F(CheckStateTest, WrongTypesAndParentsAreCorrected) {
  PutDentry(directory_, "file", file_, proto::FILE_TYPE_SYMLINK);
  EXPECT_THAT(Kinds(Check()), ElementsAre("wrong-type"));
  RepairAll();
  proto::Attributes inner = driver_.Attr(inner_);
  inner.set_parent(root_);
  PutInode(inner);
  EXPECT_THAT(Kinds(Check()), ElementsAre("wrong-parent"));
  RepairAll();
  EXPECT_EQ(driver_.Attr(inner_).parent(), directory_);
  proto::Attributes file = driver_.Attr(file_);
  file.set_parent(inner_);
  PutInode(file);
  RepairAll();
  EXPECT_EQ(driver_.Attr(file_).parent(), directory_);
}

TEST_F(CheckStateTest, CountsOfADirectoryBecomeThoseOfItsNames) {
  proto::Attributes directory = driver_.Attr(directory_);
  directory.set_size_bytes(77);
  directory.set_nlink(9);
  PutInode(directory);
  EXPECT_THAT(Kinds(Check()), ElementsAre("wrong-entry-count"));
  proto::Mutation mutation;
  *mutation.mutable_repair() = FirstRepair();
  driver_.Create(directory_, "made before the repair");  // differences stay what they are
  driver_.RunAsLeader(mutation);
  EXPECT_THAT(Kinds(Check()), IsEmpty());
  EXPECT_EQ(driver_.Attr(directory_).size_bytes(), 4u);
  EXPECT_EQ(driver_.Attr(directory_).nlink(), 3u);
}

TEST_F(CheckStateTest, DirectorySizesBecomeThoseOfTheTree) {
  Put(DirectorySizeKey(InodeId(directory_)), EncodeDirectorySize({.total = {5, 5, 5}, .unsent = {}}));
  EXPECT_EQ(Kinds(Check())[0], "wrong-directory-size");
  driver_.Create(directory_, "made meanwhile");
  RepairAll();
  Delete(DirectorySizeKey(InodeId(directory_)));
  driver_.Create(directory_, "made without a size");
  EXPECT_EQ(Kinds(Check())[0], "wrong-directory-size");
  RepairAll();
  EXPECT_EQ((*ReadDirectorySize(*store_.View(), InodeId(directory_)))->total, (TreeSize{1070, 4, 1}));
}

TEST_F(CheckStateTest, CountersOfVolumesAndQueuesAreCorrected) {
  const VolumeCounters right = **ReadVolumeCounters(*store_.View(), VolumeId(driver_.volume()));
  Put(VolumeCountersKey(VolumeId(driver_.volume())), EncodeVolumeCounters({.used_bytes = 3, .used_inodes = 1000}));
  EXPECT_THAT(Kinds(Check()), ElementsAre("wrong-counter"));
  EXPECT_EQ(RepairAll(), 1);
  EXPECT_EQ(**ReadVolumeCounters(*store_.View(), VolumeId(driver_.volume())), right);
  Put(DeadDataCountKey(), EncodeU64(99));
  EXPECT_THAT(Kinds(Check()), ElementsAre("wrong-counter"));
  EXPECT_EQ(RepairAll(), 1);
  proto::StateHeader header = driver_.machine().header();
  header.set_unpropagated(0);
  Put(HeaderKey(), Encode(header));
  EXPECT_THAT(Kinds(Check()), ElementsAre("wrong-counter"));
  EXPECT_EQ(RepairAll(), 1);
  EXPECT_GT(driver_.machine().header().unpropagated(), 0u);
}

TEST_F(CheckStateTest, OrphansOfNobodyGo) {
  driver_.Unlink(directory_, "file", /*held_open=*/true);
  EXPECT_THAT(Kinds(Check()), IsEmpty());
  Delete(OrphanKey(SessionId(driver_.session()), InodeId(file_)));
  EXPECT_THAT(Kinds(Check()), ElementsAre("unheld-inode"));
  RepairAll();
  EXPECT_EQ(driver_.AttrCode(file_), StatusCode::kStaleHandle);
  EXPECT_EQ(*driver_.machine().CountDeadData(), 1u);
  Put(OrphanKey(SessionId(12345), InodeId(linked_)), "");
  EXPECT_THAT(Kinds(Check()), ElementsAre("stale-orphan"));
  RepairAll();
}

TEST_F(CheckStateTest, RecordsThatCannotBeReadAreNamed) {
  Put(InodeKey(InodeId(file_)), "\xff\xff");
  EXPECT_EQ(Kinds(Check())[0], "unreadable-record");
}

TEST_F(CheckStateTest, ACheckCanBeEnded) {
  KvBatch batch;
  for (int i = 0; i < 20'000; ++i) {
    batch.changes.push_back({DentryKey(InodeId(inner_), "n" + std::to_string(i)), Encode(proto::DentryRecord())});
  }
  ASSERT_TRUE(store_.Write(batch).ok());
  FsckProgress progress;
  const Status status =
      CheckState(*store_.View(), {},
                 {.found = [](FsckFinding) {}, .progress = [](const FsckProgress&) { return false; }}, &progress);
  EXPECT_EQ(status.code(), StatusCode::kCancelled);
}

}  // namespace
}  // namespace tarn::meta
