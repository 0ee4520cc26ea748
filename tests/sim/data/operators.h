// What people and hardware do to the cluster while it runs: servers come, nodes are drained and taken back, targets are retired, disks are lost.
//
// The leader is asked as `tarn node` does (metaserver/service/node_admin.h), which refuses what would cost data or leave too few nodes. A disk is
// lost for good only where each group in use has another in-sync copy on a disk that is there, and a server with an empty disk comes in its place.
// Where all disks with a current copy of a group are lost after all (the others had crashed, and were taken for the ones to give up), an older copy
// is promoted, and what the group had held is given up.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "tests/sim/data/fleet.h"
#include "tests/sim/data/leader.h"
#include "tests/sim/data/net.h"
#include "tests/sim/data/oracle.h"

namespace tarn::sim_data {

// One thread.
class Operators {
 public:
  Operators(Bench* bench, Leader* leader, Fleet* fleet, Oracle* oracle) : bench_(bench), leader_(leader), fleet_(fleet), oracle_(oracle) {}
  Operators(const Operators&) = delete;
  Operators& operator=(const Operators&) = delete;

  // The servers of the beginning; they are not started.
  void Found();

  void Weigh();
  void AddServer();
  void Drain();
  void Retire();
  void LoseDisk();
  // What follows from these, later; now and then.
  void Tick();
  // Drains are taken back; who was retired stays so.
  void Calm();

  // Is there to stay, as far as they know.
  bool IsStaying(const Server& server) const;
  uint64_t changes() const { return changes_; }
  uint64_t given_up() const { return given_up_; }  // groups

 private:
  Server* Any(const std::function<bool(const Server&)>& wanted);
  proto::TargetState StateOf(const Server& server) const;
  bool IsMember(const Server& server) const;
  // Nodes with a target that is to keep its copies, but for these.
  std::set<std::string> StayingNodes(const std::string& without_node, const Server* without) const;
  bool MayBeLost(const Server& server) const;
  std::string AnyZone() { return "zone-" + std::to_string(bench_->dice.Below(bench_->plan.zones)); }
  void Start(const std::string& node, const std::string& zone);
  void FinishDrains();
  void RemoveLost();
  void GiveUp();

  Bench* const bench_;
  Leader* const leader_;
  Fleet* const fleet_;
  Oracle* const oracle_;
  std::map<std::string, int64_t> draining_;       // until when, at least, by node
  std::map<std::string, int64_t> lost_;           // nodes with a lost disk: removed after that
  uint64_t changes_ = 0;
  uint64_t given_up_ = 0;
};

}  // namespace tarn::sim_data
