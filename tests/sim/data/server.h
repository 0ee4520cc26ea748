// A chunk server of the run: the real engine of one target in a process that comes and goes, and its talk with the metadata leader.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <set>
#include <string>

#include "chunkserver/replication/testing/fake_network.h"
#include "chunkserver/replication/testing/fake_target.h"
#include "tests/sim/data/leader.h"
#include "tests/sim/data/net.h"

namespace tarn::sim_data {

// One thread.
class Server {
 public:
  Server(TargetId target, Bench* bench, Net* net, Leader* leader, replication::testing::FakeNetwork* peers);

  void Start();
  // Loses what was not durable, or a part of it.
  void Crash();
  void ShutDown();

  TargetId target() const { return target_.id; }
  uint64_t process() const { return process_; }  // its incarnation
  bool is_up() const { return target_.is_up(); }
  // Crashed, and the leader does not know yet.
  bool is_lost() const { return lost_; }
  replication::TargetReplication* engine() { return target_.engine(); }
  const replication::testing::FakeStore& store() const { return target_.store; }
  replication::testing::FakeStore& store() { return target_.store; }
  // Asks the leader, and adopts its map; nothing if it does not answer.
  void ConfirmMap(std::function<void()> confirmed);
  // What scrubbing and readers have found to be damaged, and what they do about it.
  void RepairDamage();

  std::string name() const { return "target " + std::to_string(target_.id.value()); }

 private:
  // Runs `what` of the process that is there now, if it still is.
  std::function<void()> OfProcess(std::function<void()> what);
  void Register();
  void Heartbeat();
  void FetchMap();
  void SendReports();
  void Adopt(const std::shared_ptr<const proto::ClusterMap>& map);

  Bench* const bench_;
  Net* const net_;
  Leader* const leader_;
  uint64_t process_ = 0;
  bool clean_ = true;
  bool lost_ = false;
  bool registered_ = false;
  uint64_t map_version_ = 0;
  bool fetching_ = false;
  std::list<proto::GroupReport> reports_;
  std::set<ChunkId> repairing_;
  replication::testing::FakeTarget target_;
};

}  // namespace tarn::sim_data
