// What chunk servers ask of the leader, but for how it is carried and for waiting: each request is begun, its mutations go
// to the log, and then it is finished. The gRPC service does that on its threads (cluster_service.h), the simulator in
// simulated time.
//
// Nothing here blocks. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "metaserver/service/service_context.h"
#include "proto/cluster.pb.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {

class ServerRequests {
 public:
  // The context outlives it.
  explicit ServerRequests(ServiceContext* context) : context_(context) {}
  ServerRequests(const ServerRequests&) = delete;
  ServerRequests& operator=(const ServerRequests&) = delete;

  // A registration ends what the server's process before it was given: its copies may be distrusted, another primary made. So it must not be that of
  // a process which is gone, sent long ago and late (its system goes on sending for it), while the next one has its lease and serves.
  struct Registration {
    std::string server;         // by which others of the same server are known
    uint64_t replaces = 0;      // the incarnation that the map has; 0: none
    // Another process of the server has its lease. Before this one is taken it is to be asked, at the address that it names: it is of this
    // incarnation, and so the latest. Else the server tries again; without an answer it is taken when that lease is over.
    bool needs_proof = false;
  };
  // kNotLeader here and below: nothing was done, another member is to be asked.
  Result<Registration> CheckRegistration(const proto::RegisterServerRequest& request) const;
  // kUnavailable: another process of the server was registered meanwhile, or is being registered.
  Result<proto::Mutation> BeginRegistration(const proto::RegisterServerRequest& request, const Registration& checked);
  // Once after each that was begun. `applied`: the reply to that mutation, or why there is none.
  Status FinishRegistration(const proto::RegisterServerRequest& request, const Registration& checked,
                            Result<proto::MutationReply> applied, proto::RegisterServerReply* reply);

  struct Heartbeat {
    uint32_t lease_ms = 0;  // to tell the server; 0: it gets none now
    // One after another, before the heartbeat is finished: what is deleted next must not be named again.
    std::vector<proto::Mutation> mutations;
  };
  // kInvalidArgument: of another cluster; kUnknownSession, kWrongIncarnation: the server is to register again.
  Result<Heartbeat> BeginHeartbeat(const proto::HeartbeatRequest& request) const;
  Status FinishHeartbeat(const proto::HeartbeatRequest& request, const Heartbeat& begun,
                         proto::HeartbeatReply* reply) const;

  // `decided`: see ReplicationKeeper::Decide.
  void BeginReport(const proto::ReportGroupsRequest& request, std::function<void(const Status&)> decided) const;
  Status FinishReport(proto::ReportGroupsReply* reply) const;

 private:
  // How long the target keeps what is deleted.
  int64_t ReclaimDelayMs(const proto::TargetReport& report) const;
  Status ListDead(const proto::HeartbeatRequest& request, proto::HeartbeatReply* reply) const;

  ServiceContext* const context_;

  Mutex mutex_;
  std::set<std::string> registering_ GUARDED_BY(mutex_);  // servers: so that the log has their processes in order
};

}  // namespace tarn::meta
