// A chunk server's relation to the metadata server: finds it, registers, sends heartbeats for all targets, keeps the cluster map, renews the
// targets' leases, has dead data deleted.
//
// One thread of its own does all of it and retries for ever; only what no retry can mend ends the process (on_failure). Nothing on it waits
// for a disk's writes: one that hangs must not cost the other targets their leases.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "chunkserver/service/cluster_view.h"
#include "chunkserver/service/dead_data_deleter.h"
#include "chunkserver/service/leader_connection.h"
#include "chunkserver/service/target_set.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/event_loop.h"
#include "proto/cluster.pb.h"

namespace tarn::chunk {

struct MetadataLinkOptions {
  std::vector<std::string> metaservers;  // lean-frame HOST:PORT
  std::string advertise;                 // where clients reach this server
  std::string node;
  std::string zone;
  std::string software_version;
  uint64_t incarnation = 0;
  uint64_t pid = 0;

  // All on the link's thread; they must not block.
  // The targets have their ids; before the map of the registration is adopted.
  std::function<void()> on_registered;
  // A heartbeat or a registration that was sent at `sent_ns` (Clock::MonotonicNs) was answered with a lease.
  std::function<void(int64_t sent_ns, int64_t lease_ms)> on_lease;
  // A round of scrubbing is wanted now. May be empty.
  std::function<void()> on_start_scrub;
  // Adds to a target's report. May be empty.
  std::function<void(proto::TargetReport*)> add_to_report;
  // A heartbeat was answered. May be empty.
  std::function<void(const proto::HeartbeatReply&)> on_heartbeat;
  // The server cannot go on (wrong cluster, ids refused).
  std::function<void(Status)> on_failure;
};

// Thread-safe.
class MetadataLink {
 public:
  // The pointers outlive it.
  MetadataLink(MetadataLinkOptions options, TargetSet* targets, ClusterView* view, rpc::EventLoop* loop, const Clock* clock);
  ~MetadataLink();
  MetadataLink(const MetadataLink&) = delete;
  MetadataLink& operator=(const MetadataLink&) = delete;

  // Once. What waits for a map is kept until then.
  void Start();
  // Joins the thread, runs what waits for a map; later calls do nothing. A call under way is waited for, some seconds at most.
  void Stop();

  // kPermission, naming a directory, unless the metadata server at the address is of the targets' cluster.
  Status CheckCluster(const std::string& cluster_id, const std::string& address) const;
  // Asks for the newest map at once. `done` runs on the link's thread; ok: what the view has now is no older than this call. It must not block.
  // After Stop it is dropped.
  void Refresh(std::function<void(const Status&)> done);
  // A map of at least this version is wanted in the view: asked for until it comes, for some seconds.
  void WantMap(uint64_t version);

 private:
  void Run();
  Status Register();
  Status Heartbeat();
  void FillReports(google::protobuf::RepeatedPtrField<proto::TargetReport>* reports);
  void Adopt(const proto::ClusterMap& map);
  // False when stopping. An early end when somebody waits for a map, unless the pause is that after a failure.
  bool WaitForNextRound(int64_t pause_ms, bool may_end_early);
  std::vector<std::function<void(const Status&)>> TakeRefreshCallbacks();
  // Whether a wanted map is still not here. Gives up after some rounds: the version may never have existed.
  bool StillWantsMap();

  // Immutable after construction.
  const MetadataLinkOptions options_;
  TargetSet* const targets_;
  ClusterView* const view_;
  const Clock* const clock_;

  // The link's thread only.
  LeaderConnection leader_;
  DeadDataDeleter dead_data_;
  bool registered_ = false;
  int64_t heartbeat_interval_ms_ = 1'000;

  Mutex mutex_;
  CondVar changed_;
  bool stop_ GUARDED_BY(mutex_) = false;
  std::vector<std::function<void(const Status&)>> refresh_callbacks_ GUARDED_BY(mutex_);
  uint64_t wanted_version_ GUARDED_BY(mutex_) = 0;
  int wanted_rounds_ GUARDED_BY(mutex_) = 0;  // in which it did not come

  std::thread thread_;
};

}  // namespace tarn::chunk
