#include "metaserver/placement/plan_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "metaserver/placement/data_place.h"

namespace tarn::meta {
namespace {

using ::testing::ElementsAre;

struct TargetRow {
  uint64_t id;
  std::string node;
  proto::TargetState state = proto::TARGET_STATE_ONLINE;
  proto::TargetClass target_class = proto::TARGET_CLASS_DURABLE;
};

proto::ClusterMap MapOf(const std::vector<TargetRow>& rows) {
  proto::ClusterMap map;
  for (const TargetRow& row : rows) {
    proto::Target* target = map.add_targets();
    target->set_id(row.id);
    target->set_server_id(row.id + 100);
    target->set_node(row.node);
    target->set_state(row.state);
    target->set_target_class(row.target_class);
  }
  return map;
}

// What the state machine does with the plan.
void Add(const proto::AddGroupsOp& op, proto::ClusterMap* map) {
  for (const proto::PlacementGroup& group : op.groups()) *map->add_groups() = group;
  *map->add_group_sets() = op.group_set();
}

std::map<uint64_t, int> GroupsPerTarget(const proto::AddGroupsOp& op) {
  std::map<uint64_t, int> counts;
  for (const proto::PlacementGroup& group : op.groups()) ++counts[group.targets(0)];
  return counts;
}

std::vector<uint64_t> TargetsInSetOrder(const proto::ClusterMap& map) {
  std::map<uint32_t, uint64_t> target_of;
  for (const proto::PlacementGroup& group : map.groups()) target_of[group.id()] = group.targets(0);
  std::vector<uint64_t> targets;
  for (const uint32_t group : map.group_sets(map.group_sets_size() - 1).groups())
    targets.push_back(target_of.at(group));
  return targets;
}

TEST(PlaceForData, IsThereOnceThereAreGroups) {
  proto::ClusterMap map = MapOf({{1, "a"}, {2, "b"}});
  EXPECT_EQ(CheckPlaceForData(map, 1, 60'000).code(), StatusCode::kResourceExhausted) << "about to be planned, however long that takes";
  Add(*PlanGroups(map, {}), &map);
  EXPECT_TRUE(CheckPlaceForData(map, 1, 0).ok());
  EXPECT_EQ(CheckPlaceForData(map, 2, 60'000).code(), StatusCode::kResourceExhausted) << "groups of one copy are none of two";
}

TEST(PlaceForData, ServersAreWaitedForWhileTheyAreComing) {
  const proto::ClusterMap map = MapOf({{1, "a"}, {2, "b"}, {3, "b"}, {4, "c", proto::TARGET_STATE_RETIRED}});
  EXPECT_EQ(CheckPlaceForData({}, 1, 0).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(CheckPlaceForData(map, 3, kServersExpectedMs - 1).code(), StatusCode::kResourceExhausted);
  const Status refused = CheckPlaceForData(map, 3, kServersExpectedMs);
  EXPECT_EQ(refused.code(), StatusCode::kNoSpace);
  EXPECT_THAT(refused.message(), testing::HasSubstr("3 copies need as many nodes with durable targets, there are 2"));
}

TEST(PlanGroups, EmptyClusterNeedsNone) { EXPECT_FALSE(PlanGroups({}, {}).has_value()); }

TEST(PlanGroups, EachDurableTargetGetsItsGroups) {
  const auto op = PlanGroups(MapOf({{1, "a"}, {2, "b"}, {3, "c"}}), {});
  ASSERT_TRUE(op.has_value());
  EXPECT_EQ(GroupsPerTarget(*op), (std::map<uint64_t, int>{{1, 16}, {2, 16}, {3, 16}}));
  EXPECT_EQ(op->group_set().version(), 1u);
  EXPECT_EQ(op->group_set().groups_size(), 48);
  std::set<uint32_t> ids;
  for (const proto::PlacementGroup& group : op->groups()) {
    EXPECT_EQ(group.replicas(), 1u);
    EXPECT_EQ(group.epoch(), 1u);
    ids.insert(group.id());
  }
  EXPECT_EQ(*ids.begin(), 1u);
  EXPECT_EQ(*ids.rbegin(), 48u);
}

TEST(PlanGroups, NothingToAddTwice) {
  proto::ClusterMap map = MapOf({{1, "a"}, {2, "b"}});
  Add(*PlanGroups(map, {}), &map);
  EXPECT_FALSE(PlanGroups(map, {}).has_value());
}

TEST(PlanGroups, NeighboursLieOnDifferentTargets) {
  proto::ClusterMap map = MapOf({{1, "a"}, {2, "b"}, {3, "c"}});
  Add(*PlanGroups(map, {}), &map);
  const auto targets = TargetsInSetOrder(map);
  for (size_t i = 1; i < targets.size(); ++i) EXPECT_NE(targets[i], targets[i - 1]) << i;
}

TEST(PlanGroups, NeighboursLieOnDifferentNodes) {
  proto::ClusterMap map = MapOf({{1, "a"}, {2, "a"}, {3, "b"}, {4, "b"}});
  Add(*PlanGroups(map, {.groups_per_target = 2}), &map);
  EXPECT_THAT(TargetsInSetOrder(map), ElementsAre(1, 3, 2, 4, 1, 3, 2, 4));
}

TEST(PlanGroups, NewTargetGetsNewGroupsAndASetWithAll) {
  proto::ClusterMap map = MapOf({{1, "a"}, {2, "b"}});
  Add(*PlanGroups(map, {.groups_per_target = 4}), &map);
  *map.add_targets() = MapOf({{3, "c"}}).targets(0);
  const auto op = PlanGroups(map, {.groups_per_target = 4});
  ASSERT_TRUE(op.has_value());
  EXPECT_EQ(GroupsPerTarget(*op), (std::map<uint64_t, int>{{3, 4}}));
  EXPECT_EQ(op->groups(0).id(), 9u) << "groups are never renumbered";
  EXPECT_EQ(op->group_set().version(), 2u);
  Add(*op, &map);
  EXPECT_THAT(TargetsInSetOrder(map), ElementsAre(1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3));
}

TEST(PlanGroups, OnlyTargetsThatTakeDataGetGroups) {
  const proto::ClusterMap map = MapOf({{1, "a"},
                                       {2, "b", proto::TARGET_STATE_RETIRED},
                                       {3, "c", proto::TARGET_STATE_DRAINING},
                                       {4, "d", proto::TARGET_STATE_ONLINE, proto::TARGET_CLASS_ELASTIC},
                                       {5, "e", proto::TARGET_STATE_OFFLINE}});
  const auto op = PlanGroups(map, {});
  ASSERT_TRUE(op.has_value());
  EXPECT_EQ(GroupsPerTarget(*op), (std::map<uint64_t, int>{{1, 16}, {5, 16}}));
}

TEST(PlanGroups, CopiesLieOnDifferentNodes) {
  proto::ClusterMap map = MapOf({{1, "a"}, {2, "a"}, {3, "b"}, {4, "c"}, {5, "c"}, {6, "d"}});
  for (const uint32_t replicas : {2u, 3u}) {
    const auto op = PlanGroups(map, {.replicas = replicas});
    ASSERT_TRUE(op.has_value());
    EXPECT_EQ(op->groups_size(), 16 * 6);
    EXPECT_EQ(op->group_set().replicas(), replicas);
    for (const auto& [target, groups] : GroupsPerTarget(*op)) EXPECT_EQ(groups, 16) << "primaries are spread evenly";
    std::map<uint64_t, int> copies;
    for (const proto::PlacementGroup& group : op->groups()) {
      EXPECT_EQ(group.replicas(), replicas);
      ASSERT_EQ(group.targets_size(), static_cast<int>(replicas));
      std::set<std::string> nodes;
      for (const uint64_t target : group.targets()) {
        nodes.insert(map.targets(static_cast<int>(target) - 1).node());
        ++copies[target];
      }
      EXPECT_EQ(nodes.size(), replicas);
    }
    for (const auto& [target, count] : copies) EXPECT_NEAR(count, 16 * replicas, 4) << target;
    Add(*op, &map);
    EXPECT_FALSE(PlanGroups(map, {.replicas = replicas}).has_value()) << "each number of copies has groups of its own";
  }
}

TEST(PlanGroups, TooFewNodesForTheCopiesGetNone) {
  EXPECT_FALSE(PlanGroups(MapOf({{1, "a"}, {2, "a"}, {3, "b"}}), {.replicas = 3}).has_value());
}

TEST(PlanGroups, ZonesAreSpreadAndLargerTargetsGetMore) {
  proto::ClusterMap map = MapOf({{1, "a"}, {2, "b"}, {3, "c"}, {4, "d"}});
  for (int i = 0; i < 4; ++i) {
    map.mutable_targets(i)->set_zone(i < 2 ? "z1" : "z2");
    map.mutable_targets(i)->set_capacity_bytes(i == 3 ? 3000 : 1000);
    map.mutable_targets(i)->set_available_bytes(900);
  }
  const auto op = PlanGroups(map, {.replicas = 2});
  ASSERT_TRUE(op.has_value());
  std::map<uint64_t, int> copies;
  for (const proto::PlacementGroup& group : op->groups()) {
    EXPECT_NE(group.targets(0) <= 2, group.targets(1) <= 2) << "both in one zone";
    for (const uint64_t target : group.targets()) ++copies[target];
  }
  EXPECT_GT(copies[4], copies[3]);
}

TEST(PlanGroups, TargetSharesGroupsWithABoundedNumberOfOthers) {
  std::vector<TargetRow> rows;
  for (uint64_t id = 1; id <= 60; ++id) rows.push_back({id, "node" + std::to_string(id)});
  const auto op = PlanGroups(MapOf(rows), {.replicas = 3, .partners_per_target_max = 6});
  ASSERT_TRUE(op.has_value());
  std::map<uint64_t, std::set<uint64_t>> partners;
  for (const proto::PlacementGroup& group : op->groups()) {
    for (const uint64_t one : group.targets()) {
      for (const uint64_t other : group.targets()) {
        if (one != other) partners[one].insert(other);
      }
    }
  }
  size_t sum = 0;
  for (const auto& [target, others] : partners) sum += others.size();
  EXPECT_LT(sum / partners.size(), 16u) << "without a bound they are about 46";
}

TEST(PlanGroups, OtherPrimariesNeedNoNewGroups) {
  proto::ClusterMap map = MapOf({{1, "a"}, {2, "b"}});
  Add(*PlanGroups(map, {.replicas = 2}), &map);
  for (proto::PlacementGroup& group : *map.mutable_groups()) {
    if (group.targets(0) == 1) group.mutable_targets()->SwapElements(0, 1);
  }
  EXPECT_FALSE(PlanGroups(map, {.replicas = 2}).has_value());
}

TEST(PlanGroups, LostGroupsGetNoNewFiles) {
  proto::ClusterMap map = MapOf({{1, "a"}, {2, "b"}});
  Add(*PlanGroups(map, {.groups_per_target = 2}), &map);
  map.mutable_targets(0)->set_state(proto::TARGET_STATE_RETIRED);
  const auto op = PlanGroups(map, {.groups_per_target = 2});
  ASSERT_TRUE(op.has_value());
  EXPECT_TRUE(op->groups().empty());
  Add(*op, &map);
  EXPECT_THAT(TargetsInSetOrder(map), ElementsAre(2, 2));
  EXPECT_FALSE(PlanGroups(map, {.groups_per_target = 2}).has_value());
}

TEST(PlanGroups, ElasticTargetsAloneNeedNone) {
  EXPECT_FALSE(PlanGroups(MapOf({{4, "d", proto::TARGET_STATE_ONLINE, proto::TARGET_CLASS_ELASTIC}}), {}).has_value());
}

}  // namespace
}  // namespace tarn::meta
