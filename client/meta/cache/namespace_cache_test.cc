#include "client/meta/cache/namespace_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <thread>

namespace tarn::client {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr uint64_t kTerm = 3;
constexpr int64_t kLeaseNs = 5'000'000'000;
constexpr InodeId kDirectory{100};
constexpr InodeId kOtherDirectory{101};

class RecordingKernel final : public KernelCache {
 public:
  void Invalidate(const KernelChanges& changes) override {
    MutexLock lock(mutex_);
    inodes.insert(inodes.end(), changes.inodes.begin(), changes.inodes.end());
    epochs += changes.names ? 1 : 0;
  }
  std::vector<InodeId> inodes;  // read when nothing runs any more
  int epochs = 0;

 private:
  Mutex mutex_;
};

Attributes File(uint64_t inode, InodeId parent = kDirectory) {
  Attributes file;
  file.inode = InodeId(inode);
  file.nlink = 1;
  file.mode = 0644;
  file.size_bytes = 110'000;
  file.mtime_ns = file.ctime_ns = file.atime_ns = file.btime_ns = 1'700'000'000'000'000'000;
  file.change = 7;
  file.data = DataId(inode + 1'000'000);
  file.layout.seed = inode * 31;
  file.data_generation = 1;
  file.parent = parent;
  return file;
}

class NamespaceCacheTest : public ::testing::Test {
 protected:
  NamespaceCacheTest() {
    cache_.SetKernel(&kernel_);
    Renew();
  }
  void Renew() { cache_.Extend(kTerm, clock_.MonotonicNs() + kLeaseNs); }
  NamespaceCache::Admission Grant(InodeId directory = kDirectory, bool shared = false) {
    return GrantSince(cache_.Token(), directory, shared);
  }
  NamespaceCache::Admission GrantSince(uint64_t token, InodeId directory = kDirectory, bool shared = false) {
    proto::CacheGrant grant;
    grant.set_term(kTerm);
    grant.set_directory(directory.value());
    grant.set_shared(shared);
    return cache_.Admit(grant, token);
  }
  void Remember(const std::string& name, const Attributes& attributes) {
    const auto admission = Grant(attributes.parent);
    cache_.PutName(admission, name, attributes.inode);
    cache_.PutAttributes(admission, attributes);
  }
  bool Knows(const std::string& name) {
    const auto found = cache_.FindName(kDirectory, name);
    return found && found->inode.valid() && found->attributes;
  }
  bool KnowsAbsence(const std::string& name) {
    const auto found = cache_.FindName(kDirectory, name);
    return found && !found->inode.valid();
  }
  void PushName(const std::string& name, InodeId directory = kDirectory) {
    proto::InvalidatePush push;
    push.add_items()->set_directory(directory.value());
    push.mutable_items(0)->add_names(name);
    cache_.Apply(push);
  }
  void PushInode(uint64_t inode) {
    proto::InvalidatePush push;
    push.add_items()->set_inode(inode);
    cache_.Apply(push);
  }
  void PushDrop(InodeId directory) {
    proto::InvalidatePush push;
    push.add_items()->set_directory(directory.value());
    push.mutable_items(0)->set_drop(true);
    cache_.Apply(push);
  }

  FakeClock clock_;
  SeededRandom random_{1};
  RecordingKernel kernel_;
  NamespaceCache cache_{&clock_, &random_, 4 << 20};
};

TEST_F(NamespaceCacheTest, AnswersWhatItWasTold) {
  Remember("a", File(1));
  const auto found = cache_.FindName(kDirectory, "a");
  ASSERT_TRUE(found && found->attributes);
  EXPECT_EQ(found->attributes->inode, InodeId(1));
  EXPECT_EQ(found->attributes->size_bytes, 110'000u);
  EXPECT_EQ(found->attributes->layout.seed, 31u);
  EXPECT_EQ(found->attributes->data, DataId(1'000'001));
  EXPECT_EQ(found->attributes->parent, kDirectory);
  EXPECT_FALSE(cache_.FindName(kDirectory, "b"));
  EXPECT_FALSE(cache_.FindName(kOtherDirectory, "a"));
}

TEST_F(NamespaceCacheTest, RemembersWhatDoesNotFitTheRecord) {
  Attributes link = File(1);
  link.type = FileType::kSymlink;
  link.symlink_target = "../target";
  Remember("link", link);
  Attributes device = File(2);
  device.type = FileType::kBlockDevice;
  device.rdev = 0x801;
  Remember("device", device);
  Attributes cut = File(3);
  cut.truncate_floor_bytes = 5;
  cut.change = uint64_t{1} << 40;
  Remember("cut", cut);
  EXPECT_EQ(cache_.FindAttributes(InodeId(1))->symlink_target, "../target");
  EXPECT_EQ(cache_.FindAttributes(InodeId(2))->rdev, 0x801u);
  EXPECT_EQ(cache_.FindAttributes(InodeId(3))->truncate_floor_bytes, 5u);
  EXPECT_EQ(cache_.FindAttributes(InodeId(3))->change, uint64_t{1} << 40);
}

TEST_F(NamespaceCacheTest, NothingIsAnsweredAfterTheLease) {
  Remember("a", File(1));
  clock_.AdvanceMs(4'999);
  EXPECT_TRUE(Knows("a"));
  clock_.AdvanceMs(1);
  EXPECT_FALSE(Knows("a"));
  EXPECT_FALSE(cache_.FindAttributes(InodeId(1)));
}

TEST_F(NamespaceCacheTest, ALateRenewalRevivesNothing) {
  Remember("a", File(1));
  const uint64_t before = cache_.Token();
  clock_.AdvanceMs(5'000);
  Renew();
  EXPECT_FALSE(Knows("a"));
  // Nor does a reply from before.
  const auto admission = GrantSince(before);
  cache_.PutName(admission, "b", InodeId(2));
  EXPECT_FALSE(cache_.FindName(kDirectory, "b"));
}

TEST_F(NamespaceCacheTest, ARenewalInTimeKeepsEverything) {
  Remember("a", File(1));
  clock_.AdvanceMs(4'000);
  Renew();
  clock_.AdvanceMs(4'000);
  EXPECT_TRUE(Knows("a"));
}

TEST_F(NamespaceCacheTest, GrantsOfAnotherTermCountForNothing) {
  proto::CacheGrant grant;
  grant.set_term(kTerm - 1);
  grant.set_directory(kDirectory.value());
  const auto admission = cache_.Admit(grant, cache_.Token());
  cache_.PutName(admission, "a", InodeId(1));
  EXPECT_FALSE(cache_.FindName(kDirectory, "a"));
}

TEST_F(NamespaceCacheTest, APushedNameTakesItsInodeAndTheDirectoryWithIt) {
  Remember("a", File(1));
  Remember("b", File(2));
  Attributes directory = File(kDirectory.value());
  directory.type = FileType::kDirectory;
  cache_.PutAttributes(Grant(), directory);
  PushName("a");
  EXPECT_FALSE(Knows("a"));
  EXPECT_FALSE(cache_.FindAttributes(InodeId(1)));
  EXPECT_FALSE(cache_.FindAttributes(kDirectory));
  EXPECT_TRUE(Knows("b"));
}

TEST_F(NamespaceCacheTest, AReplyThatAPushOvertookIsNotRemembered) {
  const uint64_t sent = cache_.Token();
  PushName("a");
  PushInode(2);
  const auto admission = GrantSince(sent);
  cache_.PutName(admission, "a", InodeId(1));
  cache_.PutAttributes(admission, File(2));
  EXPECT_FALSE(cache_.FindName(kDirectory, "a"));
  EXPECT_FALSE(cache_.FindAttributes(InodeId(2)));
  // The next one is.
  Remember("a", File(2));
  EXPECT_TRUE(Knows("a"));
}

TEST_F(NamespaceCacheTest, AReplyThatADropOvertookIsNotRemembered) {
  const uint64_t sent = cache_.Token();
  PushDrop(kDirectory);
  EXPECT_FALSE(GrantSince(sent).cover);
  EXPECT_TRUE(Grant().cover);
}

TEST_F(NamespaceCacheTest, WithItsDirectoryGoesAllThatItCovered) {
  Remember("a", File(1));
  cache_.PutName(Grant(), "none", InodeId());
  Remember("b", File(2, kOtherDirectory));
  PushDrop(kDirectory);
  EXPECT_FALSE(Knows("a"));
  EXPECT_FALSE(KnowsAbsence("none"));
  EXPECT_FALSE(cache_.FindAttributes(InodeId(1)));
  EXPECT_TRUE(cache_.FindAttributes(InodeId(2)));
  Remember("c", File(3));
  EXPECT_TRUE(Knows("c"));
  EXPECT_FALSE(Knows("a"));
}

TEST_F(NamespaceCacheTest, AbsenceIsRememberedUntilTheNameComes) {
  cache_.PutName(Grant(), "a", InodeId());
  EXPECT_TRUE(KnowsAbsence("a"));
  PushName("a");
  EXPECT_FALSE(KnowsAbsence("a"));
}

TEST_F(NamespaceCacheTest, FilesWithSeveralLinksNeedAnInterestOfTheirOwn) {
  Attributes file = File(1);
  file.nlink = 2;
  Remember("a", file);
  EXPECT_FALSE(cache_.FindAttributes(InodeId(1)));
  proto::CacheGrant grant;
  grant.set_term(kTerm);
  grant.set_inode(1);
  cache_.PutAttributes(cache_.Admit(grant, cache_.Token()), file);
  EXPECT_TRUE(cache_.FindAttributes(InodeId(1)));
  PushDrop(kDirectory);
  EXPECT_TRUE(cache_.FindAttributes(InodeId(1)));
  PushInode(1);
  EXPECT_FALSE(cache_.FindAttributes(InodeId(1)));
}

TEST_F(NamespaceCacheTest, AFileIsCoveredByItsOwnDirectoryOnly) {
  cache_.PutAttributes(Grant(kOtherDirectory), File(1, kDirectory));
  EXPECT_FALSE(cache_.FindAttributes(InodeId(1)));
}

TEST_F(NamespaceCacheTest, OwnChangesAreRememberedUnderTheInterestThereIs) {
  cache_.NameChanged(cache_.Token(), kDirectory, "a", InodeId(1));
  EXPECT_FALSE(cache_.FindName(kDirectory, "a")) << "no interest yet";
  (void)Grant();
  cache_.NameChanged(cache_.Token(), kDirectory, "a", InodeId(1));
  cache_.AttributesChanged(cache_.Token(), File(1), false);
  EXPECT_TRUE(Knows("a"));
  cache_.NameChanged(cache_.Token(), kDirectory, "a", InodeId());
  EXPECT_TRUE(KnowsAbsence("a"));
}

TEST_F(NamespaceCacheTest, AnInterestThatIsYoungerThanTheRequestDoesNotCoverItsReply) {
  const uint64_t sent = cache_.Token();
  (void)Grant();
  cache_.NameChanged(sent, kDirectory, "a", InodeId(1));
  EXPECT_FALSE(cache_.FindName(kDirectory, "a"));
}

TEST_F(NamespaceCacheTest, OfTheRepliesOfOwnChangesOfADirectoryTheNewestStays) {
  (void)Grant();
  const auto directory_at = [](uint64_t change) {
    Attributes directory = File(kDirectory.value(), kOtherDirectory);
    directory.type = FileType::kDirectory;
    directory.nlink = 2;
    directory.change = change;
    return directory;
  };
  const auto known = [&]() -> uint64_t {
    const std::optional<Attributes> found = cache_.FindAttributes(kDirectory);
    return found ? found->change : 0;
  };
  const uint64_t sent = cache_.Token();
  cache_.ParentChanged(sent, kDirectory, directory_at(10));
  EXPECT_EQ(known(), 10u);
  // Three changes were under way at once.
  cache_.ParentChanged(sent, kDirectory, directory_at(12));
  cache_.ParentChanged(sent, kDirectory, directory_at(11));
  EXPECT_EQ(known(), 12u);
  // A read that was sent before them.
  cache_.PutAttributes(GrantSince(sent), directory_at(9));
  EXPECT_EQ(known(), 12u);
  // Somebody else's change came before the reply.
  PushInode(kDirectory.value());
  cache_.ParentChanged(sent, kDirectory, directory_at(13));
  EXPECT_EQ(known(), 0u);
  cache_.ParentChanged(cache_.Token(), kDirectory, directory_at(14));
  EXPECT_EQ(known(), 14u);
  cache_.ParentChanged(cache_.Token(), kDirectory, std::nullopt);
  EXPECT_EQ(known(), 0u);
  // A later change of this client is known to have been, but not what it left.
  cache_.ParentChanged(sent, kDirectory, directory_at(15));
  EXPECT_EQ(known(), 0u);
}

TEST_F(NamespaceCacheTest, AnInterestInADirectorysAttributesDoesNotCoverItsNames) {
  Attributes directory = File(kDirectory.value(), kOtherDirectory);
  directory.type = FileType::kDirectory;
  directory.nlink = 2;
  proto::CacheGrant grant;
  grant.set_term(kTerm);
  grant.set_inode(kDirectory.value());
  cache_.PutAttributes(cache_.Admit(grant, cache_.Token()), directory);
  EXPECT_TRUE(cache_.FindAttributes(kDirectory));
  cache_.NameChanged(cache_.Token(), kDirectory, "a", InodeId(1));
  cache_.AttributesChanged(cache_.Token(), File(1), false);
  EXPECT_FALSE(cache_.FindName(kDirectory, "a"));
  EXPECT_FALSE(cache_.FindAttributes(InodeId(1)));
  (void)Grant();
  cache_.NameChanged(cache_.Token(), kDirectory, "a", InodeId(1));
  EXPECT_TRUE(cache_.FindName(kDirectory, "a"));
}

TEST_F(NamespaceCacheTest, AReplyThatAnOwnChangeOvertookIsNotRemembered) {
  (void)Grant();
  const uint64_t sent = cache_.Token();
  cache_.NameChanged(cache_.Token(), kDirectory, "a", InodeId());
  Attributes newer = File(2);
  newer.change = 8;
  cache_.AttributesChanged(cache_.Token(), newer, false);
  const auto admission = GrantSince(sent);
  cache_.PutName(admission, "a", InodeId(1));
  cache_.PutAttributes(admission, File(2));
  EXPECT_TRUE(KnowsAbsence("a"));
  EXPECT_EQ(cache_.FindAttributes(InodeId(2))->change, 8u);
}

TEST_F(NamespaceCacheTest, AnOwnChangeThatAPushOvertookLeavesNothing) {
  Remember("a", File(1));
  const uint64_t sent = cache_.Token();
  PushName("a");
  cache_.NameChanged(sent, kDirectory, "a", InodeId(2));
  cache_.AttributesChanged(sent, File(1), false);
  EXPECT_FALSE(cache_.FindName(kDirectory, "a"));
  EXPECT_FALSE(cache_.FindAttributes(InodeId(1)));
}

TEST_F(NamespaceCacheTest, ALateReplyDoesNotReplaceWhatALaterRequestBrought) {
  const uint64_t sent = cache_.Token();
  Attributes theirs = File(1);
  theirs.nlink = 2;
  theirs.change = 9;
  proto::CacheGrant grant;
  grant.set_term(kTerm);
  grant.set_inode(1);
  cache_.PutAttributes(cache_.Admit(grant, cache_.Token()), theirs);
  Attributes own = theirs;
  own.change = 8;  // others changed it before the grant, and nobody tells of that any more
  cache_.AttributesChanged(sent, own, false);
  EXPECT_FALSE(cache_.FindAttributes(InodeId(1)));
}

// ---- The kernel ----

TEST_F(NamespaceCacheTest, TheKernelMayBelieveWhatIsLeftOfTheLease) {
  Remember("a", File(1));
  clock_.AdvanceMs(1'000);
  EXPECT_EQ(cache_.ShowAttributes(File(1)), kLeaseNs - 1'250'000'000);
  EXPECT_EQ(cache_.ShowName(kDirectory, "a", InodeId(1)), kLeaseNs - 1'250'000'000);
  EXPECT_EQ(cache_.ShowName(kDirectory, "b", InodeId()), 0) << "not known";
  Attributes older = File(1);
  older.change = 6;
  EXPECT_EQ(cache_.ShowAttributes(older), 0);
  EXPECT_EQ(cache_.ShowName(kDirectory, "a", InodeId(9)), 0);
  clock_.AdvanceMs(3'900);
  EXPECT_EQ(cache_.ShowAttributes(File(1)), 0);
}

TEST_F(NamespaceCacheTest, NamesOfSharedDirectoriesAreNotBelieved) {
  cache_.PutName(Grant(kDirectory, /*shared=*/true), "a", InodeId(1));
  EXPECT_EQ(cache_.ShowName(kDirectory, "a", InodeId(1)), 0);
  (void)Grant(kDirectory, /*shared=*/false);
  EXPECT_GT(cache_.ShowName(kDirectory, "a", InodeId(1)), 0);
}

TEST_F(NamespaceCacheTest, TheFirstForeignChangeTakesNamesBackAndMakesTheDirectoryShared) {
  Remember("a", File(1));
  Remember("b", File(2));
  EXPECT_GT(cache_.ShowName(kDirectory, "b", InodeId(2)), 0);
  const uint64_t sent = cache_.Token();
  PushName("a");
  EXPECT_EQ(kernel_.epochs, 1);
  EXPECT_EQ(cache_.ShowName(kDirectory, "b", InodeId(2)), 0);
  PushName("c");
  EXPECT_EQ(kernel_.epochs, 1) << "nothing was shown meanwhile";
  // A reply from before does not make it unshared again.
  (void)GrantSince(sent);
  EXPECT_EQ(cache_.ShowName(kDirectory, "b", InodeId(2)), 0);
}

TEST_F(NamespaceCacheTest, OnlyWhatTheKernelWasToldIsTakenBack) {
  Remember("a", File(1));
  Remember("b", File(2));
  EXPECT_GT(cache_.ShowAttributes(File(1)), 0);
  PushInode(1);
  PushInode(2);
  EXPECT_THAT(kernel_.inodes, ElementsAre(InodeId(1)));
  EXPECT_EQ(kernel_.epochs, 0);
}

TEST_F(NamespaceCacheTest, ADroppedDirectoryIsTakenBackWithItsChildren) {
  Remember("a", File(1));
  Remember("b", File(2));
  Remember("c", File(3, kOtherDirectory));
  EXPECT_GT(cache_.ShowAttributes(File(1)), 0);
  EXPECT_GT(cache_.ShowAttributes(File(3, kOtherDirectory)), 0);
  EXPECT_GT(cache_.ShowName(kDirectory, "a", InodeId(1)), 0);
  PushDrop(kDirectory);
  EXPECT_THAT(kernel_.inodes, ElementsAre(InodeId(1)));
  EXPECT_EQ(kernel_.epochs, 1);
}

TEST_F(NamespaceCacheTest, TheEndOfTheTermTakesEverythingBack) {
  Remember("a", File(1));
  EXPECT_GT(cache_.ShowAttributes(File(1)), 0);
  EXPECT_GT(cache_.ShowName(kDirectory, "a", InodeId(1)), 0);
  cache_.Drop();
  EXPECT_THAT(kernel_.inodes, ElementsAre(InodeId(1)));
  EXPECT_EQ(kernel_.epochs, 1);
  EXPECT_FALSE(Knows("a"));
  EXPECT_EQ(cache_.ShowAttributes(File(1)), 0);
}

TEST_F(NamespaceCacheTest, OwnChangesThatTheKernelDoesNotSeeAreTakenBack) {
  Remember("a", File(1));
  EXPECT_GT(cache_.ShowAttributes(File(1)), 0);
  Attributes committed = File(1);
  committed.change = 8;
  cache_.AttributesChanged(cache_.Token(), committed, /*seen_by_kernel=*/false);
  EXPECT_THAT(kernel_.inodes, ElementsAre(InodeId(1)));
  EXPECT_EQ(cache_.FindAttributes(InodeId(1))->change, 8u);
}

TEST_F(NamespaceCacheTest, WhatTheKernelHoldsOfAForgottenInodeIsStillTakenBack) {
  Remember("a", File(1));
  EXPECT_GT(cache_.ShowAttributes(File(1)), 0);
  cache_.ForgetAttributes(InodeId(1), /*seen_by_kernel=*/true);
  EXPECT_FALSE(cache_.FindAttributes(InodeId(1)));
  EXPECT_THAT(kernel_.inodes, IsEmpty());
  PushInode(1);
  EXPECT_THAT(kernel_.inodes, ElementsAre(InodeId(1)));
}

// ---- Bounds ----

TEST_F(NamespaceCacheTest, WhatIsEvictedIsTakenBackFromTheKernel) {
  const auto admission = Grant();
  constexpr uint64_t kFiles = 100'000;
  for (uint64_t inode = 1'000; inode < 1'000 + kFiles; ++inode) {
    cache_.PutAttributes(admission, File(inode));
    EXPECT_GT(cache_.ShowAttributes(File(inode)), 0);
  }
  const uint64_t kept = cache_.counters().inodes;
  EXPECT_LT(kept, kFiles);
  EXPECT_LE(cache_.counters().bytes, 4u << 20);
  EXPECT_EQ(std::set<InodeId>(kernel_.inodes.begin(), kernel_.inodes.end()).size(), kFiles - kept);
  for (const InodeId inode : kernel_.inodes) EXPECT_FALSE(cache_.FindAttributes(inode));
}

TEST_F(NamespaceCacheTest, TheServerIsToldOfEvictedInterests) {
  for (uint64_t directory = 1'000; directory < 20'000; ++directory) (void)Grant(InodeId(directory));
  const NamespaceCache::Forgotten forgotten = cache_.TakeForgotten();
  EXPECT_FALSE(forgotten.directories.empty());
  // A grant that was asked for before does not count any more.
  const uint64_t sent = cache_.Token() - 1;
  EXPECT_FALSE(GrantSince(sent, forgotten.directories.front()).cover);
  EXPECT_TRUE(Grant(forgotten.directories.front()).cover);
}

TEST_F(NamespaceCacheTest, AnInodeCostsAtMost150Bytes) {
  NamespaceCache large(&clock_, &random_, 256 << 20);
  large.Extend(kTerm, clock_.MonotonicNs() + kLeaseNs);
  proto::CacheGrant grant;
  grant.set_term(kTerm);
  grant.set_directory(kDirectory.value());
  const auto admission = large.Admit(grant, large.Token());
  constexpr uint64_t kFiles = 300'000;
  for (uint64_t inode = 1; inode <= kFiles; ++inode) {
    large.PutName(admission, "image-" + std::to_string(inode) + ".jpg", InodeId(inode));
    large.PutAttributes(admission, File(inode));
  }
  const NamespaceCache::Counters counters = large.counters();
  ASSERT_EQ(counters.inodes, kFiles);
  ASSERT_EQ(counters.names, kFiles);
  const double bytes_each = static_cast<double>(counters.bytes) / kFiles;
  RecordProperty("bytes_per_inode", std::to_string(bytes_each));
  EXPECT_LE(bytes_each, 150.0);
}

TEST_F(NamespaceCacheTest, ReadersAndPushesRunSideBySide) {
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (int reader = 0; reader < 2; ++reader) {
    threads.emplace_back([&] {
      for (uint64_t i = 0; !stop.load(); ++i) {
        const uint64_t inode = 1 + i % 50;
        Remember("f" + std::to_string(inode), File(inode));
        (void)cache_.FindName(kDirectory, "f" + std::to_string(inode));
        (void)cache_.ShowName(kDirectory, "f" + std::to_string(inode), InodeId(inode));
        (void)cache_.ShowAttributes(File(inode));
      }
    });
  }
  for (uint64_t i = 0; i < 3'000; ++i) {
    PushName("f" + std::to_string(1 + i % 50));
    if (i % 100 == 0) PushDrop(kDirectory);
    if (i % 500 == 0) cache_.Drop();
    if (i % 500 == 0) Renew();
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  PushDrop(kDirectory);
  for (uint64_t inode = 1; inode <= 50; ++inode) EXPECT_FALSE(Knows("f" + std::to_string(inode)));
}

}  // namespace
}  // namespace tarn::client
