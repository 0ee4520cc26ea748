#include "metaserver/placement/cluster_view.h"

namespace tarn::meta {

std::string NodeOf(const proto::Target& target) {
  return target.node().empty() ? "server " + std::to_string(target.server_id()) : target.node();
}

ClusterView::ClusterView(const proto::ClusterMap& map, const ReplicationFacts& facts) : map_(map), facts_(facts) {
  for (const proto::Target& target : map.targets()) {
    targets_[target.id()] = &target;
    nodes_[target.id()] = NodeOf(target);
  }
}

const proto::Target* ClusterView::Find(uint64_t target) const {
  const auto found = targets_.find(target);
  return found != targets_.end() ? found->second : nullptr;
}

const TargetFacts& ClusterView::Facts(uint64_t target) const {
  static const TargetFacts kNothing;
  const auto found = facts_.targets.find(target);
  return found != facts_.targets.end() ? found->second : kNothing;
}

bool ClusterView::HasLease(uint64_t target) const {
  const proto::Target* found = Find(target);
  const bool is_offline = found != nullptr && found->state() == proto::TARGET_STATE_OFFLINE;
  return facts_.targets.contains(target) && !LeaseOver(target) && !is_offline;
}
bool ClusterView::LeaseOver(uint64_t target) const { return Facts(target).lease_over; }

bool ClusterView::IsFailed(uint64_t target) const {
  const proto::Target* found = Find(target);
  return found != nullptr && found->state() == proto::TARGET_STATE_FAILED;
}

bool ClusterView::IsRetired(uint64_t target) const {
  const proto::Target* found = Find(target);
  return found == nullptr || found->state() == proto::TARGET_STATE_RETIRED;
}

bool ClusterView::IsDraining(uint64_t target) const {
  const proto::Target* found = Find(target);
  return found != nullptr && found->state() == proto::TARGET_STATE_DRAINING;
}

bool ClusterView::TakesCopies(uint64_t target) const {
  const proto::Target* found = Find(target);
  return found != nullptr && found->target_class() == proto::TARGET_CLASS_DURABLE && !IsFailed(target) &&
         !IsRetired(target) && !IsDraining(target);
}

bool ClusterView::KnowsEpoch(uint64_t target, const proto::PlacementGroup& group) const {
  const auto since = facts_.epoch_since.find(group.id());
  return since == facts_.epoch_since.end() || Facts(target).map_version >= since->second;
}

const std::string& ClusterView::Node(uint64_t target) const {
  static const std::string kNone;
  const auto found = nodes_.find(target);
  return found != nodes_.end() ? found->second : kNone;
}

const std::string& ClusterView::Zone(uint64_t target) const {
  static const std::string kNone;
  const proto::Target* found = Find(target);
  return found != nullptr ? found->zone() : kNone;
}

double ClusterView::UsedShare(uint64_t target) const {
  const TargetFacts& facts = Facts(target);
  if (facts.capacity_bytes == 0) return 0;
  return static_cast<double>(facts.used_bytes) / static_cast<double>(facts.capacity_bytes);
}

}  // namespace tarn::meta
