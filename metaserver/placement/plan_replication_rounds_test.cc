// Rounds of planning, failing and coming back, from seeds: what must hold always, and what must hold in the end.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "metaserver/placement/plan_groups.h"
#include "metaserver/placement/plan_replication.h"
#include "metaserver/placement/testing_cluster.h"

namespace tarn::meta {
namespace {

constexpr int kRoundsUntilStable = 4'000;
constexpr int kQuietRounds = 40;
constexpr int64_t kRoundMs = 60'000;

bool Contains(const google::protobuf::RepeatedField<uint64_t>& list, uint64_t target) {
  return std::ranges::find(list, target) != list.end();
}

class World {
 public:
  explicit World(uint32_t seed) : random_(seed) {
    const int nodes = 4 + Below(5);
    for (int node = 0; node < nodes; ++node) {
      const int targets = 1 + Below(3);
      for (int i = 0; i < targets; ++i) AddTarget("node" + std::to_string(node), "zone" + std::to_string(node % 3));
    }
    for (const uint32_t replicas : {1u, 2u, 3u}) {
      const auto op = PlanGroups(cluster_.map, {.groups_per_target = 4, .replicas = replicas});
      EXPECT_TRUE(op.has_value());
      if (!op) continue;
      for (const proto::PlacementGroup& group : op->groups()) {
        *cluster_.map.add_groups() = group;
        cluster_.facts.epoch_since[group.id()] = cluster_.map.version();
      }
      *cluster_.map.add_group_sets() = op->group_set();
    }
  }

  void Disturb() {
    const uint64_t id = 1 + static_cast<uint64_t>(Below(cluster_.map.targets_size()));
    switch (Below(6)) {
      case 0:
      case 1:
        return cluster_.Silence(id, 6'000);
      case 2:
        return ComeBack(id);
      case 3:
        return cluster_.SetState(id, proto::TARGET_STATE_DRAINING);
      case 4:
        return cluster_.SetState(id, proto::TARGET_STATE_FAILED);
      case 5:
        return AddTarget("new" + std::to_string(cluster_.map.targets_size()), "zone1");
    }
  }

  // All that is away comes back, but for those whose disk failed; enough nodes are there.
  void Calm() {
    for (const proto::Target& target : cluster_.map.targets()) ComeBack(target.id());
    while (NodesForCopies(cluster_.map) < 4) AddTarget("late" + std::to_string(cluster_.map.targets_size()), "zone2");
  }

  // One plan, and one round of what servers do. True: the plan changed something.
  bool Round() {
    const proto::ChangeGroupsOp op = PlanReplication(cluster_.map, cluster_.facts, policy_);
    Check(op);
    cluster_.Apply(op);
    cluster_.facts.quiet_ms = op.changes().empty() ? cluster_.facts.quiet_ms + kRoundMs : 0;
    for (auto& [id, known] : cluster_.facts.targets) {
      if (known.lease_over) known.silent_ms += kRoundMs;
      if (!known.lease_over && Below(6) == 0) known.map_version = cluster_.map.version();
    }
    const bool reported = ReportEquals();
    FillUsage();
    return !op.changes().empty() || reported;
  }

  void CheckStable() {
    for (const proto::PlacementGroup& group : cluster_.map.groups()) {
      EXPECT_EQ(group.targets_size(), static_cast<int>(group.replicas())) << group.id();
      EXPECT_TRUE(group.syncing_targets().empty()) << group.id();
      std::set<std::string> nodes;
      for (const uint64_t target : group.targets()) {
        const proto::Target& member = TargetOf(target);
        nodes.insert(member.node());
        EXPECT_EQ(member.state(), proto::TARGET_STATE_ONLINE) << group.id();
        EXPECT_FALSE(cluster_.facts.targets[target].lease_over);
      }
      EXPECT_EQ(nodes.size(), group.replicas()) << group.id() << ": two members on one node";
    }
  }

  // A group of one copy whose only member's disk failed for good would wait for ever.
  bool HasHope() {
    return std::ranges::all_of(cluster_.map.groups(), [&](const proto::PlacementGroup& group) {
      return !cluster_.facts.targets[group.targets(0)].lease_over;
    });
  }

 private:
  int Below(int bound) { return static_cast<int>(random_() % static_cast<uint32_t>(bound)); }
  void AddTarget(const std::string& node, const std::string& zone) {
    const auto id = static_cast<uint64_t>(cluster_.map.targets_size()) + 1;
    cluster_.AddTarget(id, node, zone);
    cluster_.facts.targets[id].capacity_bytes = 100'000 * static_cast<uint64_t>(1 + Below(3));
    cluster_.facts.targets[id].available_bytes = cluster_.facts.targets[id].capacity_bytes;
    cluster_.facts.targets[id].used_bytes = 0;
  }
  const proto::Target& TargetOf(uint64_t id) { return cluster_.map.targets(static_cast<int>(id) - 1); }
  void ComeBack(uint64_t id) {
    cluster_.facts.targets[id].lease_over = false;
    cluster_.facts.targets[id].silent_ms = 0;
  }

  // What the state machine refuses, and what would lose data.
  void Check(const proto::ChangeGroupsOp& op) {
    for (const auto& change : op.changes()) {
      const proto::PlacementGroup& group = cluster_.map.groups(static_cast<int>(change.group()) - 1);
      ASSERT_FALSE(change.targets().empty());
      EXPECT_TRUE(Contains(group.targets(), change.targets(0))) << "a primary that was not in-sync";
      std::set<uint64_t> seen;
      for (const uint64_t target : change.targets()) {
        EXPECT_TRUE(seen.insert(target).second);
        EXPECT_TRUE(Contains(group.targets(), target)) << "nobody becomes in-sync without a report";
      }
      for (const uint64_t target : change.syncing_targets()) {
        EXPECT_TRUE(seen.insert(target).second);
        const bool is_new = !Contains(group.targets(), target) && !Contains(group.syncing_targets(), target);
        if (!is_new) continue;
        EXPECT_EQ(TargetOf(target).target_class(), proto::TARGET_CLASS_DURABLE);
        EXPECT_EQ(TargetOf(target).state(), proto::TARGET_STATE_ONLINE);
      }
      for (const uint64_t target : group.targets()) {
        if (Contains(change.targets(), target) || cluster_.facts.targets[target].lease_over) continue;
        EXPECT_NE(target, group.targets(0)) << "a primary with a lease is not removed";
        EXPECT_GE(cluster_.facts.targets[target].map_version, cluster_.facts.epoch_since[group.id()]);
      }
    }
  }

  // Some of those that are being brought up to date are.
  bool ReportEquals() {
    std::vector<proto::GroupReport> reports;
    for (const proto::PlacementGroup& group : cluster_.map.groups()) {
      if (cluster_.facts.targets[group.targets(0)].lease_over) continue;
      for (const uint64_t target : group.syncing_targets()) {
        if (cluster_.facts.targets[target].lease_over || Below(3) != 0) continue;
        proto::GroupReport& report = reports.emplace_back();
        report.set_group(group.id());
        report.set_epoch(group.epoch());
        report.set_target(target);
        report.set_kind(proto::GroupReport::KIND_EQUAL);
      }
    }
    cluster_.Apply(PlanReports(cluster_.map, cluster_.facts, reports));
    return !reports.empty();
  }

  // Every group holds as much.
  void FillUsage() {
    constexpr uint64_t kGroupBytes = 500;
    for (auto& [id, known] : cluster_.facts.targets) known.used_bytes = 0;
    for (const proto::PlacementGroup& group : cluster_.map.groups()) {
      for (const auto* list : {&group.targets(), &group.syncing_targets()}) {
        for (const uint64_t target : *list) cluster_.facts.targets[target].used_bytes += kGroupBytes;
      }
    }
    for (auto& [id, known] : cluster_.facts.targets)
      known.available_bytes = known.capacity_bytes - std::min(known.capacity_bytes, known.used_bytes);
  }

  std::mt19937 random_;
  TestingCluster cluster_;
  ReplicationPolicy policy_;
};

TEST(PlanReplicationRounds, GoalsAreReachedAndThenNothingMoves) {
  for (uint32_t seed = 1; seed <= 25; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World world(seed);
    for (int i = 0; i < 30; ++i) {
      world.Disturb();
      for (int round = 0; round < 3; ++round) world.Round();
    }
    world.Calm();
    ASSERT_TRUE(world.HasHope());
    int rounds = 0;
    int quiet = 0;
    while (quiet < kQuietRounds && rounds < kRoundsUntilStable) {
      ++rounds;
      quiet = world.Round() ? 0 : quiet + 1;
    }
    EXPECT_LT(rounds, kRoundsUntilStable) << "it never comes to rest";
    world.CheckStable();
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace tarn::meta
