// A small cluster for tests of the planners: a map and what is known of its targets.
//
// One thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "metaserver/placement/cluster_view.h"
#include "proto/cluster.pb.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

using Ids = std::vector<uint64_t>;

struct TestingCluster {
  proto::ClusterMap map;
  ReplicationFacts facts;

  TestingCluster() { map.set_version(1); }

  // Online, with its lease, half full; its server has the present map.
  proto::Target& AddTarget(uint64_t id, const std::string& node, const std::string& zone = "") {
    proto::Target* target = map.add_targets();
    target->set_id(id);
    target->set_server_id(id);
    target->set_node(node);
    target->set_zone(zone);
    target->set_state(proto::TARGET_STATE_ONLINE);
    facts.targets[id] = {.map_version = map.version(), .capacity_bytes = 1000, .used_bytes = 500, .available_bytes = 500};
    return *target;
  }
  proto::PlacementGroup& AddGroup(uint32_t replicas, const Ids& in_sync, const Ids& syncing = {}) {
    proto::PlacementGroup* group = map.add_groups();
    group->set_id(static_cast<uint32_t>(map.groups_size()));
    group->set_epoch(1);
    group->set_replicas(replicas);
    for (const uint64_t target : in_sync) group->add_targets(target);
    for (const uint64_t target : syncing) group->add_syncing_targets(target);
    facts.epoch_since[group->id()] = map.version();
    return *group;
  }
  void SetState(uint64_t id, proto::TargetState state) {
    for (proto::Target& target : *map.mutable_targets()) {
      if (target.id() == id) target.set_state(state);
    }
  }
  void Silence(uint64_t id, int64_t silent_ms) {
    facts.targets[id].lease_over = true;
    facts.targets[id].silent_ms = silent_ms;
  }
  // The server of the target has not heard of the latest epochs.
  void ForgetMap(uint64_t id) { facts.targets[id].map_version = 0; }

  // What the state machine does with a plan, for groups that are numbered without gaps from 1.
  void Apply(const proto::ChangeGroupsOp& op) {
    if (op.changes().empty()) return;
    map.set_version(map.version() + 1);
    for (const auto& change : op.changes()) {
      proto::PlacementGroup& group = *map.mutable_groups(static_cast<int>(change.group()) - 1);
      if (group.epoch() != change.expected_epoch()) continue;
      *group.mutable_targets() = change.targets();
      *group.mutable_syncing_targets() = change.syncing_targets();
      group.set_epoch(group.epoch() + 1);
      facts.epoch_since[group.id()] = map.version();
    }
  }
};

}  // namespace tarn::meta
