#include "metaserver/service/group_health.h"

#include <algorithm>

namespace tarn::meta {

proto::RepairProgress SumRepair(const proto::ClusterMap& map, const ReplicationFacts& facts,
                                const std::vector<proto::SyncProgress>& syncs) {
  const ClusterView view(map, facts);
  proto::RepairProgress repair;
  for (const proto::PlacementGroup& group : map.groups()) {
    const auto with_lease =
        std::ranges::count_if(group.targets(), [&](uint64_t target) { return view.HasLease(target); });
    // One that lost its only target for good holds nothing that could come back.
    const bool is_gone = std::ranges::all_of(group.targets(), [&](uint64_t target) { return view.IsRetired(target); });
    if (is_gone) continue;
    if (with_lease == 0) {
      repair.set_groups_unavailable(repair.groups_unavailable() + 1);
    } else if (with_lease < static_cast<int64_t>(group.replicas())) {
      repair.set_groups_degraded(repair.groups_degraded() + 1);
    } else if (!group.syncing_targets().empty()) {
      repair.set_groups_moving(repair.groups_moving() + 1);
    }
  }
  for (const proto::SyncProgress& sync : syncs) {
    repair.set_bytes_done(repair.bytes_done() + sync.bytes_done());
    repair.set_bytes_total(repair.bytes_total() + std::max(sync.bytes_total(), sync.bytes_done()));
  }
  return repair;
}

std::string JudgeHealth(const proto::ClusterMap& map, const proto::RepairProgress& repair,
                        std::vector<std::string>* problems) {
  size_t durable_online = 0;
  bool degraded = repair.groups_degraded() != 0;
  for (const proto::Target& target : map.targets()) {
    // They come and go, and hold nothing that would be missed.
    if (target.target_class() == proto::TARGET_CLASS_ELASTIC) continue;
    const bool serves =
        target.state() == proto::TARGET_STATE_ONLINE || target.state() == proto::TARGET_STATE_DRAINING;
    if (serves) ++durable_online;
    const bool offline = target.state() == proto::TARGET_STATE_OFFLINE;
    if (!offline && target.state() != proto::TARGET_STATE_FAILED) continue;
    degraded = true;
    problems->push_back("target " + std::to_string(target.id()) + " at " + target.address() +
                        (offline ? " is offline" : " fails: its disk is to be replaced"));
    const bool node_is_back = offline && std::ranges::any_of(map.targets(), [&](const proto::Target& other) {
      return !target.node().empty() && other.node() == target.node() && other.server_id() != target.server_id() &&
             other.state() == proto::TARGET_STATE_ONLINE;
    });
    if (node_is_back) {
      problems->back() += "; node " + target.node() + " has another chunk server now: `tarn node remove " + target.node() +
                          "` if the disks of the earlier one are gone";
    }
  }
  if (durable_online == 0) problems->push_back("no chunk server with a durable target is online");
  if (map.group_sets().empty()) problems->push_back("there are no placement groups yet");
  if (repair.groups_degraded() != 0)
    problems->push_back(std::to_string(repair.groups_degraded()) + " placement group(s) have fewer copies than they should");
  if (repair.groups_unavailable() != 0)
    problems->push_back(std::to_string(repair.groups_unavailable()) + " placement group(s) have no copy that can be reached");
  if (durable_online == 0 || map.group_sets().empty() || repair.groups_unavailable() != 0) return "unavailable";
  return degraded ? "degraded" : "ok";
}

}  // namespace tarn::meta
