#include "client/data/placement_routes.h"

#include <gmock/gmock.h>

#include "client/data/group_sequences.h"
#include "proto/cluster.pb.h"

namespace tarn::client {
namespace {

proto::ClusterMap ExampleMap() {
  proto::ClusterMap map;
  map.set_version(7);
  auto* set = map.add_group_sets();
  set->set_version(1);
  for (uint32_t i = 1; i <= 3; ++i) {
    set->add_groups(i);
    auto* group = map.add_groups();
    group->set_id(i);
    group->set_epoch(10 + i);
    if (i < 3) group->add_targets(100 + i);
    auto* target = map.add_targets();
    target->set_id(100 + i);
    target->set_address("127.0.0.1:" + std::to_string(7000 + i));
  }
  return map;
}

TEST(PlacementRoutes, AColumnLeadsToThePrimaryOfItsGroup) {
  const PlacementRoutes routes(ExampleMap());
  const FileLayout layout{
      .group_set = GroupSetVersion(1), .seed = 4, .stripe_unit_bytes = 4096, .width = 2, .chunk_size_bytes = 4096};
  const auto route = routes.ToPrimary(layout, 0);
  ASSERT_TRUE(route.ok());
  EXPECT_EQ(route->group, GroupId(2));
  EXPECT_EQ(route->epoch, Epoch(12));
  EXPECT_EQ(route->target, TargetId(102));
  EXPECT_EQ(route->address, "127.0.0.1:7002");
}

TEST(PlacementRoutes, SaysWhatTheMapLacks) {
  const PlacementRoutes routes(ExampleMap());
  FileLayout layout{
      .group_set = GroupSetVersion(1), .seed = 2, .stripe_unit_bytes = 4096, .width = 2, .chunk_size_bytes = 4096};
  EXPECT_THAT(routes.OfColumn(layout, 0).status().message(), testing::HasSubstr("map 7 has no target for group 3"));
  layout.group_set = GroupSetVersion(9);
  EXPECT_THAT(routes.OfColumn(layout, 0).status().message(), testing::HasSubstr("group set 9"));
  EXPECT_EQ(routes.OfTarget(TargetId(55)).status().code(), StatusCode::kUnavailable);
}

TEST(PlacementRoutes, NamesTheInSyncMembersInTheirOrder) {
  proto::ClusterMap map = ExampleMap();
  map.mutable_targets(2)->set_node("c");
  map.mutable_groups(1)->add_targets(103);
  map.mutable_groups(1)->add_targets(999);  // not in the map
  map.mutable_groups(1)->add_syncing_targets(101);
  const PlacementRoutes routes(map);
  const FileLayout layout{
      .group_set = GroupSetVersion(1), .seed = 4, .stripe_unit_bytes = 4096, .width = 2, .chunk_size_bytes = 4096};
  const auto group = routes.OfColumn(layout, 0);
  ASSERT_TRUE(group.ok());
  ASSERT_EQ((*group)->members.size(), 3u);
  EXPECT_EQ((*group)->primary().target, TargetId(102));
  EXPECT_EQ((*group)->members[1].address, "127.0.0.1:7003");
  EXPECT_EQ((*group)->members[1].node, "c");
  EXPECT_EQ((*group)->members[2].address, "");
  EXPECT_TRUE(routes.IsPrimary(TargetId(102), GroupId(2)));
  EXPECT_FALSE(routes.IsPrimary(TargetId(103), GroupId(2)));
  EXPECT_FALSE(routes.IsPrimary(TargetId(103), GroupId(9)));
}

TEST(PlacementRoutes, TellsWhichPrimariesWereLeft) {
  proto::ClusterMap map = ExampleMap();
  map.mutable_groups(0)->add_targets(102);
  const PlacementRoutes before(map);
  EXPECT_THAT(before.AddressesLeftBy(before), testing::IsEmpty());
  map.mutable_groups(0)->add_targets(103);  // another member leaves the primary what it is
  map.mutable_groups(0)->set_epoch(20);
  EXPECT_THAT(before.AddressesLeftBy(PlacementRoutes(map)), testing::IsEmpty());
  map.mutable_groups(0)->mutable_targets()->SwapElements(0, 1);
  map.mutable_groups(1)->clear_targets();
  EXPECT_THAT(before.AddressesLeftBy(PlacementRoutes(map)), testing::ElementsAre("127.0.0.1:7001", "127.0.0.1:7002"));
}

TEST(PlacementRoutes, PassesRequestsOnThroughDurableServersThatAreThere) {
  proto::ClusterMap map = ExampleMap();
  map.mutable_groups(0)->add_targets(103);  // with 101
  map.mutable_targets(0)->set_incarnation(55);
  const std::vector<std::pair<proto::TargetClass, proto::TargetState>> more = {
      {proto::TARGET_CLASS_ELASTIC, proto::TARGET_STATE_ONLINE}, {proto::TARGET_CLASS_DURABLE, proto::TARGET_STATE_OFFLINE},
      {proto::TARGET_CLASS_DURABLE, proto::TARGET_STATE_RETIRED}, {proto::TARGET_CLASS_DURABLE, proto::TARGET_STATE_FAILED},
      {proto::TARGET_CLASS_DURABLE, proto::TARGET_STATE_DRAINING}};
  for (const auto& [target_class, state] : more) {
    auto* target = map.add_targets();
    target->set_id(100 + static_cast<uint64_t>(map.targets_size()));
    target->set_address("127.0.0.1:" + std::to_string(7000 + map.targets_size()));
    target->set_target_class(target_class);
    target->set_state(state);
  }
  // A second target of a server.
  *map.add_targets() = map.targets(1);
  map.mutable_targets(map.targets_size() - 1)->set_id(120);
  const PlacementRoutes routes(map);
  EXPECT_EQ(routes.IncarnationOf(TargetId(101)), Incarnation(55));
  EXPECT_EQ(routes.IncarnationOf(TargetId(999)), std::nullopt);
  bool differs = false;
  for (uint64_t spread = 0; spread < 20; ++spread) {
    const auto relays = routes.RelaysTo("127.0.0.1:7001", spread);
    EXPECT_THAT(relays, testing::UnorderedElementsAre("127.0.0.1:7002", "127.0.0.1:7003", "127.0.0.1:7008"));
    EXPECT_EQ(relays.front(), "127.0.0.1:7003") << "is in a group with it";
    differs |= relays != routes.RelaysTo("127.0.0.1:7001", 0);
  }
  EXPECT_TRUE(differs) << "not all clients choose the same";
}

TEST(GroupSequences, AckedThroughStopsBeforeTheFirstOpenNumber) {
  GroupSequences sequences;
  EXPECT_EQ(sequences.Begin(), 1u);
  EXPECT_EQ(sequences.Begin(), 2u);
  EXPECT_EQ(sequences.Begin(), 3u);
  sequences.End(2);
  EXPECT_EQ(sequences.acked_through(), 0u);
  sequences.End(1);
  EXPECT_EQ(sequences.acked_through(), 2u);
  sequences.End(1);
  sequences.End(99);
  EXPECT_EQ(sequences.acked_through(), 2u);
  EXPECT_EQ(sequences.Begin(), 4u);
}

}  // namespace
}  // namespace tarn::client
