#include "tests/sim/chunk_server.h"

#include <algorithm>
#include <string>
#include <utility>

#include "tests/sim/file_oracle.h"

namespace tarn::sim {
namespace {

constexpr uint64_t kCapacityBytes = uint64_t{1} << 40;
constexpr int64_t kBeatsPerLease = 5;

}  // namespace

ChunkServer::ChunkServer(Cluster* cluster, uint64_t number)
    : cluster_(cluster),
      endpoint_(kFirstChunkServer + number),
      name_("chunk-server-" + std::to_string(number)),
      incarnation_(cluster->scheduler->dice().Next() | 1),
      process_(std::make_shared<SimProcess>(cluster->scheduler, 1.0 + cluster->plan->faults.clock_rate)) {}

void ChunkServer::Start() { Beat(); }

void ChunkServer::Beat() {
  if (registered_) {
    SendHeartbeat();
  } else {
    Register();
  }
  process_->RunAfter(cluster_->plan->target_lease_ms * kMillisecond / kBeatsPerLease, [this] { Beat(); });
}

// One attempt; the next beat is the next, at another member if this one does not answer.
template <typename Request, typename Reply>
void ChunkServer::Ask(const Request& request,
                      void (Member::*receive)(const Request&, std::function<void(const Status&, const Reply&)>),
                      void (ChunkServer::*on_reply)(const Reply&, int64_t)) {
  const int64_t sent_ns = process_->clock().MonotonicNs();
  const uint64_t member = member_;
  auto answered = std::make_shared<bool>(false);
  const auto answer = [=, this](const Status& status, const Reply& reply) {
    cluster_->network->Send(member, endpoint_, "chunk server answer", [=, this] {
      process_->Run([=, this] {
        if (std::exchange(*answered, true)) return;
        const StatusCode code = status.code();
        if (code == StatusCode::kUnknownSession || code == StatusCode::kWrongIncarnation) registered_ = false;
        if (status.ok()) return (this->*on_reply)(reply, sent_ns);
        if (member == member_) member_ = member_ % cluster_->members->size() + 1;
      });
    });
  };
  cluster_->network->Send(endpoint_, member, "chunk server", [=, this] {
    (((*cluster_->members)[member - 1].get())->*receive)(request, answer);
  });
  process_->RunAfter(cluster_->plan->target_lease_ms * kMillisecond / kBeatsPerLease, [=, this] {
    if (!*answered && member == member_) member_ = member_ % cluster_->members->size() + 1;
  });
}

void ChunkServer::Register() {
  proto::RegisterServerRequest request;
  if (server_id_ != 0) request.set_cluster_id("simulated");
  request.set_server_id(server_id_);
  request.set_incarnation(incarnation_);
  request.set_address(name_);
  request.set_node(name_);
  proto::TargetReport* report = request.add_targets();
  report->set_id(target_id_);
  report->set_target_class(proto::TARGET_CLASS_DURABLE);
  report->set_capacity_bytes(kCapacityBytes);
  report->set_available_bytes(kCapacityBytes);
  report->set_directory_id(name_);
  Ask(request, &Member::ReceiveRegistration, &ChunkServer::OnRegistered);
}

void ChunkServer::OnRegistered(const proto::RegisterServerReply& reply, int64_t sent_ns) {
  server_id_ = reply.server_id();
  target_id_ = reply.target_ids(0);
  registered_ = true;
  Adopt(reply.map());
  Extend(reply.lease_ms(), sent_ns);
}

void ChunkServer::SendHeartbeat() {
  proto::HeartbeatRequest request;
  request.set_cluster_id("simulated");
  request.set_server_id(server_id_);
  request.set_incarnation(incarnation_);
  request.set_map_version(map_version_);
  if (cluster_->plan->plant == Plant::kClaimFence) request.set_map_version(map_version_ + 1000);
  proto::TargetReport* report = request.add_targets();
  report->set_id(target_id_);
  report->set_target_class(proto::TARGET_CLASS_DURABLE);
  report->set_capacity_bytes(kCapacityBytes);
  report->set_available_bytes(kCapacityBytes);
  Ask(request, &Member::ReceiveHeartbeat, &ChunkServer::OnHeartbeat);
}

void ChunkServer::OnHeartbeat(const proto::HeartbeatReply& reply, int64_t sent_ns) {
  if (reply.has_map()) Adopt(reply.map());
  Extend(reply.lease_ms(), sent_ns);
}

void ChunkServer::Adopt(const proto::ClusterMap& map) {
  if (map.version() <= map_version_) return;
  map_version_ = map.version();
  fenced_.clear();
  for (const proto::FencedSession& fence : map.fenced_sessions()) fenced_.insert(fence.session());
}

void ChunkServer::Extend(uint32_t lease_ms, int64_t sent_ns) {
  if (lease_ms != 0) lease_until_ns_ = std::max(lease_until_ns_, sent_ns + int64_t{lease_ms} * kMillisecond);
}

void ChunkServer::ReceiveWrite(SessionId session, DataId data, std::pair<uint64_t, uint64_t> cell_and_value,
                               std::function<void(Status)> answer) {
  process_->Run([this, session, data, cell_and_value, answer = std::move(answer)] {
    if (!HasLease()) return answer(Status(StatusCode::kUnavailable, "no lease"));
    const bool fenced = fenced_.contains(session.value()) && cluster_->plan->plant != Plant::kNoFence;
    if (fenced) return answer(Status(StatusCode::kFenced, "the session is fenced"));
    if (!cluster_->files->OnChunkWrite(session)) return;
    const auto [cell, value] = cell_and_value;
    cluster_->scheduler->Trace("chunk write", cell, value);
    uint64_t& newest = newest_[{session, data, cell}];
    if (value > newest) cells_[data][cell] = newest = value;
    answer(Status::Ok());
  });
}

void ChunkServer::ReceiveRead(DataId data, std::function<void(Status, const Cells&)> answer) {
  process_->Run([this, data, answer = std::move(answer)] {
    if (!HasLease()) return answer(Status(StatusCode::kUnavailable, "no lease"), {});
    answer(Status::Ok(), cells_[data]);
  });
}

}  // namespace tarn::sim
