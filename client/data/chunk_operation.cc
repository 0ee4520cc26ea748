#include "client/data/chunk_operation.h"

#include <algorithm>

#include "proto/cluster.pb.h"
#include "proto/hello.pb.h"
#include "proto/types.pb.h"

namespace tarn::client {
namespace {

constexpr int64_t kDelayMinMs = 2;
constexpr int64_t kDelayMaxMs = 500;

// Worth another attempt whatever was asked.
bool IsTransient(StatusCode code) {
  return code == StatusCode::kUnavailable || code == StatusCode::kTimeout || code == StatusCode::kResourceExhausted;
}

}  // namespace

// ---- Core ----

ChunkClient::Core::Core(const ChunkClientOptions& client_options, std::vector<rpc::EventLoop*> event_loops,
                        std::shared_ptr<MetadataGate> metadata_gate, std::shared_ptr<const Clock> system_clock)
    : options(client_options),
      loops(std::move(event_loops)),
      metadata(std::move(metadata_gate)),
      clock(std::move(system_clock)) {}

std::shared_ptr<const PlacementRoutes> ChunkClient::Core::Routes() {
  std::shared_ptr<const proto::ClusterMap> map;
  {
    MetadataGate::Use use(*metadata);
    if (!use) return nullptr;
    map = use->cluster_map();
  }
  MutexLock lock(mutex_);
  if (routes_ == nullptr || map_ != map) {
    routes_ = std::make_shared<PlacementRoutes>(*map);
    map_ = std::move(map);
  }
  return routes_;
}

std::shared_ptr<ServerLink> ChunkClient::Core::LinkTo(const std::string& address, LinkPurpose purpose) {
  {
    MutexLock lock(mutex_);
    const auto found = links_.find(address);
    if (found != links_.end()) return Choose(found->second, purpose);
  }
  proto::HelloRequest hello;
  hello.set_role(proto::PEER_ROLE_CLIENT);
  hello.set_peer_name(options.peer_name);
  hello.set_token(options.token);
  {
    MetadataGate::Use use(*metadata);
    if (!use) return nullptr;
    hello.set_session(use->session().value());
    hello.set_cluster_id(use->cluster_map()->cluster_id());
  }
  MutexLock lock(mutex_);
  if (closed()) return nullptr;
  const auto [entry, is_new] = links_.try_emplace(address);
  ServerLinks& links = entry->second;
  if (!is_new) return Choose(links, purpose);
  links.first_loop = (links_.size() - 1) % loops.size();
  const auto make = [&](rpc::EventLoop* loop) {
    const rpc::FrameClientOptions client_options{.address = address, .push_handler = {}};
    return std::make_shared<ServerLink>(
        [loop, client_options, hello] { return rpc::FrameClient::Create(loop, client_options, hello); },
        clock->MonotonicNs());
  };
  // A link connects when it is first used.
  for (rpc::EventLoop* loop : loops) links.reads.push_back(make(loop));
  links.writes = make(loops[links.first_loop]);
  return Choose(links, purpose);
}

std::shared_ptr<ServerLink> ChunkClient::Core::Choose(const ServerLinks& links, LinkPurpose purpose) const {
  if (purpose == LinkPurpose::kWrite) return links.writes;
  for (size_t i = 0; i < loops.size(); ++i) {
    if (loops[i]->InLoopThread()) return links.reads[i];
  }
  return links.reads[(links.first_loop + 1) % loops.size()];
}

bool ChunkClient::Core::HasRoom(const WriteGate& gate, uint64_t bytes) const {
  if (gate.writes == 0) return true;
  return gate.writes < options.server_writes_max && gate.bytes + bytes <= options.server_write_bytes_max;
}

bool ChunkClient::Core::AdmitWrite(const std::string& address, uint64_t bytes, const ChunkOperationPtr& operation) {
  MutexLock lock(mutex_);
  WriteGate& gate = write_gates_[address];
  if (closed() || (gate.waiting.empty() && HasRoom(gate, bytes))) {
    gate.bytes += bytes;
    ++gate.writes;
    return true;
  }
  gate.waiting.emplace_back(operation, bytes);
  return false;
}

void ChunkClient::Core::LeaveWrite(const std::string& address, uint64_t bytes) {
  std::vector<ChunkOperationPtr> admitted;
  {
    MutexLock lock(mutex_);
    WriteGate& gate = write_gates_[address];
    gate.bytes -= bytes;
    --gate.writes;
    while (!gate.waiting.empty() && HasRoom(gate, gate.waiting.front().second)) {
      gate.bytes += gate.waiting.front().second;
      ++gate.writes;
      admitted.push_back(std::move(gate.waiting.front().first));
      gate.waiting.pop_front();
    }
  }
  for (const ChunkOperationPtr& operation : admitted) operation->Admitted();
}

uint64_t ChunkClient::Core::BeginSequence(TargetId target) {
  MutexLock lock(mutex_);
  return sequences_[target].Begin();
}

void ChunkClient::Core::EndSequence(TargetId target, uint64_t sequence) {
  MutexLock lock(mutex_);
  sequences_[target].End(sequence);
}

uint64_t ChunkClient::Core::AckedThrough(TargetId target) {
  MutexLock lock(mutex_);
  return sequences_[target].acked_through();
}

bool ChunkClient::Core::Park(const ChunkOperationPtr& operation) {
  MutexLock lock(mutex_);
  if (closed()) return false;
  parked_.insert(operation);
  return true;
}

bool ChunkClient::Core::Unpark(const ChunkOperationPtr& operation) {
  MutexLock lock(mutex_);
  return parked_.erase(operation) > 0;
}

void ChunkClient::Core::OperationBegins() { operations_.fetch_add(1); }

void ChunkClient::Core::OperationOver() {
  // Either this sees that the client is closed, or AwaitOperations, which comes after, sees that nothing is left.
  if (operations_.fetch_sub(1) > 1 || !closed_.load()) return;
  MutexLock lock(operations_mutex_);
  operations_over_.NotifyAll();
}

void ChunkClient::Core::AwaitOperations() {
  MutexLock lock(operations_mutex_);
  while (operations_.load() > 0) operations_over_.Wait(lock);
}

void ChunkClient::Core::Close() {
  std::vector<std::shared_ptr<ServerLink>> links;
  std::vector<ChunkOperationPtr> stopped;
  {
    MutexLock lock(mutex_);
    closed_.store(true);
    for (const auto& [address, server] : links_) {
      links.insert(links.end(), server.reads.begin(), server.reads.end());
      links.push_back(server.writes);
    }
    stopped.assign(parked_.begin(), parked_.end());
    parked_.clear();
    for (auto& [address, gate] : write_gates_) {
      for (const auto& [operation, bytes] : gate.waiting) stopped.push_back(operation);
      gate.waiting.clear();
    }
  }
  for (const auto& link : links) link->Close();
  const Status cancelled(StatusCode::kCancelled, "the client is shutting down");
  for (const ChunkOperationPtr& operation : stopped) operation->Fail(cancelled);
}

// ---- ChunkOperation ----

ChunkOperation::ChunkOperation(std::shared_ptr<ChunkClient::Core> core)
    : core_(std::move(core)), started_ns_(core_->clock->MonotonicNs()) {
  core_->OperationBegins();
}

void ChunkOperation::End(const Status& status) {
  Finish(status);
  core_->OperationOver();
}

void ChunkOperation::Attempt() {
  const auto routes = core_->Routes();
  if (core_->closed() || routes == nullptr) return Fail(Status(StatusCode::kCancelled, "the client is shutting down"));
  Result<Route> route = FindRoute(*routes);
  if (!route.ok()) return AwaitMap(0, route.status());
  route_ = std::move(*route);
  if (!Admit()) return;
  link_ = core_->LinkTo(route_.address, purpose());
  if (link_ == nullptr) return Fail(Status(StatusCode::kCancelled, "the client is shutting down"));
  const int64_t now_ns = core_->clock->MonotonicNs();
  if (first_attempt_ns_ == 0) first_attempt_ns_ = now_ns;
  ServerLink::Connection connection = link_->Get(now_ns);
  if (connection.client == nullptr) {
    return RetryAfter(connection.wait_ms,
                      last_error_.ok() ? Status(StatusCode::kUnavailable, "no connection") : last_error_);
  }
  ++attempts_;
  core_->counters.requests.fetch_add(1, std::memory_order_relaxed);
  sent_ns_ = now_ns;
  client_ = std::move(connection.client);
  // Whoever answers may end the operation and let go of client_ while the call is still returning.
  const std::shared_ptr<rpc::FrameClient> client = client_;
  Send(*client,
       rpc::CallOptions{.timeout_ms = core_->options.request_timeout_ms, .payload = {}, .payload_destination = {}});
}

rpc::ReplyCallback ChunkOperation::MakeReplyCallback() {
  return [self = shared_from_this()](const rpc::Reply& reply) { self->OnReply(reply); };
}

void ChunkOperation::OnReply(const rpc::Reply& reply) {
  const StatusCode code = reply.status.code();
  if (code == StatusCode::kTimeout) {
    link_->NoteTimeout(client_, sent_ns_);
  } else if (code != StatusCode::kUnavailable && code != StatusCode::kCancelled) {
    link_->NoteAnswer(core_->clock->MonotonicNs());
  }
  client_ = nullptr;
  if (core_->closed()) return Fail(Status(StatusCode::kCancelled, "the client is shutting down"));
  if (reply.status.ok()) {
    const Status verdict = OnGood(reply);
    if (verdict.code() == StatusCode::kUnavailable) return RetryAfter(0, verdict);
    return verdict.ok() ? End(verdict) : Fail(verdict);
  }
  if (code == StatusCode::kStaleEpoch) return AwaitMap(rpc::ParseErrorDetail(reply).map_version(), reply.status);
  if (code == StatusCode::kUnavailable && attempts_ % 4 == 0) {
    // The server may have moved: have a newer map at hand for one of the next attempts.
    MetadataGate::Use use(*core_->metadata);
    if (use) use->RefreshClusterMap(0, [](const Status&) {});
  }
  if (IsTransient(code)) return RetryAfter(NextDelayMs(), reply.status);
  if (RetryAfterRefusal(reply.status)) return RetryAfter(0, reply.status);
  Fail(reply.status);
}

std::string ChunkOperation::Where() const {
  if (route_.address.empty()) return Describe();
  return Describe() + " at target " + std::to_string(route_.target.value()) + " (" + route_.address + ")";
}

void ChunkOperation::Fail(const Status& status) { End(status.WithContext(Where())); }

void ChunkOperation::AwaitMap(uint64_t version, const Status& reason) {
  const ChunkOperationPtr self = shared_from_this();
  last_error_ = reason;
  if (Expired(core_->clock->MonotonicNs())) return RetryAfter(0, reason);
  if (!core_->Park(self)) return Fail(Status(StatusCode::kCancelled, "the client is shutting down"));
  MetadataGate::Use use(*core_->metadata);
  if (!use) {
    if (core_->Unpark(self)) Fail(Status(StatusCode::kCancelled, "the client is shutting down"));
    return;
  }
  use->RefreshClusterMap(version, [self, reason](const Status& status) {
    if (!self->core_->Unpark(self)) return;
    // A pause also after success: the answer may have come at once, and the server may still disagree.
    self->RetryAfter(self->NextDelayMs(), status.ok() ? reason : status);
  });
}

int64_t ChunkOperation::NextDelayMs() {
  delay_ms_ = std::clamp(delay_ms_ * 2, kDelayMinMs, kDelayMaxMs);
  return delay_ms_;
}

// Tried for long enough; or it waited for so long behind others that the server has been silent all the while.
bool ChunkOperation::Expired(int64_t now_ns) const {
  const int64_t limit_ns = core_->options.retry_deadline_ms * 1'000'000;
  if (first_attempt_ns_ != 0 && now_ns - first_attempt_ns_ >= limit_ns) return true;
  const int64_t heard_ns = link_ == nullptr ? started_ns_ : std::max(started_ns_, link_->last_answer_ns());
  return now_ns - heard_ns >= limit_ns;
}

void ChunkOperation::RetryAfter(int64_t delay_ms, const Status& reason) {
  last_error_ = reason;
  const int64_t now_ns = core_->clock->MonotonicNs();
  if (Expired(now_ns)) {
    const StatusCode code = IsTransient(reason.code()) ? reason.code() : StatusCode::kUnavailable;
    const int64_t waited_ms = (now_ns - started_ns_) / 1'000'000;
    return Fail(Status(code, reason.message() + " (given up after " + std::to_string(waited_ms) + " ms, " +
                                 std::to_string(attempts_) + " attempts)"));
  }
  const ChunkOperationPtr self = shared_from_this();
  if (!core_->Park(self)) return Fail(Status(StatusCode::kCancelled, "the client is shutting down"));
  // The parking place owns the operation; a timer that is never run must not keep it.
  core_->TimerLoop()->PostAfter(delay_ms, [weak = std::weak_ptr<ChunkOperation>(self)] {
    const ChunkOperationPtr operation = weak.lock();
    if (operation != nullptr && operation->core_->Unpark(operation)) operation->Attempt();
  });
}

}  // namespace tarn::client
