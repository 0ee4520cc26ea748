#include "chunkserver/elastic/sources.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "common/layout/elastic_home.h"

namespace tarn::elastic {
namespace {

constexpr GroupId kGroup{5};

void Add(proto::ClusterMap* map, uint64_t id, const std::string& node, const std::string& zone, proto::TargetClass target_class,
         proto::TargetState state = proto::TARGET_STATE_ONLINE) {
  proto::Target* target = map->add_targets();
  target->set_id(id);
  target->set_node(node);
  target->set_zone(zone);
  target->set_target_class(target_class);
  target->set_state(state);
}

// Targets 1 to 3 are the group's members, 11 to 13 are elastic.
proto::ClusterMap Map() {
  proto::ClusterMap map;
  Add(&map, 1, "a", "z1", proto::TARGET_CLASS_DURABLE);
  Add(&map, 2, "b", "z2", proto::TARGET_CLASS_DURABLE);
  Add(&map, 3, "c", "z2", proto::TARGET_CLASS_DURABLE);
  Add(&map, 11, "c", "z2", proto::TARGET_CLASS_ELASTIC);
  Add(&map, 12, "e", "z1", proto::TARGET_CLASS_ELASTIC);
  Add(&map, 13, "f", "z1", proto::TARGET_CLASS_ELASTIC, proto::TARGET_STATE_OFFLINE);
  proto::PlacementGroup* group = map.add_groups();
  group->set_id(kGroup.value());
  group->set_epoch(9);
  for (const uint64_t target : {1, 2, 3}) group->add_targets(target);
  return map;
}

ChunkId ChunkWithHome(uint64_t home) {
  const std::vector<TargetId> online = {TargetId(11), TargetId(12)};
  for (uint64_t data = 1;; ++data) {
    if (online[*ElasticHome({DataId(data), 0}, online)] == TargetId(home)) return {DataId(data), 0};
  }
}

std::vector<uint64_t> TargetsOf(const std::vector<Source>& sources) {
  std::vector<uint64_t> targets;
  for (const Source& source : sources) targets.push_back(source.target.value());
  return targets;
}

TEST(Sources, TheHomeIsAskedFirstThenTheNearestMembers) {
  const std::vector<Source> sources = Sources(Map(), TargetId(11)).For(kGroup, ChunkWithHome(12), /*from_elastic=*/false);
  EXPECT_EQ(TargetsOf(sources), (std::vector<uint64_t>{12, 3, 2, 1}));
  EXPECT_TRUE(sources[0].elastic);
  EXPECT_FALSE(sources[1].elastic);
  for (const Source& source : sources) EXPECT_EQ(source.epoch, Epoch(9));
}

TEST(Sources, TheHomeItselfAsksMembers) {
  EXPECT_EQ(TargetsOf(Sources(Map(), TargetId(11)).For(kGroup, ChunkWithHome(11), /*from_elastic=*/false)), (std::vector<uint64_t>{3, 2, 1}));
}

TEST(Sources, AQuestionIsPassedOnOnce) {
  EXPECT_EQ(TargetsOf(Sources(Map(), TargetId(11)).For(kGroup, ChunkWithHome(12), /*from_elastic=*/true)), (std::vector<uint64_t>{3, 2, 1}));
}

TEST(Sources, OneThatIsOfflineIsNobodysHome) {
  for (uint64_t data = 1; data < 200; ++data) {
    for (const Source& source : Sources(Map(), TargetId(11)).For(kGroup, {DataId(data), 0}, false)) EXPECT_NE(source.target, TargetId(13));
  }
}

TEST(Sources, AGroupThatIsNotKnownHasNone) { EXPECT_TRUE(Sources(Map(), TargetId(11)).For(GroupId(6), ChunkWithHome(12), false).empty()); }

}  // namespace
}  // namespace tarn::elastic
