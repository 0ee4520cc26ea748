// A placement group as one map shows it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "chunkserver/replication/lost_writes.h"
#include "common/base/ids.h"
#include "proto/cluster.pb.h"

namespace tarn::replication {

enum class Role { kNone, kPrimary, kMember, kSyncing };

// Value type.
struct GroupView {
  GroupId id;
  Epoch epoch;
  std::vector<TargetId> in_sync;  // the first is the primary
  std::vector<TargetId> syncing;
  uint32_t replicas = 1;  // goal
  Losses losses{};
  uint64_t intact_incarnation = 0;  // of the server that was the only in-sync member at the last loss

  static GroupView From(const proto::PlacementGroup& group) {
    GroupView view{.id = GroupId(group.id()), .epoch = Epoch(group.epoch()), .in_sync = {}, .syncing = {}, .replicas = group.replicas()};
    for (const uint64_t id : group.targets()) view.in_sync.emplace_back(id);
    for (const uint64_t id : group.syncing_targets()) view.syncing.emplace_back(id);
    view.losses = {Epoch(group.intact_since()), Epoch(group.intact_since_before())};
    view.intact_incarnation = group.intact_incarnation();
    return view;
  }

  TargetId primary() const { return in_sync.empty() ? TargetId() : in_sync.front(); }
  bool IsInSync(TargetId target) const { return std::find(in_sync.begin(), in_sync.end(), target) != in_sync.end(); }
  bool IsSyncing(TargetId target) const { return std::find(syncing.begin(), syncing.end(), target) != syncing.end(); }
  Role RoleOf(TargetId target) const {
    if (primary() == target && target.valid()) return Role::kPrimary;
    if (IsInSync(target)) return Role::kMember;
    return IsSyncing(target) ? Role::kSyncing : Role::kNone;
  }
  // Below this nothing new is acknowledged: one for two copies, two for three.
  size_t min_in_sync() const { return std::max<size_t>(1, (replicas + 1) / 2); }
  // Whether anybody but the only member is, was or may soon be concerned.
  bool HasOthers() const { return replicas > 1 || in_sync.size() > 1 || !syncing.empty(); }
};

}  // namespace tarn::replication
