#include "chunkserver/elastic/sources.h"

#include <algorithm>

#include "common/layout/elastic_home.h"

namespace tarn::elastic {
namespace {

int Distance(const proto::Target& from, const proto::Target& to) {
  if (!from.node().empty() && from.node() == to.node()) return 0;
  return !from.zone().empty() && from.zone() == to.zone() ? 1 : 2;
}

}  // namespace

Sources::Sources(const proto::ClusterMap& map, TargetId self) : self_(self) {
  std::unordered_map<uint64_t, const proto::Target*> targets;
  for (const proto::Target& target : map.targets()) {
    targets[target.id()] = &target;
    const bool online = target.state() == proto::TARGET_STATE_ONLINE;
    if (online && target.target_class() == proto::TARGET_CLASS_ELASTIC) elastic_.emplace_back(target.id());
  }
  const auto own = targets.find(self.value());
  for (const proto::PlacementGroup& each : map.groups()) {
    Group& group = groups_[GroupId(each.id())];
    group.epoch = Epoch(each.epoch());
    for (const uint64_t id : each.targets()) {
      const auto found = targets.find(id);
      const int distance = own != targets.end() && found != targets.end() ? Distance(*own->second, *found->second) : 2;
      group.members.push_back({TargetId(id), distance});
    }
  }
}

std::vector<Source> Sources::For(GroupId id, ChunkId chunk, bool from_elastic) const {
  std::vector<Source> sources;
  const auto found = groups_.find(id);
  if (found == groups_.end()) return sources;
  const Group& group = found->second;
  if (!from_elastic) {
    const auto home = ElasticHome(chunk, elastic_);
    if (home && elastic_[*home] != self_) sources.push_back({.target = elastic_[*home], .epoch = group.epoch, .elastic = true});
  }
  std::vector<Member> members = group.members;
  std::ranges::sort(members, {}, [&](const Member& member) { return std::pair(member.distance, ElasticWeight(member.target, chunk)); });
  for (const Member& member : members) {
    sources.push_back({.target = member.target, .epoch = group.epoch, .primary = member.target == group.members.front().target});
  }
  return sources;
}

}  // namespace tarn::elastic
