// The metadata leader as data replication sees it: leases of targets, the groups' epochs, and the decisions of docs/replication.md.
//
// Deliberately simple: one process that forgets nothing; it may be silent for a while, and then treats every target as having just renewed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "chunkserver/replication/group_view.h"
#include "proto/cluster.pb.h"
#include "tests/sim/data/net.h"

namespace tarn::sim_data {

inline constexpr int64_t kLeaseMs = 2'500;
inline constexpr int64_t kLeaseMarginMs = kLeaseMs / 50;  // as the metadata server has it

// One thread.
class Leader {
 public:
  explicit Leader(Bench* bench);

  // What reaches it. Silent: nothing happens, and there is no answer.
  bool is_silent() const { return silent_; }
  void SetSilent(bool silent);
  // Adopts the process; its earlier ones are unknown from now on.
  void Register(TargetId target, uint64_t process, bool clean);
  bool Heartbeat(TargetId target, uint64_t process, uint64_t map_version);  // false: unknown process
  void Report(const proto::GroupReport& report);
  // `fenced` runs when no chunk server can apply anything of the session any more.
  void Fence(uint64_t session, std::function<void()> fenced);

  // After each change of a group.
  std::function<void(const replication::GroupView&)> on_change;

  // By itself.
  void Tick();
  void MoveSomething();

  std::shared_ptr<const proto::ClusterMap> map() const { return map_; }
  const std::vector<replication::GroupView>& groups() const { return groups_; }
  const replication::GroupView& group(uint32_t id) const { return groups_[id - 1]; }
  uint64_t epochs() const { return epochs_; }
  // Every group has its goal in-sync, and nobody is syncing.
  bool IsWhole() const;

 private:
  struct Target {
    uint64_t process = 0;
    bool registered = false;
    int64_t lease_until_ns = 0;
    int64_t contact_ns = 0;
    uint64_t map_version = 0;
  };
  struct Fencing {
    uint64_t map_version = 0;
    std::function<void()> fenced;
  };

  bool HasLease(TargetId target) const;
  // It may be removed: it has no lease, or has told that it knows the group's epoch, and so is not the primary in its own eyes.
  bool MayGo(const replication::GroupView& group, TargetId member) const;
  void Change(replication::GroupView* group, std::vector<TargetId> in_sync, std::vector<TargetId> syncing, const char* why);
  void RemoveFrom(replication::GroupView* group, const std::set<TargetId>& members, const char* why);
  void ProposeMembers(replication::GroupView* group);
  void Publish();
  void CheckFences();

  Bench* const bench_;
  bool silent_ = false;
  std::map<TargetId, Target> targets_;
  std::vector<replication::GroupView> groups_;  // by id - 1
  std::map<GroupId, uint64_t> epoch_versions_;  // of the map in which the group's epoch came
  std::set<uint64_t> fenced_;
  std::vector<Fencing> fencings_;
  std::shared_ptr<const proto::ClusterMap> map_;
  uint64_t version_ = 0;
  uint64_t epochs_ = 0;
};

}  // namespace tarn::sim_data
