#include "client/data/chunk_client_core.h"

#include <utility>

#include "client/data/chunk_operation.h"
#include "proto/cluster.pb.h"
#include "proto/hello.pb.h"

namespace tarn::client {
namespace {

// Between two requests for a newer map that nobody has announced.
constexpr int64_t kMapPauseNs = 100'000'000;
constexpr int64_t kWatchTickMs = 100;
// A server that leaves calls unanswered for so long while none at all is answered is taken for silent.
constexpr int64_t kSilentNs = 300'000'000;
// Requests of reads are small, so nothing but a network that is cut leaves them unacknowledged for so long. That one is
// mended is then known soon, also while the other members cannot be reached.
constexpr int64_t kReadsUnacknowledgedMsMax = 1'000;

}  // namespace

ChunkClient::Core::Core(const ChunkClientOptions& client_options, std::vector<rpc::EventLoop*> event_loops,
                        std::shared_ptr<MetadataGate> metadata_gate, std::shared_ptr<const Clock> system_clock)
    : options(client_options),
      loops(std::move(event_loops)),
      metadata(std::move(metadata_gate)),
      clock(std::move(system_clock)),
      hedges(client_options.hedge_ms) {
  for (rpc::EventLoop* loop : loops) slow_reads.push_back(std::make_shared<SlowReadWatch>(loop, clock));
}

// ---- Routes and servers ----

std::shared_ptr<const PlacementRoutes> ChunkClient::Core::Routes() {
  std::shared_ptr<const proto::ClusterMap> map;
  {
    MetadataGate::Use use(*metadata);
    if (!use) return nullptr;
    map = use->cluster_map();
  }
  std::shared_ptr<const PlacementRoutes> older;
  std::shared_ptr<const PlacementRoutes> routes;
  {
    MutexLock lock(mutex_);
    // Another thread may have seen a newer map meanwhile.
    if (routes_ != nullptr && (map_ == map || map->version() < map_->version())) return routes_;
    older = std::move(routes_);
    routes = routes_ = std::make_shared<PlacementRoutes>(*map);
    map_ = std::move(map);
    has_elastic_targets.store(routes->has_elastic(), std::memory_order_relaxed);
  }
  if (older != nullptr) OnNewRoutes(*older, *routes);
  return routes;
}

// What waits goes on by the new map; servers that are not primary any more of something are noted, so that calls that
// wait for one of them in vain are given up (LookAtServers).
void ChunkClient::Core::OnNewRoutes(const PlacementRoutes& older, const PlacementRoutes& newer) {
  const std::vector<std::string> left = older.AddressesLeftBy(newer);
  std::vector<ChunkOperationPtr> parked;
  {
    const int64_t now_ns = clock->MonotonicNs();
    MutexLock lock(mutex_);
    for (const std::string& address : left) {
      if (const auto found = servers_.find(address); found != servers_.end()) found->second->left_at_ns.store(now_ns);
    }
    parked.assign(parked_.begin(), parked_.end());
  }
  for (const ChunkOperationPtr& operation : parked) operation->WakeSoon();
}

void ChunkClient::Core::WantNewerMap() {
  const int64_t now_ns = clock->MonotonicNs();
  {
    MutexLock lock(mutex_);
    if (closed() || map_under_way_ || (map_wanted_ns_ != 0 && now_ns - map_wanted_ns_ < kMapPauseNs)) return;
    map_wanted_ns_ = now_ns;
    map_under_way_ = true;
  }
  MetadataGate::Use use(*metadata);
  if (!use) return;
  use->RefreshClusterMap(0, [weak = weak_from_this()](const Status&) {
    const auto core = weak.lock();
    if (core == nullptr) return;
    {
      MutexLock lock(core->mutex_);
      core->map_under_way_ = false;
    }
    core->Routes();
  });
}

SessionId ChunkClient::Core::Session() {
  MetadataGate::Use use(*metadata);
  return use ? use->session() : SessionId();
}

size_t ChunkClient::Core::LoopForRead() {
  for (size_t i = 0; i < loops.size(); ++i) {
    if (loops[i]->InLoopThread()) return i;
  }
  return next_loop_.fetch_add(1, std::memory_order_relaxed) % loops.size();
}

std::shared_ptr<ChunkServer> ChunkClient::Core::ServerAt(const std::string& address) {
  {
    MutexLock lock(mutex_);
    const auto found = servers_.find(address);
    if (found != servers_.end()) return found->second;
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
  const auto [entry, is_new] = servers_.try_emplace(address);
  if (!is_new) return entry->second;
  const auto make = [&](rpc::EventLoop* loop, int64_t unacknowledged_ms_max) {
    const rpc::FrameClientOptions client_options{
        .address = address, .unacknowledged_ms_max = unacknowledged_ms_max, .push_handler = {}};
    return std::make_shared<ServerLink>(
        [loop, client_options, hello] { return rpc::FrameClient::Create(loop, client_options, hello); },
        clock->MonotonicNs());
  };
  const auto server = std::make_shared<ChunkServer>();
  for (rpc::EventLoop* loop : loops) server->reads.push_back(make(loop, kReadsUnacknowledgedMsMax));
  server->writes = make(loops[(servers_.size() - 1) % loops.size()], rpc::kUnacknowledgedMsMax);
  entry->second = server;
  return server;
}

// ---- Silent servers ----

void ChunkClient::Core::WatchServers() {
  if (!watching_.load(std::memory_order_relaxed) && !watching_.exchange(true)) ScheduleWatch();
}

void ChunkClient::Core::ScheduleWatch() {
  loops.front()->PostAfter(kWatchTickMs, [weak = weak_from_this()] {
    if (const auto core = weak.lock()) core->LookAtServers();
  });
}

void ChunkClient::Core::LookAtServers() {
  if (closed()) return;
  std::vector<std::shared_ptr<ChunkServer>> servers;
  {
    MutexLock lock(mutex_);
    for (const auto& [address, server] : servers_) servers.push_back(server);
  }
  // Before the look: a call that begins after it starts the watch again.
  watching_.store(false);
  const int64_t now_ns = clock->MonotonicNs();
  bool busy = false;
  bool silent = false;
  for (const auto& server : servers) {
    busy |= server->writes->busy();
    if (server->writes->SilentNs(now_ns) < kSilentNs) continue;
    silent = true;
    server->writes->BreakIfWaitingSince(server->left_at_ns.load());
  }
  if (silent) WantNewerMap();
  if (busy && !watching_.exchange(true)) ScheduleWatch();
}

// ---- Windows of writes ----

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

// ---- Sequences ----

uint64_t ChunkClient::Core::BeginSequence(GroupId group) {
  MutexLock lock(mutex_);
  return sequences_[group].Begin();
}

void ChunkClient::Core::EndSequence(GroupId group, uint64_t sequence) {
  MutexLock lock(mutex_);
  sequences_[group].End(sequence);
}

uint64_t ChunkClient::Core::AckedThrough(GroupId group) {
  MutexLock lock(mutex_);
  return sequences_[group].acked_through();
}

// ---- Waiting and the end ----

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
    for (const auto& [address, server] : servers_) {
      links.insert(links.end(), server->reads.begin(), server->reads.end());
      links.push_back(server->writes);
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

}  // namespace tarn::client
