#include "metaserver/placement/target_chooser.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace tarn::meta {
namespace {

constexpr uint64_t kRoomDivisor = 20;  // nothing is moved to a target of which less than a twentieth is left

bool HasRoom(const TargetFacts& facts) {
  return facts.capacity_bytes == 0 || facts.available_bytes > facts.capacity_bytes / kRoomDivisor;
}

}  // namespace

TargetChooser::TargetChooser(const ClusterView& view, uint32_t partners_max) : view_(view), partners_max_(partners_max) {
  for (const proto::Target& target : view.map().targets()) {
    if (view.TakesCopies(target.id())) candidates_.push_back(target.id());
  }
  for (const proto::PlacementGroup& group : view.map().groups()) {
    std::vector<uint64_t> members;
    for (const auto* list : {&group.targets(), &group.syncing_targets()}) {
      for (const uint64_t target : *list) {
        Note(members, target);
        members.push_back(target);
      }
    }
  }
}

void TargetChooser::Note(const std::vector<uint64_t>& members, uint64_t added) {
  ++groups_[added];
  for (const uint64_t member : members) {
    partners_[member].insert(added);
    partners_[added].insert(member);
  }
}

uint32_t TargetChooser::groups_of(uint64_t target) const {
  const auto found = groups_.find(target);
  return found != groups_.end() ? found->second : 0;
}

uint64_t TargetChooser::Choose(const std::vector<uint64_t>& others, const std::set<uint64_t>& excluded,
                               bool only_with_lease) const {
  using Score = std::tuple<bool, size_t, size_t, double>;
  Score best_score;
  uint64_t best = 0;
  for (const uint64_t target : candidates_) {
    if (excluded.contains(target) || (only_with_lease && !view_.HasLease(target))) continue;
    if (!HasRoom(view_.Facts(target))) continue;
    const bool node_taken =
        std::ranges::any_of(others, [&](uint64_t other) { return view_.Node(other) == view_.Node(target); });
    if (node_taken) continue;
    size_t zones_shared = 0;
    size_t strangers = 0;  // members that have enough partners without this one
    for (const uint64_t other : others) {
      if (view_.Zone(other) == view_.Zone(target)) ++zones_shared;
      const auto partners = partners_.find(other);
      if (partners != partners_.end() && partners->second.size() >= partners_max_ && !partners->second.contains(target))
        ++strangers;
    }
    const double size = std::max<double>(1, static_cast<double>(view_.Facts(target).capacity_bytes));
    const Score score{!view_.HasLease(target), zones_shared, strangers, (groups_of(target) + 1) / size};
    if (best != 0 && score >= best_score) continue;
    best_score = score;
    best = target;
  }
  return best;
}

}  // namespace tarn::meta
