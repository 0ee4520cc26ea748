#include "metaserver/service/group_health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metaserver/placement/testing_cluster.h"
#include "metaserver/service/repair_meter.h"

namespace tarn::meta {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

class GroupHealthTest : public testing::Test {
 protected:
  GroupHealthTest() {
    for (uint64_t id = 1; id <= 3; ++id) cluster_.AddTarget(id, "node" + std::to_string(id));
    cluster_.map.add_group_sets();
  }
  proto::RepairProgress Sum() { return SumRepair(cluster_.map, cluster_.facts, syncs_); }
  std::string Health() {
    problems_.clear();
    return JudgeHealth(cluster_.map, Sum(), &problems_);
  }

  TestingCluster cluster_;
  std::vector<proto::SyncProgress> syncs_;
  std::vector<std::string> problems_;
};

TEST_F(GroupHealthTest, WellUntilACopyIsMissing) {
  cluster_.AddGroup(2, {1, 2});
  EXPECT_EQ(Health(), "ok");
  EXPECT_THAT(problems_, IsEmpty());
  cluster_.AddGroup(2, {1}, {3});
  EXPECT_EQ(Health(), "degraded");
  EXPECT_EQ(Sum().groups_degraded(), 1u);
  EXPECT_THAT(problems_, Contains(HasSubstr("fewer copies")));
}

TEST_F(GroupHealthTest, MoveIsNoProblem) {
  cluster_.AddGroup(2, {1, 2}, {3});
  EXPECT_EQ(Health(), "ok");
  EXPECT_EQ(Sum().groups_moving(), 1u);
}

TEST_F(GroupHealthTest, GroupWithoutAMemberThatServesIsUnavailable) {
  cluster_.AddGroup(2, {1}, {2});
  cluster_.Silence(1, 6000);
  EXPECT_EQ(Health(), "unavailable");
  EXPECT_EQ(Sum().groups_unavailable(), 1u);
  cluster_.SetState(1, proto::TARGET_STATE_RETIRED);
  EXPECT_EQ(Health(), "ok") << "lost for good";
}

TEST_F(GroupHealthTest, FailingDiskIsNamed) {
  cluster_.SetState(2, proto::TARGET_STATE_FAILED);
  EXPECT_EQ(Health(), "degraded");
  EXPECT_THAT(problems_, Contains(HasSubstr("target 2 at")));
}

TEST_F(GroupHealthTest, RateAndRestOfARepair) {
  RepairMeter meter;
  proto::SyncProgress& sync = syncs_.emplace_back();
  sync.set_group(1);
  sync.set_target(3);
  sync.set_bytes_total(10'000);
  for (int second = 0; second <= 20; ++second) {
    sync.set_bytes_done(static_cast<uint64_t>(second) * 100);
    meter.Update(second * int64_t{1'000'000'000}, syncs_);
  }
  proto::RepairProgress repair = Sum();
  meter.FillRate(&repair);
  EXPECT_EQ(repair.bytes_done(), 2'000u);
  EXPECT_EQ(repair.bytes_total(), 10'000u);
  EXPECT_EQ(repair.bytes_per_second(), 100u);
  EXPECT_EQ(repair.eta_seconds(), 80u);
  meter.Update(21'000'000'000, {});
  meter.Update(60'000'000'000, {});
  proto::RepairProgress later = Sum();
  meter.FillRate(&later);
  EXPECT_EQ(later.bytes_per_second(), 0u);
  EXPECT_EQ(later.eta_seconds(), 0u) << "not known";
}

TEST_F(GroupHealthTest, ElasticTargetsMayVanish) {
  cluster_.AddGroup(2, {1, 2});
  for (uint64_t id = 10; id < 20; ++id) {
    cluster_.AddTarget(id, "elastic" + std::to_string(id)).set_target_class(proto::TARGET_CLASS_ELASTIC);
    cluster_.SetState(id, proto::TARGET_STATE_OFFLINE);
  }
  EXPECT_EQ(Health(), "ok");
  EXPECT_THAT(problems_, IsEmpty());
}

}  // namespace
}  // namespace tarn::meta
