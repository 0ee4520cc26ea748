// Recursive sizes of directories: exact for own entries, exact everywhere once the queue is empty, whatever happened.
#include "metaserver/state/directory_sizes.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>

#include "metaserver/state/memory_kv.h"
#include "metaserver/state/records.h"
#include "metaserver/state/testing/namespace_workload.h"
#include "metaserver/state/testing/state_driver.h"

namespace tarn::meta {
namespace {

class DirectorySizesTest : public testing::Test {
 protected:
  DirectorySizesTest() {
    driver_.SetUpCluster();
    root_ = driver_.root();
  }

  uint64_t Mkdir(uint64_t parent, const std::string& name) { return driver_.Mkdir(parent, name).attributes().inode(); }
  uint32_t Propagate(uint32_t steps_max = 1000) {
    proto::Mutation mutation;
    mutation.mutable_propagate_counters()->set_steps_max(steps_max);
    return driver_.RunAsLeader(mutation).purged();
  }
  StatusCode RemoveTree(uint64_t parent, const std::string& name, uint32_t uid = 0) {
    proto::Mutation mutation;
    mutation.mutable_remove_tree()->set_parent(parent);
    mutation.mutable_remove_tree()->set_name(name);
    mutation.mutable_caller()->set_uid(uid);
    return CodeOf(driver_.Run(mutation));
  }
  uint32_t Purge(uint32_t steps_max) {
    proto::Mutation mutation;
    mutation.mutable_purge()->set_volume(driver_.volume());
    mutation.mutable_purge()->set_steps_max(steps_max);
    return driver_.RunAsLeader(mutation).purged();
  }
  std::string Xattr(uint64_t inode, const std::string& name) {
    proto::GetXattrRequest request;
    request.set_inode(inode);
    request.set_name(name);
    proto::GetXattrReply reply;
    const Status status = driver_.machine().GetXattr(request, &reply);
    return status.ok() ? reply.value() : "error " + std::to_string(static_cast<int>(status.code()));
  }
  TreeSize Size(uint64_t directory) {
    return {std::stoll(Xattr(directory, "tarn.dir.bytes")), std::stoll(Xattr(directory, "tarn.dir.files")),
            std::stoll(Xattr(directory, "tarn.dir.directories"))};
  }

  MemoryKv store_;
  StateDriver driver_{&store_};
  uint64_t root_ = 0;
};

TEST_F(DirectorySizesTest, OwnEntriesCountAtOnceAndOthersOncePropagated) {
  const uint64_t a = Mkdir(root_, "a");
  const uint64_t b = Mkdir(a, "b");
  const uint64_t c = Mkdir(b, "c");
  Propagate();
  driver_.CreateWithData(c, "f", 1000);
  driver_.Symlink(c, "l", "target");
  EXPECT_EQ(Size(c), (TreeSize{1000, 2, 0}));
  EXPECT_EQ(Size(b), (TreeSize{0, 0, 1}));
  EXPECT_EQ(driver_.machine().header().unpropagated(), 1u);
  // A step carries everything that one directory has to tell up to the next.
  EXPECT_EQ(Propagate(1), 1u);
  EXPECT_EQ(Size(b), (TreeSize{1000, 2, 1}));
  EXPECT_EQ(Size(a), (TreeSize{0, 0, 2}));
  EXPECT_EQ(Propagate(), 3u);  // b, a and the root, which has nobody to tell
  EXPECT_EQ(Size(a), (TreeSize{1000, 2, 2}));
  EXPECT_EQ(Size(root_), (TreeSize{1000, 2, 3}));
  EXPECT_EQ(driver_.machine().header().unpropagated(), 0u);
  EXPECT_EQ(Propagate(), 0u);
}

TEST_F(DirectorySizesTest, ManyChangesOfOneDirectoryAreOneStep) {
  const uint64_t a = Mkdir(root_, "a");
  Propagate();
  for (int i = 0; i < 100; ++i) driver_.Create(a, "f" + std::to_string(i));
  EXPECT_EQ(Propagate(), 2u);
  EXPECT_EQ(Size(root_).files, 100);
}

TEST_F(DirectorySizesTest, AttributesOfDirectoriesStayAsTheyAre) {
  const uint64_t a = Mkdir(root_, "a");
  const proto::Attributes file = driver_.CreateWithData(a, "f", 10);
  const std::string before = driver_.Attr(a).SerializeAsString() + driver_.Attr(root_).SerializeAsString();
  driver_.Commit(file, 5000);
  Propagate();
  EXPECT_EQ(driver_.Attr(a).SerializeAsString() + driver_.Attr(root_).SerializeAsString(), before);
  EXPECT_EQ(Size(root_).bytes, 5000);
}

TEST_F(DirectorySizesTest, SizesFollowWritesTruncatesAndRemovals) {
  const uint64_t a = Mkdir(root_, "a");
  const proto::Attributes file = driver_.CreateWithData(a, "f", 10);
  driver_.Commit(file, 5000);
  EXPECT_EQ(Size(a).bytes, 5000);
  driver_.Truncate(file.inode(), 700);
  EXPECT_EQ(Size(a).bytes, 700);
  driver_.Unlink(a, "f", /*held_open=*/true);
  EXPECT_EQ(Size(a), TreeSize());
  // What has no name counts nowhere, even if it grows.
  driver_.Commit(driver_.Attr(file.inode()), 9000);
  Propagate();
  EXPECT_EQ(Size(root_), (TreeSize{0, 0, 1}));
  driver_.Rmdir(root_, "a");
  EXPECT_EQ(Size(root_), TreeSize());
}

TEST_F(DirectorySizesTest, RenameMovesASubtreeWithWhatItsParentsHaveHeard) {
  const uint64_t from = Mkdir(root_, "from");
  const uint64_t to = Mkdir(root_, "to");
  const uint64_t moved = Mkdir(from, "moved");
  const uint64_t deep = Mkdir(moved, "deep");
  driver_.CreateWithData(moved, "heard", 100);
  Propagate();
  driver_.CreateWithData(deep, "not heard", 30);
  driver_.Rename(from, "moved", to, "moved");
  EXPECT_EQ(Size(from), TreeSize());
  EXPECT_EQ(Size(to), (TreeSize{100, 1, 2}));
  Propagate();
  EXPECT_EQ(Size(to), (TreeSize{130, 2, 2}));
  EXPECT_EQ(Size(from), TreeSize());
  EXPECT_EQ(Size(root_), (TreeSize{130, 2, 4}));
}

TEST_F(DirectorySizesTest, AFileWithManyNamesCountsWhereTheFirstOneIsThenInTheRoot) {
  const uint64_t a = Mkdir(root_, "a");
  const uint64_t b = Mkdir(root_, "b");
  const proto::Attributes file = driver_.CreateWithData(a, "f", 100);
  driver_.Link(file.inode(), b, "g");
  EXPECT_EQ(Size(a), (TreeSize{100, 1, 0}));
  EXPECT_EQ(Size(b), TreeSize());
  driver_.Commit(file, 150);
  EXPECT_EQ(Size(a).bytes, 150);
  driver_.Unlink(a, "f");
  EXPECT_EQ(Size(a), TreeSize());
  EXPECT_EQ(Size(b), TreeSize());
  Propagate();
  EXPECT_EQ(Size(root_), (TreeSize{150, 1, 2}));
  // A rename tells where its name is.
  driver_.Rename(b, "g", a, "h");
  EXPECT_EQ(Size(a), (TreeSize{150, 1, 0}));
  Propagate();
  EXPECT_EQ(Size(root_), (TreeSize{150, 1, 2}));
  driver_.Unlink(a, "h");
  Propagate();
  EXPECT_EQ(Size(root_), (TreeSize{0, 0, 2}));
  for (const auto& [key, value] : store_.Snapshot()) EXPECT_NE(key[0], 'L');
}

TEST_F(DirectorySizesTest, ServedAttributesCannotBeSetNorAreTheyListed) {
  const uint64_t a = Mkdir(root_, "a");
  proto::Mutation set;
  set.mutable_set_xattr()->set_inode(a);
  set.mutable_set_xattr()->set_name("tarn.dir.bytes");
  EXPECT_EQ(CodeOf(driver_.Run(set)), StatusCode::kNotPermitted);
  proto::Mutation remove;
  remove.mutable_remove_xattr()->set_inode(a);
  remove.mutable_remove_xattr()->set_name("tarn.dir.bytes");
  EXPECT_EQ(CodeOf(driver_.Run(remove)), StatusCode::kNotPermitted);
  proto::ListXattrRequest request;
  request.set_inode(a);
  proto::ListXattrReply reply;
  ASSERT_TRUE(driver_.machine().ListXattr(request, &reply).ok());
  EXPECT_EQ(reply.names_size(), 0);
  const std::string no_attribute = "error " + std::to_string(static_cast<int>(StatusCode::kNoAttribute));
  EXPECT_EQ(Xattr(a, "tarn.dir.none"), no_attribute);
  EXPECT_EQ(Xattr(driver_.Create(a, "f").attributes().inode(), "tarn.dir.bytes"), no_attribute);
  EXPECT_EQ(Xattr(1'000'000, "tarn.dir.bytes"), "error " + std::to_string(static_cast<int>(StatusCode::kStaleHandle)));
}

TEST_F(DirectorySizesTest, ATreeGoesInOneCommandAndIsReclaimedInSteps) {
  const uint64_t keep = Mkdir(root_, "keep");
  const auto before = store_.Snapshot();
  const uint64_t top = Mkdir(root_, "top");
  uint64_t parent = top;
  proto::Attributes linked;
  for (int depth = 0; depth < 20; ++depth) {
    driver_.CreateWithData(parent, "f", 10);
    linked = driver_.CreateWithData(parent, "linked", 10);
    parent = Mkdir(parent, "d");
  }
  driver_.Link(linked.inode(), keep, "other name");
  Propagate();
  EXPECT_EQ(Size(root_), (TreeSize{400, 40, 22}));
  EXPECT_EQ(RemoveTree(root_, "top", 1000), StatusCode::kNotPermitted);
  EXPECT_EQ(RemoveTree(root_, ".."), StatusCode::kInvalidArgument);
  EXPECT_EQ(RemoveTree(root_, "none"), StatusCode::kNotFound);
  EXPECT_EQ(RemoveTree(top, "f"), StatusCode::kNotDirectory);
  ASSERT_EQ(RemoveTree(root_, "top"), StatusCode::kOk);
  // Gone from sight, and from the sizes above, at once; nothing can be made in it.
  EXPECT_EQ(driver_.Lookup(root_, "top"), StatusCode::kNotFound);
  EXPECT_EQ(driver_.Attr(root_).nlink(), 3u);
  EXPECT_EQ(Size(root_), (TreeSize{0, 0, 1}));
  EXPECT_EQ(CodeOf(driver_.Create(top, "new")), StatusCode::kNotFound);
  EXPECT_EQ(driver_.VolumeNow().used_inodes(), 62u);
  EXPECT_EQ(driver_.machine().header().purge_inodes(), 61u);
  EXPECT_EQ(driver_.machine().NextVolumeToPurge()->value().value(), driver_.volume());
  EXPECT_EQ(Purge(7), 7u);
  driver_.Reopen();  // as after a restart
  while (Purge(7) == 7) EXPECT_EQ(driver_.machine().header().purge_directories() != 0, true);
  EXPECT_EQ(driver_.machine().header().purge_directories(), 0u);
  EXPECT_EQ(driver_.machine().header().purge_inodes(), 0u);
  EXPECT_FALSE(driver_.machine().NextVolumeToPurge()->has_value());
  // The file with another name stays, and counts in the root since nobody knows where that is.
  EXPECT_EQ(driver_.VolumeNow().used_inodes(), 2u);
  EXPECT_EQ(driver_.VolumeNow().used_bytes(), 10u);
  Propagate();
  EXPECT_EQ(Size(root_), (TreeSize{10, 1, 1}));
  driver_.Unlink(keep, "other name");
  EXPECT_EQ(Size(keep), TreeSize());
  Propagate();
  EXPECT_EQ(Size(root_), (TreeSize{0, 0, 1}));
  std::map<char, int> kinds;
  for (const auto& [key, value] : store_.Snapshot()) ++kinds[key[0]];
  std::map<char, int> kinds_before;
  for (const auto& [key, value] : before) ++kinds_before[key[0]];
  for (const char kind : {'D', 'E', 'I', 'L', 'P'}) EXPECT_EQ(kinds[kind], kinds_before[kind]) << kind;
}

// What a walk over the records gives, for every directory that can be reached.
class Walk {
 public:
  explicit Walk(const MemoryKv& store) {
    const auto view = store.View();
    for (const auto& [key, value] : store.Snapshot()) {
      if (key[0] == 'I') inodes_[*ParseTrailingId(key)] = *ParseInode(value);
      if (const auto parts = ParseDentryKey(key)) children_[parts->parent.value()].insert(ParseDentry(value)->inode());
    }
    for (const auto& [inode, attributes] : inodes_) {
      if (attributes.type() == proto::FILE_TYPE_DIRECTORY || attributes.nlink() == 0) continue;
      counted_[(*CountedIn(*view, attributes))->value()].push_back(OwnSize(attributes));
    }
  }

  TreeSize SizeOf(uint64_t directory, std::map<uint64_t, TreeSize>* sizes) {
    TreeSize size;
    for (const TreeSize& file : counted_[directory]) size = size + file;
    for (const uint64_t child : children_[directory]) {
      if (inodes_[child].type() != proto::FILE_TYPE_DIRECTORY) continue;
      size = size + SizeOf(child, sizes) + TreeSize{.directories = 1};
    }
    (*sizes)[directory] = size;
    return size;
  }

 private:
  std::map<uint64_t, proto::Attributes> inodes_;
  std::map<uint64_t, std::set<uint64_t>> children_;
  std::map<uint64_t, std::vector<TreeSize>> counted_;
};

TEST_F(DirectorySizesTest, AgreeWithAWalkAfterAnything) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    MemoryKv store;
    StateDriver driver(&store);
    driver.SetUpCluster();
    NamespaceWorkload workload(seed);
    workload.AddDirectory(driver.root());
    const auto propagate = [&](uint32_t steps) {
      proto::Mutation mutation;
      mutation.mutable_propagate_counters()->set_steps_max(steps);
      driver.RunAsLeader(mutation);
    };
    for (int step = 0; step < 500; ++step) {
      workload.Learn(driver.Run(workload.Next()));
      if (workload.Below(4) == 0) propagate(1 + static_cast<uint32_t>(workload.Below(3)));
    }
    propagate(10'000);
    EXPECT_EQ(driver.machine().header().unpropagated(), 0u);
    std::map<uint64_t, TreeSize> sizes;
    const TreeSize all = Walk(store).SizeOf(driver.root(), &sizes);
    for (const auto& [directory, size] : sizes) {
      const auto found = *ReadDirectorySize(*store.View(), InodeId(directory));
      ASSERT_TRUE(found.has_value());
      EXPECT_EQ(found->total, size) << directory;
      EXPECT_EQ(found->unsent, TreeSize());
    }
    // Orphans, which count for the quota, have no name.
    EXPECT_LE(static_cast<uint64_t>(all.bytes), driver.VolumeNow().used_bytes());
    EXPECT_LE(static_cast<uint64_t>(all.files + all.directories), driver.VolumeNow().used_inodes());
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace tarn::meta
