// A state brought back from a backup: nothing that was given out before is given out again.
#include "metaserver/state/restored_state.h"

#include <gtest/gtest.h>

#include "metaserver/state/memory_kv.h"
#include "metaserver/state/testing/state_driver.h"

namespace tarn::meta {
namespace {

class RestoredStateTest : public testing::Test {
 protected:
  RestoredStateTest() {
    driver_.SetUpCluster();
    driver_.CreateWithData(driver_.root(), "file", 1000);
  }

  MemoryKv store_;
  StateDriver driver_{&store_};
};

TEST_F(RestoredStateTest, BeginsANewIncarnationAndANewLog) {
  const proto::StateHeader before = driver_.machine().header();
  const proto::ClusterMap map_before = *driver_.machine().cluster_map();
  const auto facts = MakeRestored(&store_, before.cluster_id(), 0, driver_.now_ns());
  ASSERT_TRUE(facts.ok()) << facts.status().ToString();
  EXPECT_EQ(facts->incarnation, 1u);
  EXPECT_EQ(facts->applied_entries, before.applied_entries());
  driver_.Reopen();
  const proto::StateHeader after = driver_.machine().header();
  EXPECT_EQ(after.applied_entries(), 0u);
  EXPECT_EQ(after.incarnation(), 1u);
  EXPECT_TRUE(after.reclaim_disabled());
  EXPECT_GE(after.next_inode(), before.next_inode());
  EXPECT_GE(after.next_data_id(), before.next_data_id());
  EXPECT_GT(after.next_session(), before.next_session() + 1'000'000'000);
  EXPECT_GT(after.next_target(), before.next_target() + 1'000'000'000);
  EXPECT_GT(after.next_volume(), before.next_volume() + 1'000'000);
  const proto::ClusterMap& map = *driver_.machine().cluster_map();
  EXPECT_EQ(map.incarnation(), 1u);
  EXPECT_GT(map.version(), map_before.version() + 1'000'000'000);
  EXPECT_GT(map.groups(0).epoch(), map_before.groups(0).epoch() + 1'000'000'000);
  EXPECT_EQ(map.targets_size(), map_before.targets_size());
  // Names and data are there, sessions are not.
  EXPECT_EQ(driver_.Lookup(driver_.root(), "file"), StatusCode::kOk);
  std::vector<proto::SessionRecord> sessions;
  ASSERT_TRUE(driver_.machine().ListSessions(&sessions).ok());
  EXPECT_TRUE(sessions.empty());
}

TEST_F(RestoredStateTest, IsDurable) {
  ASSERT_TRUE(MakeRestored(&store_, driver_.machine().header().cluster_id(), 7, driver_.now_ns()).ok());
  EXPECT_EQ(store_.unflushed_batches(), 0u);
  driver_.Reopen();
  EXPECT_EQ(driver_.machine().header().incarnation(), 7u);
}

TEST_F(RestoredStateTest, WhatDoesNotFitIsRefused) {
  EXPECT_EQ(MakeRestored(&store_, "another", 0, 1).status().code(), StatusCode::kCorruption);
  EXPECT_EQ(MakeRestored(&store_, driver_.machine().header().cluster_id(), 256, 1).status().code(),
            StatusCode::kInvalidArgument);
  MemoryKv nothing;
  EXPECT_EQ(MakeRestored(&nothing, "", 0, 1).status().code(), StatusCode::kCorruption);
  // The same backup once more: never the same incarnation.
  ASSERT_TRUE(MakeRestored(&store_, driver_.machine().header().cluster_id(), 3, 1).ok());
  EXPECT_EQ(MakeRestored(&store_, driver_.machine().header().cluster_id(), 3, 1).status().code(),
            StatusCode::kInvalidArgument);
}

TEST_F(RestoredStateTest, ReclaimingIsTurnedOnByTheOperator) {
  ASSERT_TRUE(MakeRestored(&store_, driver_.machine().header().cluster_id(), 0, driver_.now_ns()).ok());
  driver_.Reopen();
  proto::Mutation mutation;
  mutation.mutable_set_reclaim()->set_enabled(true);
  EXPECT_EQ(CodeOf(driver_.RunAsLeader(mutation)), StatusCode::kOk);
  EXPECT_FALSE(driver_.machine().header().reclaim_disabled());
}

}  // namespace
}  // namespace tarn::meta
