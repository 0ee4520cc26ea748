// Which copies may be promoted, and when not.
#include "metaserver/service/group_admin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metaserver/placement/testing_cluster.h"

namespace tarn::meta {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class GroupAdminTest : public testing::Test {
 protected:
  GroupAdminTest() {
    for (uint64_t id = 1; id <= 4; ++id) cluster_.AddTarget(id, "node" + std::to_string(id));
    cluster_.AddGroup(3, {1}, {2, 3});
  }
  const proto::PlacementGroup& group() { return cluster_.map.groups(0); }
  Status Check(uint64_t target, bool accept = true) {
    return CheckPromotion(ClusterView(cluster_.map, cluster_.facts), group(), target, accept);
  }
  std::string Health() { return HealthOf(ClusterView(cluster_.map, cluster_.facts), group()); }
  std::vector<uint64_t> Candidates() { return Promotable(ClusterView(cluster_.map, cluster_.facts), group()); }

  TestingCluster cluster_;
};

TEST_F(GroupAdminTest, NothingIsPromotedWhileACurrentCopyAnswers) {
  EXPECT_EQ(Health(), "degraded");
  EXPECT_THAT(Candidates(), IsEmpty());
  EXPECT_EQ(Check(2).code(), StatusCode::kBusy);
}

TEST_F(GroupAdminTest, NorWhileANewLeaderDoesNotKnow) {
  cluster_.SetState(1, proto::TARGET_STATE_OFFLINE);
  EXPECT_EQ(Health(), "unavailable");
  EXPECT_EQ(Check(2).code(), StatusCode::kBusy);
  EXPECT_THAT(Check(2).message(), HasSubstr("not known yet"));
}

TEST_F(GroupAdminTest, OlderCopiesThatAnswerMayGoOnIfTheLossIsAccepted) {
  cluster_.Silence(1, 6'000);
  EXPECT_EQ(Health(), "unavailable");
  EXPECT_THAT(Candidates(), ElementsAre(2, 3));
  EXPECT_EQ(Check(2, /*accept=*/false).code(), StatusCode::kBusy);
  EXPECT_THAT(Check(2, /*accept=*/false).message(), HasSubstr("1 (node node1)"));
  EXPECT_TRUE(Check(2).ok()) << Check(2).ToString();
}

TEST_F(GroupAdminTest, NoMemberNoneThatIsAwayOrFails) {
  cluster_.Silence(1, 6'000);
  EXPECT_EQ(Check(4).code(), StatusCode::kInvalidArgument) << "no member";
  cluster_.Silence(2, 6'000);
  cluster_.SetState(3, proto::TARGET_STATE_FAILED);
  EXPECT_EQ(Check(2).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(Check(3).code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(Candidates(), IsEmpty());
}

TEST_F(GroupAdminTest, LostForGoodIsLostWithoutWaiting) {
  cluster_.SetState(1, proto::TARGET_STATE_RETIRED);
  cluster_.Silence(1, 0);
  EXPECT_TRUE(Check(3).ok()) << Check(3).ToString();
}

}  // namespace
}  // namespace tarn::meta
