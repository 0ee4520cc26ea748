// Each rule of the planner on a group or two.
#include "metaserver/placement/plan_replication.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metaserver/placement/testing_cluster.h"

namespace tarn::meta {
namespace {

using testing::HasSubstr;

constexpr int64_t kDelayMs = ReplicationPolicy().replace_delay_ms;

// "1,2|3": in-sync 1 and 2, syncing 3.
std::string TextOf(const proto::ChangeGroupsOp::Change& change) {
  std::string text;
  for (const uint64_t target : change.targets()) text += (text.empty() ? "" : ",") + std::to_string(target);
  text += "|";
  for (const uint64_t target : change.syncing_targets())
    text += (text.ends_with("|") ? "" : ",") + std::to_string(target);
  return text;
}

// Of the only change; "" for none.
std::string OnlyChange(const proto::ChangeGroupsOp& op) {
  if (op.changes().empty()) return "";
  EXPECT_EQ(op.changes_size(), 1);
  return TextOf(op.changes(0));
}

proto::GroupReport Report(proto::GroupReport::Kind kind, uint64_t target, uint64_t epoch = 1) {
  proto::GroupReport report;
  report.set_group(1);
  report.set_epoch(epoch);
  report.set_kind(kind);
  report.set_target(target);
  return report;
}
proto::GroupReport Failed(uint64_t target, uint64_t epoch = 1) {
  return Report(proto::GroupReport::KIND_FAILED, target, epoch);
}
proto::GroupReport Equal(uint64_t target, uint64_t epoch = 1) {
  return Report(proto::GroupReport::KIND_EQUAL, target, epoch);
}

class PlanReplicationTest : public testing::Test {
 protected:
  PlanReplicationTest() {
    for (uint64_t id = 1; id <= 5; ++id) cluster_.AddTarget(id, "node" + std::to_string(id));
  }
  std::string Plan() { return OnlyChange(PlanReplication(cluster_.map, cluster_.facts, policy_)); }
  std::string Decide(const std::vector<proto::GroupReport>& reports) {
    return OnlyChange(PlanReports(cluster_.map, cluster_.facts, reports));
  }

  TestingCluster cluster_;
  ReplicationPolicy policy_;
};

TEST_F(PlanReplicationTest, HealthyClusterStaysAsItIs) {
  cluster_.AddGroup(1, {1});
  cluster_.AddGroup(2, {2, 1});
  cluster_.AddGroup(3, {3, 2, 1});
  cluster_.facts.quiet_ms = kDelayMs;
  EXPECT_EQ(Plan(), "");
}

TEST_F(PlanReplicationTest, MemberWhoseLeaseIsOverLeaves) {
  const struct {
    Ids in_sync;
    Ids syncing;
    Ids silent;
    std::string expected;
  } rows[] = {
      {{1, 2, 3}, {}, {2}, "1,3|2"},
      {{1, 2, 3}, {}, {1}, "2,3|1"},           // the next one is the primary
      {{1, 2, 3}, {}, {1, 3}, "2|1,3"},        //
      {{1, 2, 3}, {}, {1, 2, 3}, ""},          // nobody could go on
      {{1}, {}, {1}, ""},                      // the last one never leaves
      {{1}, {2}, {1}, ""},                     // nor is anybody promoted who is not in-sync
      {{1, 2}, {3}, {1}, "2|3,1"},             //
      {{1, 2, 3}, {}, {}, ""},
  };
  for (const auto& row : rows) {
    TestingCluster cluster = cluster_;
    cluster.AddGroup(3, row.in_sync, row.syncing);
    // No other targets, so that nothing is replaced.
    for (const uint64_t id : {4, 5}) cluster.SetState(id, proto::TARGET_STATE_RETIRED);
    if (row.in_sync.size() + row.syncing.size() < 3) cluster.SetState(3, proto::TARGET_STATE_RETIRED);
    if (row.in_sync.size() + row.syncing.size() < 2) cluster.SetState(2, proto::TARGET_STATE_RETIRED);
    for (const uint64_t id : row.silent) cluster.Silence(id, 6000);
    EXPECT_EQ(OnlyChange(PlanReplication(cluster.map, cluster.facts, policy_)), row.expected);
  }
}

TEST_F(PlanReplicationTest, PrimaryIsTheOneHeardOfLast) {
  cluster_.AddGroup(3, {1, 2, 3});
  cluster_.Silence(1, 6000);
  cluster_.facts.targets[2].silent_ms = 4500;
  cluster_.facts.targets[3].silent_ms = 900;
  EXPECT_EQ(Plan(), "3,2|1");
}

TEST_F(PlanReplicationTest, PrimaryReportsAMember) {
  cluster_.AddGroup(2, {1, 2}, {3});
  EXPECT_EQ(Decide({Failed(2)}), "1|3,2");
  EXPECT_EQ(Decide({Failed(2, 7)}), "") << "about another epoch";
  EXPECT_EQ(Decide({Failed(5)}), "") << "no member";
  EXPECT_EQ(Decide({Failed(1)}), "2,1|3") << "it hands over first, if its own disk fails";
}

TEST_F(PlanReplicationTest, LastMemberStaysWhateverIsReported) {
  cluster_.AddGroup(2, {1});
  EXPECT_EQ(Decide({Failed(1)}), "");
}

TEST_F(PlanReplicationTest, MemberThatMayTakeItselfForThePrimaryIsNotRemovedYet) {
  cluster_.AddGroup(2, {1, 2});
  cluster_.ForgetMap(2);
  EXPECT_EQ(Decide({Failed(2)}), "") << "its lease is not over, and it may live in an epoch of its own";
  cluster_.Silence(2, 6000);
  EXPECT_EQ(Decide({Failed(2)}), "1|2");
}

TEST_F(PlanReplicationTest, EqualMemberIsPromoted) {
  cluster_.AddGroup(3, {1}, {2, 3});
  EXPECT_EQ(Decide({Equal(2)}), "1,2|3");
  EXPECT_EQ(Decide({Equal(3), Equal(2)}), "1,2,3|");
  EXPECT_EQ(Decide({Equal(2, 2)}), "") << "about another epoch";
  EXPECT_EQ(Decide({Equal(4)}), "") << "no member";
  cluster_.Silence(2, 6000);
  EXPECT_EQ(Decide({Equal(2)}), "");
  cluster_.SetState(3, proto::TARGET_STATE_FAILED);
  EXPECT_EQ(Decide({Equal(3)}), "1|2");
}

TEST_F(PlanReplicationTest, MemberThatFailsAfterItWasEqualIsSyncingInANewEpoch) {
  cluster_.AddGroup(3, {1, 2}, {3});
  EXPECT_EQ(Decide({Equal(3), Failed(3)}), "1,2|3");
  cluster_.Silence(3, 6000);
  EXPECT_EQ(Decide({Failed(3)}), "1,2|3") << "the primary waits for it until there is a new epoch";
  EXPECT_EQ(Decide({Failed(3, 7)}), "") << "about another epoch";
}

TEST_F(PlanReplicationTest, OneIsReportedAndAnotherIsEqual) {
  cluster_.AddGroup(2, {1, 2}, {3});
  EXPECT_EQ(Decide({Failed(2), Equal(3)}), "1,3|2");
}

TEST_F(PlanReplicationTest, FailedTargetLeavesForGood) {
  cluster_.AddGroup(3, {1, 2, 3});
  cluster_.SetState(2, proto::TARGET_STATE_FAILED);
  EXPECT_EQ(Plan(), "1,3|");
}

TEST_F(PlanReplicationTest, FailedPrimaryHandsOverFirst) {
  cluster_.AddGroup(2, {1, 2});
  cluster_.SetState(1, proto::TARGET_STATE_FAILED);
  cluster_.Apply(PlanReplication(cluster_.map, cluster_.facts, policy_));
  EXPECT_THAT(cluster_.map.groups(0).targets(), testing::ElementsAre(2, 1));
  EXPECT_EQ(Plan(), "2,1|3") << "its server has not heard of the epoch yet; meanwhile a new copy is begun";
  cluster_.facts.targets[1].map_version = cluster_.map.version();
  EXPECT_EQ(Plan(), "2|");
}

TEST_F(PlanReplicationTest, FailedTargetWithTheOnlyCopyIsCopied) {
  cluster_.AddGroup(1, {1});
  cluster_.SetState(1, proto::TARGET_STATE_FAILED);
  EXPECT_EQ(Plan(), "1|2");
}

TEST_F(PlanReplicationTest, SilentMemberIsReplacedAfterADelay) {
  cluster_.AddGroup(2, {1}, {2});
  cluster_.Silence(2, kDelayMs - 1);
  EXPECT_EQ(Plan(), "");
  cluster_.Silence(2, kDelayMs);
  EXPECT_EQ(Plan(), "1|3");
}

TEST_F(PlanReplicationTest, MissingMemberIsReplacedAtOnce) {
  cluster_.AddGroup(3, {1, 2});
  EXPECT_EQ(Plan(), "1,2|3");
}

TEST_F(PlanReplicationTest, RetiredMemberIsReplacedAtOnce) {
  cluster_.AddGroup(2, {1}, {2});
  cluster_.Silence(2, 6000);
  cluster_.SetState(2, proto::TARGET_STATE_RETIRED);
  EXPECT_EQ(Plan(), "1|") << "first it goes";
  cluster_.Apply(PlanReplication(cluster_.map, cluster_.facts, policy_));
  EXPECT_EQ(Plan(), "1|3");
}

TEST_F(PlanReplicationTest, NothingIsCopiedWithoutASource) {
  cluster_.AddGroup(2, {1}, {2});
  cluster_.Silence(1, kDelayMs);
  cluster_.Silence(2, kDelayMs);
  EXPECT_EQ(Plan(), "");
}

TEST_F(PlanReplicationTest, NewMemberIsOnAnotherNodeAndInAnotherZone) {
  TestingCluster cluster;
  cluster.AddTarget(1, "a", "z1");
  cluster.AddTarget(2, "a", "z1");
  cluster.AddTarget(3, "b", "z1");
  cluster.AddTarget(4, "c", "z2");
  cluster.AddTarget(5, "d", "z3").set_target_class(proto::TARGET_CLASS_ELASTIC);
  cluster.AddGroup(2, {1});
  EXPECT_EQ(OnlyChange(PlanReplication(cluster.map, cluster.facts, policy_)), "1|4");
  cluster.facts.targets[4].available_bytes = 50;
  EXPECT_EQ(OnlyChange(PlanReplication(cluster.map, cluster.facts, policy_)), "1|3") << "the other one is full";
  cluster.SetState(3, proto::TARGET_STATE_DRAINING);
  EXPECT_EQ(OnlyChange(PlanReplication(cluster.map, cluster.facts, policy_)), "") << "never twice on one node";
}

TEST_F(PlanReplicationTest, CopiesThatShareANodeAreSpreadAgain) {
  TestingCluster cluster;
  cluster.AddTarget(1, "a");
  cluster.AddTarget(2, "a");
  cluster.AddTarget(3, "b");
  // As after a move within node a that met the loss of the copy on b.
  proto::PlacementGroup& group = cluster.AddGroup(2, {1, 2});
  EXPECT_EQ(OnlyChange(PlanReplication(cluster.map, cluster.facts, policy_)), "1,2|3");
  group.add_syncing_targets(3);
  EXPECT_EQ(OnlyChange(PlanReplication(cluster.map, cluster.facts, policy_)), "") << "it is on its way";
  group.clear_syncing_targets();
  cluster.facts.targets[3].lease_over = true;
  EXPECT_EQ(OnlyChange(PlanReplication(cluster.map, cluster.facts, policy_)), "") << "there is no better place";
  cluster.facts.targets[3].lease_over = false;
  group.add_targets(3);
  EXPECT_EQ(OnlyChange(PlanReplication(cluster.map, cluster.facts, policy_)), "1,3|") << "one of those on a leaves";
}

TEST_F(PlanReplicationTest, MostEndangeredFirstAndAFewAtATime) {
  TestingCluster cluster;
  for (uint64_t id = 1; id <= 4; ++id) cluster.AddTarget(id, "node" + std::to_string(id));
  for (int i = 0; i < 6; ++i) cluster.AddGroup(3, {1, 2});
  for (int i = 0; i < 6; ++i) cluster.AddGroup(3, {2});
  ReplicationPolicy policy;
  policy.copies_per_target_max = 2;
  const proto::ChangeGroupsOp op = PlanReplication(cluster.map, cluster.facts, policy);
  std::map<uint64_t, int> copies_to;
  std::map<uint64_t, int> copies_from;
  for (const auto& change : op.changes()) {
    for (const uint64_t target : change.syncing_targets()) ++copies_to[target];
    ++copies_from[change.targets(0)];
  }
  for (const auto& [target, copies] : copies_to) EXPECT_LE(copies, 2) << target;
  for (const auto& [target, copies] : copies_from) EXPECT_LE(copies, 2) << target;
  ASSERT_GT(op.changes_size(), 1);
  EXPECT_EQ(op.changes(0).group(), 7u);
  EXPECT_EQ(op.changes(1).group(), 8u);
}

TEST_F(PlanReplicationTest, NewLeaderTakesNobodyForAliveWhoWasOffline) {
  cluster_.AddGroup(2, {3, 2});
  cluster_.AddGroup(2, {3});
  cluster_.AddGroup(1, {4});
  for (const uint64_t id : {2, 4}) cluster_.SetState(id, proto::TARGET_STATE_OFFLINE);
  for (const uint64_t id : {1, 5}) cluster_.SetState(id, proto::TARGET_STATE_RETIRED);
  cluster_.AddGroup(2, {2});
  EXPECT_EQ(Plan(), "") << "it is not removed, not copied from, and nothing is copied to it";
}

TEST_F(PlanReplicationTest, CopyWhoseSourceIsLostKeepsNobodysHandsFull) {
  cluster_.AddGroup(1, {1}, {3});
  cluster_.Silence(1, kDelayMs);
  for (const uint64_t id : {4, 5}) cluster_.SetState(id, proto::TARGET_STATE_RETIRED);
  cluster_.AddGroup(2, {2});
  policy_.copies_per_target_max = 1;
  EXPECT_EQ(Plan(), "2|3");
}

TEST_F(PlanReplicationTest, DrainingTargetIsReplacedAndThenLeaves) {
  cluster_.AddGroup(2, {1, 2});
  cluster_.SetState(1, proto::TARGET_STATE_DRAINING);
  const auto step = [&] {
    const proto::ChangeGroupsOp op = PlanReplication(cluster_.map, cluster_.facts, policy_);
    cluster_.Apply(op);
    return OnlyChange(op);
  };
  EXPECT_EQ(step(), "1,2|3");
  EXPECT_EQ(step(), "");
  cluster_.Apply(PlanReports(cluster_.map, cluster_.facts, {Equal(3, 2)}));
  EXPECT_EQ(step(), "2,1,3|") << "the primary hands over";
  EXPECT_EQ(step(), "") << "its server has not heard of it yet";
  cluster_.facts.targets[1].map_version = cluster_.map.version();
  EXPECT_EQ(step(), "2,3|");
  EXPECT_EQ(step(), "");
}

TEST_F(PlanReplicationTest, PrimaryThatHasHandedOverIsNotThePrimaryAgain) {
  for (int i = 0; i < 4; ++i) cluster_.AddGroup(2, {1, 2, 3});
  cluster_.SetState(1, proto::TARGET_STATE_DRAINING);
  cluster_.Apply(PlanReplication(cluster_.map, cluster_.facts, policy_));
  for (const auto& group : cluster_.map.groups()) EXPECT_NE(group.targets(0), 1u);
  EXPECT_TRUE(PlanReplication(cluster_.map, cluster_.facts, policy_).changes().empty())
      << "not for evening out primaries either, before it has left";
}

TEST_F(PlanReplicationTest, PrimaryThatHasHandedOverToMoveAwayIsNotThePrimaryAgain) {
  cluster_.AddGroup(2, {1, 2, 3});
  for (const uint64_t primary : {2, 4, 5}) cluster_.AddGroup(2, {primary, 1});
  cluster_.Apply(PlanReplication(cluster_.map, cluster_.facts, policy_));
  ASSERT_EQ(cluster_.map.groups(0).targets(0), 2u);
  const uint64_t epoch = cluster_.map.groups(0).epoch();
  // 1 has not told that it knows; that it has the fewest primaries is no reason to make it one.
  for (int i = 0; i < 5; ++i) cluster_.Apply(PlanReplication(cluster_.map, cluster_.facts, policy_));
  EXPECT_EQ(cluster_.map.groups(0).epoch(), epoch);
  cluster_.facts.targets[1].map_version = cluster_.map.version();
  cluster_.Apply(PlanReplication(cluster_.map, cluster_.facts, policy_));
  EXPECT_THAT(cluster_.map.groups(0).targets(), testing::ElementsAre(2, 3));
}

TEST_F(PlanReplicationTest, SurplusMemberLeavesWhereItIsMissedLeast) {
  TestingCluster cluster;
  cluster.AddTarget(1, "a");
  cluster.AddTarget(2, "a");
  cluster.AddTarget(3, "b");
  cluster.AddTarget(4, "c");
  cluster.AddGroup(2, {1, 3, 4});
  cluster.facts.targets[4].used_bytes = 700;
  cluster.facts.targets[4].available_bytes = 300;
  EXPECT_EQ(OnlyChange(PlanReplication(cluster.map, cluster.facts, policy_)), "1,3|") << "the fullest";
  cluster.map.clear_groups();
  cluster.AddGroup(2, {1, 2, 4});
  EXPECT_EQ(OnlyChange(PlanReplication(cluster.map, cluster.facts, policy_)), "1,4|") << "two on one node";
}

TEST_F(PlanReplicationTest, ElasticTargetIsNoGoalCopy) {
  cluster_.map.mutable_targets(2)->set_target_class(proto::TARGET_CLASS_ELASTIC);
  cluster_.AddGroup(2, {1, 2, 3});
  EXPECT_EQ(Plan(), "1,2|");
}

TEST_F(PlanReplicationTest, PrimariesAreEvenedOut) {
  for (int i = 0; i < 4; ++i) cluster_.AddGroup(2, {1, 2});
  cluster_.Apply(PlanReplication(cluster_.map, cluster_.facts, policy_));
  std::map<uint64_t, int> primaries;
  for (const auto& group : cluster_.map.groups()) ++primaries[group.targets(0)];
  EXPECT_EQ(primaries, (std::map<uint64_t, int>{{1, 2}, {2, 2}}));
  EXPECT_EQ(Plan(), "");
}

TEST_F(PlanReplicationTest, GroupThatIsLostHoldsUpNothing) {
  for (int i = 0; i < 4; ++i) cluster_.AddGroup(2, {1, 2});
  cluster_.AddGroup(1, {5});
  cluster_.Silence(5, kDelayMs);
  EXPECT_FALSE(PlanReplication(cluster_.map, cluster_.facts, policy_).changes().empty()) << "primaries are evened out";
}

TEST_F(PlanReplicationTest, GroupsMoveToEmptierTargetsWhenAllIsWell) {
  for (int i = 0; i < 2; ++i) {
    cluster_.AddGroup(2, {2, 1});
    cluster_.AddGroup(2, {1, 4});
    cluster_.AddGroup(2, {5, 1});
    cluster_.AddGroup(2, {4, 5});
  }
  EXPECT_EQ(Plan(), "") << "something has just changed";
  cluster_.facts.quiet_ms = policy_.move_pause_ms;
  policy_.moves_max = 1;
  EXPECT_EQ(Plan(), "2,1|3");
  cluster_.AddGroup(2, {2, 5}, {3});
  EXPECT_EQ(Plan(), "") << "one is under way";
  policy_.moves_max = 2;
  EXPECT_EQ(Plan(), "2,1|3");
  cluster_.AddGroup(2, {4}, {5});
  EXPECT_EQ(Plan(), "") << "first the copies that are missing";
}

TEST_F(PlanReplicationTest, DrainNeedsNodesAndRoom) {
  cluster_.AddGroup(3, {1, 2, 3});
  EXPECT_TRUE(CheckDrain(cluster_.map, cluster_.facts, {1, 2}).ok());
  EXPECT_THAT(CheckDrain(cluster_.map, cluster_.facts, {1, 2, 3}).message(), HasSubstr("only 2 node(s)"));
  cluster_.Silence(4, 6000);
  EXPECT_EQ(CheckDrain(cluster_.map, cluster_.facts, {1, 2}).code(), StatusCode::kNoSpace);
  cluster_.facts.targets[1].used_bytes = 1'000'000;
  EXPECT_THAT(CheckDrain(cluster_.map, cluster_.facts, {1}).message(), HasSubstr("1000000 are to be moved"));
}

}  // namespace
}  // namespace tarn::meta
