// A chunk server's relation to the metadata server: finds it, registers, sends heartbeats, keeps the cluster map, deletes dead data.
//
// One thread of its own does all of it and retries for ever; only what no retry can mend ends the process (on_failure).
// It goes to whichever metadata server leads: through the addresses it was given and those that the cluster map lists, and by the hints
// of those that do not lead. A server that does not answer costs it a second, not its lease.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "chunkserver/service/group_table.h"
#include "chunkserver/store/chunk_store.h"
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
  std::string directory;                 // for messages
  uint64_t incarnation = 0;
  uint64_t pid = 0;
  // On the link's thread: the server cannot go on (wrong cluster, ids refused).
  std::function<void(Status)> on_failure;
};

class MetadataLinkStub;

// Thread-safe.
class MetadataLink {
 public:
  // `store`, `loop` and `clock` outlive it.
  static std::unique_ptr<MetadataLink> Start(MetadataLinkOptions options, store::ChunkStore* store, rpc::EventLoop* loop, const Clock* clock);
  ~MetadataLink();
  MetadataLink(const MetadataLink&) = delete;
  MetadataLink& operator=(const MetadataLink&) = delete;

  // Never null. Version 0 until registered.
  std::shared_ptr<const GroupTable> groups() const;
  // Asks for the newest map at once; `done` runs on the link's thread after the answer or the failure. It must not block.
  void Refresh(std::function<void()> done);

 private:
  MetadataLink(MetadataLinkOptions options, store::ChunkStore* store, rpc::EventLoop* loop, const Clock* clock);

  void Run();
  // The next address's gRPC services. False: not reachable.
  bool Connect();
  Status CheckCluster(const std::string& cluster_id, const std::string& address);
  Status Register();
  Status Heartbeat();
  void FillReport(proto::TargetReport* report);
  void AdoptMap(const proto::ClusterMap& map);
  // Whom to ask after a call that failed.
  void FollowHint(const Status& status);
  void DeleteDead(const proto::HeartbeatReply& reply);
  // False when stopping.
  bool WaitForNextRound(int64_t pause_ms);
  void RunRefreshCallbacks();

  // Immutable after construction.
  const MetadataLinkOptions options_;
  store::ChunkStore* const store_;
  rpc::EventLoop* const loop_;
  const Clock* const clock_;

  // The link's thread only.
  std::unique_ptr<MetadataLinkStub> stub_;
  std::vector<std::string> addresses_;  // as given, then what the map added
  size_t next_address_ = 0;
  int hints_followed_ = 0;  // since the last answer
  bool registered_ = false;
  bool reported_unreachable_ = false;
  int64_t heartbeat_interval_ms_ = 1'000;

  mutable Mutex mutex_;
  CondVar changed_;
  bool stop_ GUARDED_BY(mutex_) = false;
  std::shared_ptr<const GroupTable> groups_ GUARDED_BY(mutex_);
  std::vector<std::function<void()>> refresh_callbacks_ GUARDED_BY(mutex_);
  std::vector<uint64_t> reclaimed_ GUARDED_BY(mutex_);  // durably gone, to be reported

  std::thread thread_;
};

}  // namespace tarn::chunk
