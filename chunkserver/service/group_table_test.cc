#include "chunkserver/service/group_table.h"

#include <gtest/gtest.h>

namespace tarn::chunk {
namespace {

using Verdict = GroupTable::Verdict;

void AddGroup(proto::ClusterMap* map, uint32_t id, uint64_t epoch, std::initializer_list<uint64_t> in_sync, std::initializer_list<uint64_t> syncing = {}) {
  proto::PlacementGroup* group = map->add_groups();
  group->set_id(id);
  group->set_epoch(epoch);
  for (const uint64_t target : in_sync) group->add_targets(target);
  for (const uint64_t target : syncing) group->add_syncing_targets(target);
}

Verdict CheckOf(const GroupTable& table, uint64_t target, uint32_t group, uint64_t epoch) {
  return table.Check(TargetId(target), GroupId(group), Epoch(epoch));
}

TEST(GroupTable, ChecksTargetGroupAndEpoch) {
  proto::ClusterMap map;
  map.set_version(9);
  AddGroup(&map, 1, 5, {10, 20});
  AddGroup(&map, 2, 6, {20}, {11});
  const GroupTable table(map, {TargetId(10), TargetId(11)});
  EXPECT_EQ(CheckOf(table, 10, 1, 5), Verdict::kCurrent);
  EXPECT_EQ(CheckOf(table, 10, 1, 4), Verdict::kRequestIsOlder);
  EXPECT_EQ(CheckOf(table, 10, 1, 6), Verdict::kTableIsOlder);
  EXPECT_EQ(CheckOf(table, 11, 2, 6), Verdict::kCurrent) << "a syncing member is one";
  EXPECT_EQ(CheckOf(table, 10, 2, 6), Verdict::kRequestIsOlder) << "another target has it by the map that the request knows";
  EXPECT_EQ(CheckOf(table, 10, 2, 7), Verdict::kTableIsOlder) << "by a newer map this one may have it";
  EXPECT_EQ(CheckOf(table, 10, 3, 1), Verdict::kTableIsOlder) << "a new group";
  EXPECT_EQ(CheckOf(table, 20, 1, 5), Verdict::kWrongTarget);
}

TEST(GroupTable, BeforeTheRegistrationEveryTargetMayBeOurs) {
  EXPECT_EQ(CheckOf(GroupTable(), 10, 1, 5), Verdict::kTableIsOlder);
}

TEST(GroupTable, KnowsTheAddressesOfAllTargets) {
  proto::ClusterMap map;
  map.set_version(1);
  proto::Target* target = map.add_targets();
  target->set_id(20);
  target->set_address("10.0.0.2:7410");
  const GroupTable table(map, {});
  EXPECT_EQ(table.AddressOf(TargetId(20)), "10.0.0.2:7410");
  EXPECT_EQ(table.AddressOf(TargetId(21)), "");
}

}  // namespace
}  // namespace tarn::chunk
