// The way to whichever metadata server leads: through the addresses it was given and those that the cluster map lists, and by the hints of
// those that do not lead.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/rpc/event_loop.h"
#include "proto/cluster.pb.h"

namespace tarn::chunk {

struct LeaderConnectionOptions {
  std::vector<std::string> metaservers;  // lean-frame HOST:PORT
  std::string peer_name;                 // for their logs
  // Whether the server at an address may be talked to, by the cluster id that it said. Not ok: it is passed over.
  std::function<Status(const std::string& cluster_id, const std::string& address)> check_cluster;
};

// One thread. Every call blocks for a bounded time: a server that does not answer costs a second where there is another one to ask.
class LeaderConnection {
 public:
  // `loop` outlives it.
  LeaderConnection(LeaderConnectionOptions options, rpc::EventLoop* loop);
  ~LeaderConnection();
  LeaderConnection(const LeaderConnection&) = delete;
  LeaderConnection& operator=(const LeaderConnection&) = delete;

  // Finds the next server's gRPC services unless there is a connection. kUnavailable: not reachable, the next call tries the next one.
  // Another code: the only server there is was refused by check_cluster.
  Status Connect();
  // Adds the addresses of the map.
  void Learn(const proto::ClusterMap& map);

  // When connected. An error that is not the service's own answer is followed by Redirect.
  Status RegisterServer(const proto::RegisterServerRequest& request, proto::RegisterServerReply* reply);
  Status Heartbeat(const proto::HeartbeatRequest& request, proto::HeartbeatReply* reply);
  Status ReportGroups(const proto::ReportGroupsRequest& request, proto::ReportGroupsReply* reply);
  // After a failed call. True: the refusal named the leader, which may be asked at once. False: pause, then Connect.
  bool Redirect(const Status& failure);

 private:
  class Stub;

  // Hints count from the last answer on.
  Status Answered(Status status);

  const LeaderConnectionOptions options_;
  rpc::EventLoop* const loop_;
  std::unique_ptr<Stub> stub_;
  std::vector<std::string> addresses_;  // as given, then what the map added
  size_t next_address_ = 0;
  int hints_followed_ = 0;
  bool told_unreachable_ = false;
};

}  // namespace tarn::chunk
