// The steps by which the log's members follow the map.
#include "metaserver/service/plan_membership.h"

#include <gtest/gtest.h>

#include <utility>

namespace tarn::meta {
namespace {

using Kind = MembershipStep::Kind;

class PlanMembershipTest : public ::testing::Test {
 protected:
  void InMap(uint64_t id, const std::string& address, uint64_t replaces = 0) {
    proto::MetaserverMember* member = map_.add_metaservers();
    member->set_id(id);
    member->set_address(address);
    member->set_replaces(replaces);
  }
  MemberProgress& InLog(uint64_t id, MemberRole role, int64_t heard_ms_ago = 10) {
    MemberProgress& progress = progress_.emplace_back();
    progress.member = {id, "", role};
    progress.heard_ms_ago = heard_ms_ago;
    return progress;
  }
  std::pair<Kind, uint64_t> Step(uint64_t self = 1) {
    const auto step = PlanMembership(map_, progress_, self);
    EXPECT_TRUE(step.has_value());
    return {step->kind, step->member};
  }
  bool Nothing() { return !PlanMembership(map_, progress_, 1).has_value(); }

  proto::ClusterMap map_;
  std::vector<MemberProgress> progress_;
};

TEST_F(PlanMembershipTest, NothingToDoIfTheyAgree) {
  EXPECT_TRUE(Nothing()) << "an empty map says nothing";
  InMap(1, "a");
  InMap(2, "b");
  InLog(1, MemberRole::kVoter, 0);
  InLog(2, MemberRole::kVoter, -1);
  EXPECT_TRUE(Nothing());
}

TEST_F(PlanMembershipTest, AnAdditionThatALostLeaderLeftHalfDoneGoesOn) {
  InMap(1, "a");
  InMap(2, "b");
  InLog(1, MemberRole::kVoter, 0);
  InLog(2, MemberRole::kAdded, -1);
  EXPECT_EQ(Step(), std::pair(Kind::kAddLearner, uint64_t{2}));
}

TEST_F(PlanMembershipTest, NewMemberLearnsThenVotes) {
  InMap(1, "a");
  InMap(2, "b");
  InLog(1, MemberRole::kVoter, 0);
  EXPECT_EQ(Step(), std::pair(Kind::kAddLearner, uint64_t{2}));
  MemberProgress& learner = InLog(2, MemberRole::kLearner, -1);
  EXPECT_TRUE(Nothing()) << "never heard of";
  learner.heard_ms_ago = 20;
  learner.fetches_checkpoint = true;
  EXPECT_TRUE(Nothing());
  learner.fetches_checkpoint = false;
  EXPECT_EQ(Step(), std::pair(Kind::kPromote, uint64_t{2}));
  learner.lag_entries = 1'000'000;
  EXPECT_TRUE(Nothing());
}

TEST_F(PlanMembershipTest, RemovedMemberLeavesTheLog) {
  InMap(1, "a");
  InLog(1, MemberRole::kVoter, 0);
  InLog(2, MemberRole::kVoter);
  EXPECT_EQ(Step(1), std::pair(Kind::kRemove, uint64_t{2}));
  EXPECT_EQ(Step(2), std::pair(Kind::kStepAside, uint64_t{2}));
}

TEST_F(PlanMembershipTest, ReplacedMemberGoesOnceItsSuccessorVotes) {
  InMap(1, "a");
  InMap(2, "b");
  InMap(3, "c", 2);
  InLog(1, MemberRole::kVoter, 0);
  InLog(2, MemberRole::kVoter, -1);
  MemberProgress& successor = InLog(3, MemberRole::kLearner, -1);
  EXPECT_TRUE(Nothing());
  successor.member.role = MemberRole::kVoter;
  EXPECT_EQ(Step(), std::pair(Kind::kForget, uint64_t{2}));
}

TEST_F(PlanMembershipTest, WipedMemberThatComesBackReplacesItsFormerSelves) {
  InMap(1, "a");
  InMap(2, "b");
  InMap(3, "b");
  InMap(4, "b");
  InLog(1, MemberRole::kVoter, 0);
  InLog(2, MemberRole::kVoter, -1);
  InLog(3, MemberRole::kLearner, -1);
  InLog(4, MemberRole::kVoter);
  EXPECT_EQ(Step(), std::pair(Kind::kForget, uint64_t{2}));
  map_.mutable_metaservers()->DeleteSubrange(1, 1);
  EXPECT_EQ(Step(), std::pair(Kind::kForget, uint64_t{3}));
}

}  // namespace
}  // namespace tarn::meta
