// The order in which copies that are behind are brought up to date.
#include "metaserver/service/copy_repair.h"

#include <gtest/gtest.h>

#include <initializer_list>

namespace tarn::meta {
namespace {

using Step = GroupResync::Step;

proto::PlacementGroup Group(std::initializer_list<uint64_t> in_sync, std::initializer_list<uint64_t> syncing = {}) {
  proto::PlacementGroup group;
  group.mutable_targets()->Assign(in_sync.begin(), in_sync.end());
  group.mutable_syncing_targets()->Assign(syncing.begin(), syncing.end());
  return group;
}

TEST(GroupResync, MemberGoesOutAndComesBack) {
  GroupResync resync({2});
  ASSERT_EQ(resync.Next(Group({1, 2, 3})), Step::kTakeOut);
  EXPECT_EQ(resync.target(), 2u);
  // It was refused: the same again.
  ASSERT_EQ(resync.Next(Group({1, 2, 3})), Step::kTakeOut);
  resync.NoteTakenOut();
  EXPECT_EQ(resync.Next(Group({1, 3}, {2})), Step::kWait);
  EXPECT_EQ(resync.Next(Group({1, 3, 2})), Step::kDone);
}

TEST(GroupResync, MemberThatIsBackBeforeAnybodyLooksIsNotTakenOutAgain) {
  GroupResync resync({2});
  ASSERT_EQ(resync.Next(Group({1, 2})), Step::kTakeOut);
  resync.NoteTakenOut();
  EXPECT_EQ(resync.Next(Group({1, 2})), Step::kDone);
}

TEST(GroupResync, PrimaryThatIsBehindHandsOverToOneThatIsNot) {
  GroupResync resync({1, 2});
  ASSERT_EQ(resync.Next(Group({1, 2, 3})), Step::kHandOver);
  EXPECT_EQ(resync.target(), 3u);
  // One after the other: the group goes on with two.
  ASSERT_EQ(resync.Next(Group({3, 1, 2})), Step::kTakeOut);
  EXPECT_EQ(resync.target(), 1u);
  resync.NoteTakenOut();
  EXPECT_EQ(resync.Next(Group({3, 2}, {1})), Step::kWait);
  ASSERT_EQ(resync.Next(Group({3, 2, 1})), Step::kTakeOut);
  EXPECT_EQ(resync.target(), 2u);
}

TEST(GroupResync, NothingIsDoneWhereEveryCopyIsBehind) {
  GroupResync resync({1, 2});
  EXPECT_EQ(resync.Next(Group({1, 2})), Step::kNoSource);
  EXPECT_EQ(resync.Next(Group({1, 2}, {3})), Step::kNoSource);
}

TEST(GroupResync, WhatOthersDoCounts) {
  GroupResync resync({1, 2});
  EXPECT_EQ(resync.Next(Group({3}, {2})), Step::kWait);  // taken out by its primary, and 1 has moved away
  EXPECT_EQ(resync.Next(Group({3, 2})), Step::kDone);
}

}  // namespace
}  // namespace tarn::meta
