// A simulated chunk server with one target: it keeps a number for each cell of a file, and honours leases and fences by
// the rules of docs/replication.md. Everything else of data is abstract; its replication has a simulator of its own
// (tests/sim/data).
//
// Fault model: it is cut off from the leader, from clients, or stopped; requests and answers are lost, late and
// repeated; its lease, by its own clock, ends then. It keeps what it has taken: of each session's writes of a cell only
// later ones replace earlier ones (sequence windows do that in production). Its clock runs no slower than any member's,
// since its lease allows for 2 % only.
// Planted bugs: Plant::kNoFence, Plant::kClaimFence.
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <tuple>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "proto/cluster.pb.h"
#include "tests/sim/member.h"
#include "tests/sim/sim_process.h"

namespace tarn::sim {

class ChunkServer {
 public:
  using Cells = std::map<uint64_t, uint64_t>;

  ChunkServer(Cluster* cluster, uint64_t number);
  ChunkServer(const ChunkServer&) = delete;
  ChunkServer& operator=(const ChunkServer&) = delete;

  void Start();
  void StopFor(int64_t length_ns) { process_->StopFor(length_ns); }
  void EndFaults() { process_->Continue(); }
  Endpoint endpoint() const { return endpoint_; }

  // A request arrives; `answer` is called at most once. kUnavailable: it has no lease; kFenced.
  void ReceiveWrite(SessionId session, DataId data, std::pair<uint64_t, uint64_t> cell_and_value,
                    std::function<void(Status)> answer);
  void ReceiveRead(DataId data, std::function<void(Status, const Cells&)> answer);

 private:
  void Beat();
  void Register();
  void SendHeartbeat();
  template <typename Request, typename Reply>
  void Ask(const Request& request, void (Member::*receive)(const Request&, std::function<void(const Status&, const Reply&)>),
           void (ChunkServer::*on_reply)(const Reply&, int64_t));
  void OnRegistered(const proto::RegisterServerReply& reply, int64_t sent_ns);
  void OnHeartbeat(const proto::HeartbeatReply& reply, int64_t sent_ns);
  void Adopt(const proto::ClusterMap& map);
  void Extend(uint32_t lease_ms, int64_t sent_ns);
  bool HasLease() const { return process_->clock().MonotonicNs() < lease_until_ns_; }

  Cluster* const cluster_;
  const Endpoint endpoint_;
  const std::string name_;
  const uint64_t incarnation_;
  const std::shared_ptr<SimProcess> process_;
  uint64_t member_ = 1;
  uint64_t server_id_ = 0;
  uint64_t target_id_ = 0;
  bool registered_ = false;
  uint64_t map_version_ = 0;
  std::set<uint64_t> fenced_;
  int64_t lease_until_ns_ = 0;
  std::map<DataId, Cells> cells_;
  std::map<std::tuple<SessionId, DataId, uint64_t>, uint64_t> newest_;
};

}  // namespace tarn::sim
