#include "metaserver/placement/group_loads.h"

#include <algorithm>

namespace tarn::meta {
namespace {

constexpr double kEmptyGroupBytesMin = 64u << 20;

// What it holds and can take: another use of its disk, and the reserve, are no room.
uint64_t UsableBytes(const TargetFacts& facts) {
  return facts.available_bytes != 0 ? facts.used_bytes + facts.available_bytes : facts.capacity_bytes;
}

}  // namespace

GroupLoads::GroupLoads(const ClusterView& view, const ReplicationFacts& facts) : facts_(facts) {
  double usable_bytes = 0;
  size_t known = 0;
  for (const proto::Target& target : view.map().targets()) {
    if (!view.TakesCopies(target.id()) || UsableBytes(view.Facts(target.id())) == 0) continue;
    usable_bytes += static_cast<double>(UsableBytes(view.Facts(target.id())));
    ++known;
  }
  for (const proto::Target& target : view.map().targets()) {
    const uint64_t of_target = UsableBytes(view.Facts(target.id()));
    if (of_target != 0 && known != 0)
      sizes_[target.id()] = static_cast<double>(of_target) * static_cast<double>(known) / usable_bytes;
  }
  std::map<uint32_t, std::pair<double, size_t>> held;  // bytes and groups
  for (const proto::PlacementGroup& group : view.map().groups()) {
    auto& [bytes, groups] = held[group.replicas()];
    bytes += static_cast<double>(BytesOf(group.id()));
    ++groups;
  }
  for (const auto& [replicas, sum] : held)
    base_weight_[replicas] = std::max(kEmptyGroupBytesMin, sum.first / static_cast<double>(sum.second) / 2);
  for (const proto::PlacementGroup& group : view.map().groups()) {
    for (const auto* list : {&group.targets(), &group.syncing_targets()}) {
      for (const uint64_t target : *list) loads_[{target, group.replicas()}] += WeightOf(group);
    }
  }
}

double GroupLoads::WeightOf(const proto::PlacementGroup& group) const {
  const auto base = base_weight_.find(group.replicas());
  return static_cast<double>(BytesOf(group.id())) + (base != base_weight_.end() ? base->second : kEmptyGroupBytesMin);
}

uint64_t GroupLoads::BytesOf(uint32_t group) const {
  const auto found = facts_.group_bytes.find(group);
  return found != facts_.group_bytes.end() ? found->second : 0;
}

double GroupLoads::SizeOf(uint64_t target) const {
  const auto found = sizes_.find(target);
  return found != sizes_.end() ? found->second : 1;
}

double GroupLoads::LoadOf(uint64_t target, uint32_t replicas) const {
  const auto found = loads_.find({target, replicas});
  return found != loads_.end() ? found->second / SizeOf(target) : 0;
}

// The sum of the squares of all loads, each times the size, shrinks by the group's weight times this.
double GroupLoads::ReliefOf(uint64_t target, const proto::PlacementGroup& group) const {
  return 2 * LoadOf(target, group.replicas()) - WeightOf(group) / SizeOf(target);
}

}  // namespace tarn::meta
