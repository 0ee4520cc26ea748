// A chunk server of the run: the real engine of one target in a process that comes and goes, and its talk with the metadata leader.
//
// A new one has no target id before it has registered. Its disk may be lost for good, and with it what the cluster knows it by.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
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
  struct Place {
    uint64_t number = 0;  // in the network
    std::string node;
    std::string zone;
    uint64_t capacity_bytes = 0;
  };
  // What it needs of the run. All of it outlives the server.
  struct World {
    Bench* bench;
    Net* net;
    Leader* leader;
    replication::testing::FakeNetwork* peers;
    std::function<void(Server*)> on_identified;                      // it has its target id
    std::function<uint64_t(uint32_t group)> group_bytes;             // what a copy of it holds, as its servers measure it
    std::function<void(const proto::GroupReport&)> on_report;
  };
  Server(Place place, const World& world);

  void Start();
  // Loses what was not durable, or a part of it.
  void Crash();
  void ShutDown();
  // It never comes back. With its disk: after a crash, at any time.
  void Destroy();
  void Leave();

  const Place& place() const { return place_; }
  std::string address() const { return "server-" + std::to_string(place_.number); }
  TargetId target() const { return target_ != nullptr ? target_->id : TargetId(); }  // invalid: it has none yet
  uint64_t process() const { return process_; }  // its incarnation
  bool is_up() const { return is_up_; }
  // With its target.
  bool serves() const { return is_up_ && target_ != nullptr; }
  // Crashed, and the leader does not know yet.
  bool is_lost() const { return is_lost_ || is_destroyed_; }
  bool is_destroyed() const { return is_destroyed_; }
  bool is_gone() const { return is_gone_; }  // for good: destroyed, or has left
  // By its own clock.
  bool HasLease() const { return serves() && NowNs() < lease_until_ns_; }
  // As the newest map says that it knows.
  bool TakesItselfForPrimary(uint32_t group) const;
  replication::TargetReplication* engine() { return target_->engine(); }
  const replication::testing::FakeStore& store() const { return target_->store; }
  replication::testing::FakeStore& store() { return target_->store; }

  // The registration of this process is in the log.
  void Registered(uint64_t process) {
    if (process == process_ && is_up_) is_lost_ = false;
  }
  // Asks the leader, and adopts its map; nothing if it does not answer.
  void ConfirmMap(std::function<void()> confirmed) { Beat(std::move(confirmed)); }
  // What scrubbing and readers have found to be damaged, and what they do about it.
  void RepairDamage();

  std::string name() const { return target_ != nullptr ? "target " + std::to_string(target().value()) : "server " + std::to_string(place_.number); }

 private:
  // Runs `what` of the process that is there now, if it still is.
  std::function<void()> OfProcess(std::function<void()> what);
  int64_t NowNs() const { return static_cast<int64_t>(static_cast<double>(world_.bench->queue.now_ns()) * clock_rate_); }
  void MakeTarget(TargetId id);
  void StartTarget();
  void Register();
  void Registration(int64_t sent_ns, const proto::RegisterServerReply& reply);
  void Heartbeat();
  void Beat(std::function<void()> answered);
  void FetchMap();
  void SendReports();
  void FillReport(proto::TargetReport* report) const;
  void Adopt(const proto::ClusterMap& map);
  void ExtendLease(int64_t sent_ns, uint32_t lease_ms);

  const Place place_;
  const World world_;
  Bench* const bench_;
  const double clock_rate_;
  uint64_t server_id_ = 0;
  uint64_t process_ = 0;
  bool is_up_ = false;
  bool is_clean_ = true;
  bool is_lost_ = false;
  bool is_destroyed_ = false;
  bool is_gone_ = false;
  bool is_registered_ = false;
  bool is_fetching_ = false;
  int64_t lease_until_ns_ = 0;
  std::shared_ptr<const proto::ClusterMap> map_;
  std::list<proto::GroupReport> reports_;
  std::set<ChunkId> repairing_;
  std::unique_ptr<replication::testing::FakeTarget> target_;
};

}  // namespace tarn::sim_data
