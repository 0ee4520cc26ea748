// Rebalancing: single moves by tables, and whole clusters that grow, until nothing moves any more.
#include "metaserver/placement/rebalance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "metaserver/placement/plan_groups.h"
#include "metaserver/placement/plan_replication.h"
#include "metaserver/placement/testing_cluster.h"

namespace tarn::meta {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

// "group:from>to ..." of the moves that come next.
std::string Moves(const TestingCluster& cluster, size_t moves_max = 8) {
  const ClusterView view(cluster.map, cluster.facts);
  const GroupLoads loads(view, cluster.facts);
  std::string text;
  for (const GroupMove& move : PlanRebalance(view, loads, 12, moves_max).next) {
    text += (text.empty() ? "" : " ") + std::to_string(move.group) + ":" + std::to_string(move.from) + ">" +
            std::to_string(move.to);
  }
  return text;
}

class RebalanceTest : public testing::Test {
 protected:
  RebalanceTest() {
    for (uint64_t id = 1; id <= 3; ++id) AddTarget(id, "node" + std::to_string(id), 100 * kGiB);
  }
  void AddTarget(uint64_t id, const std::string& node, uint64_t bytes) {
    cluster_.AddTarget(id, node);
    cluster_.facts.targets[id].capacity_bytes = bytes;
    cluster_.facts.targets[id].used_bytes = 0;
    cluster_.facts.targets[id].available_bytes = bytes;
  }

  TestingCluster cluster_;
};

TEST_F(RebalanceTest, OneGroupMoreIsEvenEnough) {
  for (const Ids& members : {Ids{1}, Ids{1}, Ids{2}, Ids{3}}) cluster_.AddGroup(1, members);
  EXPECT_EQ(Moves(cluster_), "");
  cluster_.AddGroup(1, {1});
  EXPECT_EQ(Moves(cluster_), "1:1>2");
}

TEST_F(RebalanceTest, EmptyTargetTakesGroupsFromAll) {
  for (const Ids& members : {Ids{1}, Ids{1}, Ids{2}, Ids{2}}) cluster_.AddGroup(1, members);
  EXPECT_EQ(Moves(cluster_), "3:2>3") << "and then it has as many as one of the others";
}

TEST_F(RebalanceTest, TargetOfTwiceTheSizeTakesTwiceAsMuch) {
  AddTarget(4, "node4", 200 * kGiB);
  for (int i = 0; i < 10; ++i) {
    for (uint64_t id = 1; id <= 3; ++id) cluster_.AddGroup(1, {id});
  }
  const std::string moves = Moves(cluster_, 100);
  EXPECT_GE(std::ranges::count(moves, '>'), 11) << moves;
  EXPECT_LE(std::ranges::count(moves, '>'), 13) << moves;
}

TEST_F(RebalanceTest, BytesCountWhereThereAreMany) {
  for (int i = 0; i < 4; ++i) {
    for (uint64_t id = 1; id <= 3; ++id) cluster_.AddGroup(1, {id});
  }
  for (const uint32_t group : {1u, 4u, 7u, 10u}) cluster_.facts.group_bytes[group] = 10 * kGiB;
  EXPECT_EQ(Moves(cluster_, 1), "1:1>2") << "all data is on target 1";
}

TEST_F(RebalanceTest, LittleDataCountsForLittle) {
  for (int i = 0; i < 4; ++i) {
    for (uint64_t id = 1; id <= 3; ++id) cluster_.AddGroup(1, {id});
  }
  for (const uint32_t group : {1u, 4u, 7u, 10u}) cluster_.facts.group_bytes[group] = kGiB >> 10;
  EXPECT_EQ(Moves(cluster_), "");
}

TEST_F(RebalanceTest, EachNumberOfCopiesIsEvenedOutForItself) {
  for (int i = 0; i < 3; ++i) cluster_.AddGroup(1, {1});
  for (int i = 0; i < 3; ++i) cluster_.AddGroup(2, {2, 3});
  const std::string moves = Moves(cluster_);
  EXPECT_NE(moves.find("1:1>"), std::string::npos) << moves;
  EXPECT_NE(moves.find(">1"), std::string::npos) << moves;
}

TEST_F(RebalanceTest, MembersStayOnDifferentNodesAndInTheirZones) {
  AddTarget(4, "node1", 100 * kGiB);
  for (int i = 0; i < 3; ++i) cluster_.AddGroup(2, {1, 2});
  for (int i = 0; i < 3; ++i) cluster_.AddGroup(2, {1, 3});
  for (const GroupMove& move : [&] {
         const ClusterView view(cluster_.map, cluster_.facts);
         const GroupLoads loads(view, cluster_.facts);
         return PlanRebalance(view, loads, 12, 8).next;
       }()) {
    EXPECT_EQ(move.to == 4, move.from == 1) << "node1 has a member of each group already";
  }
}

TEST_F(RebalanceTest, NothingGoesToATargetThatIsFull) {
  for (int i = 0; i < 4; ++i) cluster_.AddGroup(1, {1});
  cluster_.facts.targets[2].available_bytes = 2 * kGiB;
  cluster_.facts.targets[3].available_bytes = 2 * kGiB;
  cluster_.facts.targets[2].used_bytes = cluster_.facts.targets[3].used_bytes = 98 * kGiB;
  EXPECT_EQ(Moves(cluster_), "");
}

TEST_F(RebalanceTest, MovesUnderWayAreCountedAsDone) {
  for (const Ids& members : {Ids{1}, Ids{1}, Ids{1}, Ids{2}, Ids{2}}) cluster_.AddGroup(1, members);
  cluster_.map.mutable_groups(0)->add_syncing_targets(3);
  EXPECT_EQ(Moves(cluster_), "");
}

// A cluster that grows from three servers to more, with its groups, its data and the members that come and go.
class Growth {
 public:
  Growth(uint32_t replicas, uint64_t group_bytes) : group_bytes_(group_bytes), replicas_(replicas) {
    for (int i = 0; i < 3; ++i) AddServer();
    AddGroups();
  }
  void AddServer(uint64_t bytes = 1000 * kGiB) {
    const auto id = static_cast<uint64_t>(cluster_.map.targets_size()) + 1;
    cluster_.AddTarget(id, "node" + std::to_string(id));
    cluster_.facts.targets[id].capacity_bytes = bytes;
  }
  void AddGroups() {
    const auto op = PlanGroups(cluster_.map, {.replicas = replicas_});
    ASSERT_TRUE(op.has_value());
    for (const proto::PlacementGroup& group : op->groups()) {
      *cluster_.map.add_groups() = group;
      // Those that were there first have the data.
      if (cluster_.map.group_sets().empty()) cluster_.facts.group_bytes[group.id()] = group_bytes_;
    }
    *cluster_.map.add_group_sets() = op->group_set();
  }
  // Until nothing is planned any more: the number of members that moved.
  int Settle() {
    int moved = 0;
    for (int round = 0; round < 2'000; ++round) {
      FillUsage();
      for (auto& [id, known] : cluster_.facts.targets) known.map_version = cluster_.map.version();
      cluster_.facts.quiet_ms = 3'600'000;
      const proto::ChangeGroupsOp op = PlanReplication(cluster_.map, cluster_.facts, policy_);
      cluster_.Apply(op);
      std::vector<proto::GroupReport> reports;
      uint32_t under_way = 0;
      for (const proto::PlacementGroup& group : cluster_.map.groups()) {
        for (const uint64_t target : group.syncing_targets()) {
          ++under_way;
          if (round % 2 != 0) continue;
          proto::GroupReport& report = reports.emplace_back();
          report.set_group(group.id());
          report.set_epoch(group.epoch());
          report.set_target(target);
          report.set_kind(proto::GroupReport::KIND_EQUAL);
          ++moved;
        }
      }
      EXPECT_LE(under_way, policy_.moves_max);
      if (op.changes().empty() && under_way == 0) return moved;
      cluster_.Apply(PlanReports(cluster_.map, cluster_.facts, reports));
    }
    ADD_FAILURE() << "it never comes to rest";
    return moved;
  }
  std::map<uint64_t, int> GroupCounts() const {
    std::map<uint64_t, int> counts;
    for (const proto::PlacementGroup& group : cluster_.map.groups()) {
      EXPECT_EQ(std::set<uint64_t>(group.targets().begin(), group.targets().end()).size(), replicas_);
      for (const uint64_t target : group.targets()) ++counts[target];
    }
    return counts;
  }
  std::map<uint64_t, uint64_t> Bytes() {
    FillUsage();
    std::map<uint64_t, uint64_t> bytes;
    for (const auto& [id, known] : cluster_.facts.targets) bytes[id] = known.used_bytes;
    return bytes;
  }

 private:
  void FillUsage() {
    for (auto& [id, known] : cluster_.facts.targets) known.used_bytes = 0;
    for (const proto::PlacementGroup& group : cluster_.map.groups()) {
      for (const uint64_t target : group.targets()) cluster_.facts.targets[target].used_bytes += cluster_.facts.group_bytes[group.id()];
    }
    for (auto& [id, known] : cluster_.facts.targets) known.available_bytes = known.capacity_bytes - known.used_bytes;
  }

  const uint64_t group_bytes_;
  const uint32_t replicas_;
  TestingCluster cluster_;
  ReplicationPolicy policy_;
};

int SpanOf(const std::map<uint64_t, int>& counts) {
  const auto [least, most] = std::ranges::minmax_element(counts, {}, [](const auto& each) { return each.second; });
  return most->second - least->second;
}

TEST(Rebalancing, ThreeServersGrowToSixAndComeToRest) {
  for (const uint32_t replicas : {1u, 2u, 3u}) {
    SCOPED_TRACE(replicas);
    Growth cluster(replicas, 0);
    cluster.Settle();
    for (int i = 0; i < 3; ++i) cluster.AddServer();
    cluster.AddGroups();
    cluster.Settle();
    EXPECT_EQ(cluster.GroupCounts().size(), 6u);
    EXPECT_LE(SpanOf(cluster.GroupCounts()), 2);
    EXPECT_EQ(cluster.Settle(), 0) << "at rest it stays at rest";
  }
}

TEST(Rebalancing, OneServerMoreTakesGroupsOneByOne) {
  Growth cluster(3, 0);
  cluster.Settle();
  for (int servers = 4; servers <= 6; ++servers) {
    cluster.AddServer();
    cluster.AddGroups();
    const int moved = cluster.Settle();
    EXPECT_LE(SpanOf(cluster.GroupCounts()), 2);
    // A fair share is 48 of the members, of which 16 come with the new groups.
    EXPECT_LE(moved, 40) << servers;
  }
}

TEST(Rebalancing, BytesBecomeEvenAsWell) {
  Growth cluster(2, kGiB);
  cluster.Settle();
  for (int i = 0; i < 3; ++i) cluster.AddServer();
  cluster.AddGroups();
  cluster.Settle();
  uint64_t least = UINT64_MAX;
  uint64_t most = 0;
  for (const auto& [target, bytes] : cluster.Bytes()) {
    least = std::min(least, bytes);
    most = std::max(most, bytes);
  }
  // 96 copies of 1 GiB on six servers: 16 GiB each.
  EXPECT_GE(least, 12 * kGiB);
  EXPECT_LE(most, 20 * kGiB);
  EXPECT_EQ(cluster.Settle(), 0);
}

// A copy on the small server weighs four times what it weighs on a large one: it must not be the one that leaves again.
TEST(Rebalancing, ServersOfVeryDifferentSizesComeToRest) {
  for (const uint32_t replicas : {1u, 2u}) {
    Growth cluster(replicas, 0);
    cluster.AddServer(250 * kGiB);
    cluster.AddServer(4000 * kGiB);
    cluster.AddGroups();
    cluster.Settle();
    EXPECT_EQ(cluster.Settle(), 0) << replicas;
  }
}

TEST(Rebalancing, LargerServersTakeMore) {
  Growth cluster(2, 0);
  cluster.AddServer(3000 * kGiB);
  cluster.AddGroups();
  cluster.Settle();
  const std::map<uint64_t, int> counts = cluster.GroupCounts();
  for (uint64_t small = 1; small <= 3; ++small) {
    EXPECT_GE(counts.at(4), 2 * counts.at(small)) << "three times the size; each group is there only once";
  }
}

}  // namespace
}  // namespace tarn::meta
