#include "client/data/chunk_client_core.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "client/data/chunk_operation.h"
#include "client/data/relay_client.h"
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
// A server that gives no sign of life over a fresh connection within this time is asked through another one.
constexpr int64_t kProbeMs = 400;

void LogOutage(const ChunkServer& server) {
  const ServerReach::Outage outage = server.reach.outage();
  if (outage.relayed == 0) return;
  spdlog::info("a chunk server is reached directly again server={} after_ms={} requests_through_others={}", server.address,
               outage.duration_ns / 1'000'000, outage.relayed);
}

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

std::optional<proto::HelloRequest> ChunkClient::Core::MakeHello() {
  proto::HelloRequest hello;
  hello.set_role(proto::PEER_ROLE_CLIENT);
  hello.set_peer_name(options.peer_name);
  hello.set_token(options.token);
  MetadataGate::Use use(*metadata);
  if (!use) return std::nullopt;
  hello.set_session(use->session().value());
  hello.set_cluster_id(use->cluster_map()->cluster_id());
  return hello;
}

std::shared_ptr<ChunkServer> ChunkClient::Core::ServerAt(const std::string& address) {
  {
    MutexLock lock(mutex_);
    const auto found = servers_.find(address);
    if (found != servers_.end()) return found->second;
  }
  const std::optional<proto::HelloRequest> hello = MakeHello();
  if (!hello) return nullptr;
  MutexLock lock(mutex_);
  if (closed()) return nullptr;
  const auto [entry, is_new] = servers_.try_emplace(address);
  if (!is_new) return entry->second;
  const auto server = std::make_shared<ChunkServer>();
  server->address = address;
  for (rpc::EventLoop* loop : loops) {
    server->direct.reads.push_back(MakeDirectLink(address, *hello, loop, kReadsUnacknowledgedMsMax));
    server->relayed.reads.push_back(MakeRelayedLink(server, *hello, loop, kReadsUnacknowledgedMsMax));
  }
  rpc::EventLoop* const loop = loops[(servers_.size() - 1) % loops.size()];
  server->direct.writes = MakeDirectLink(address, *hello, loop, rpc::kUnacknowledgedMsMax);
  server->relayed.writes = MakeRelayedLink(server, *hello, loop, rpc::kUnacknowledgedMsMax);
  entry->second = server;
  return server;
}

std::shared_ptr<ServerLink> ChunkClient::Core::MakeDirectLink(const std::string& address,
                                                              const proto::HelloRequest& hello, rpc::EventLoop* loop,
                                                              int64_t unacknowledged_ms_max) {
  const rpc::FrameClientOptions client_options{
      .address = address, .unacknowledged_ms_max = unacknowledged_ms_max, .push_handler = {}};
  return std::make_shared<ServerLink>(
      [loop, client_options, hello] { return rpc::FrameClient::Create(loop, client_options, hello); },
      clock->MonotonicNs());
}

// ---- Through another server (docs/replication.md) ----

std::shared_ptr<ServerLink> ChunkClient::Core::MakeRelayedLink(const std::shared_ptr<ChunkServer>& server,
                                                               const proto::HelloRequest& hello, rpc::EventLoop* loop,
                                                               int64_t unacknowledged_ms_max) {
  return std::make_shared<ServerLink>(
      [weak = weak_from_this(), weak_server = std::weak_ptr(server), hello, loop,
       unacknowledged_ms_max]() -> std::shared_ptr<rpc::FrameClient> {
        const auto core = weak.lock();
        const auto its_server = weak_server.lock();
        if (core == nullptr || its_server == nullptr) return nullptr;
        return core->MakeRelayClient(its_server, hello, loop, unacknowledged_ms_max);
      },
      clock->MonotonicNs());
}

std::optional<std::string> ChunkClient::Core::ChooseRelay(const ChunkServer& server) {
  const auto routes = Routes();
  if (routes == nullptr) return std::nullopt;
  const std::vector<std::string> relays = routes->RelaysTo(server.address, Session().value());
  const size_t turn = server.relay_turn.load();
  MutexLock lock(mutex_);
  for (size_t i = 0; i < relays.size(); ++i) {
    const std::string& relay = relays[(turn + i) % relays.size()];
    const auto found = servers_.find(relay);
    if (found == servers_.end() || !found->second->reach.is_down()) return relay;
  }
  return std::nullopt;
}

std::shared_ptr<rpc::FrameClient> ChunkClient::Core::MakeRelayClient(const std::shared_ptr<ChunkServer>& server,
                                                                     const proto::HelloRequest& hello,
                                                                     rpc::EventLoop* loop,
                                                                     int64_t unacknowledged_ms_max) {
  const std::optional<std::string> relay = ChooseRelay(*server);
  if (!relay) {
    server->reach.NoteRelayFailed(clock->MonotonicNs());
    return nullptr;
  }
  // The server keeps the client.
  const std::weak_ptr<Core> weak = weak_from_this();
  const std::weak_ptr<ChunkServer> weak_server = server;
  const rpc::FrameClientOptions client_options{
      .address = *relay, .unacknowledged_ms_max = unacknowledged_ms_max, .push_handler = {}};
  return std::make_shared<RelayClient>(
      rpc::FrameClient::Create(loop, client_options, hello),
      [weak](TargetId target) -> std::optional<Incarnation> {
        const auto core = weak.lock();
        const auto routes = core == nullptr ? nullptr : core->Routes();
        return routes == nullptr ? std::nullopt : routes->IncarnationOf(target);
      },
      [weak, weak_server, relay = *relay] {
        const auto core = weak.lock();
        const auto its_server = weak_server.lock();
        if (core == nullptr || its_server == nullptr) return;
        core->counters.relayed_requests.fetch_add(1, std::memory_order_relaxed);
        if (!its_server->reach.NoteRelayed()) return;
        spdlog::warn("a chunk server is not reached from here, requests go through another one server={} through={}",
                     its_server->address, relay);
      },
      [weak, weak_server, relay = *relay](const Status& why) {
        const auto core = weak.lock();
        const auto its_server = weak_server.lock();
        if (core == nullptr || its_server == nullptr) return;
        its_server->relay_turn.fetch_add(1);
        its_server->reach.NoteRelayFailed(core->clock->MonotonicNs());
        spdlog::debug("a request to a chunk server did not get through another one server={} through={} reason=\"{}\"",
                      its_server->address, relay, why.message());
      });
}

void ChunkClient::Core::DoubtServer(const std::shared_ptr<ChunkServer>& server) {
  const int64_t now_ns = clock->MonotonicNs();
  if (closed() || !server->reach.BeginProbe(now_ns)) return;
  const std::optional<proto::HelloRequest> hello = MakeHello();
  const rpc::FrameClientOptions client_options{
      .address = server->address, .connect_timeout_ms = kProbeMs, .push_handler = {}};
  const auto probe =
      hello ? rpc::FrameClient::Create(loops.front(), client_options, *hello) : std::shared_ptr<rpc::FrameClient>();
  {
    MutexLock lock(mutex_);
    if (closed() || probe == nullptr) return;
    probes_[server->address] = probe;
  }
  OperationBegins();
  probe->Call(rpc::Method::kPing, proto::HelloRequest(),
              rpc::CallOptions{.timeout_ms = kProbeMs, .payload = {}, .payload_destination = {}},
              [self = shared_from_this(), server, now_ns](const rpc::Reply& reply) {
                self->OnProbed(server, now_ns, reply.status.ok());
                self->OperationOver();
              });
}

void ChunkClient::Core::OnProbed(const std::shared_ptr<ChunkServer>& server, int64_t began_ns, bool is_reached) {
  std::shared_ptr<rpc::FrameClient> probe;  // destroyed after the lock is released
  {
    MutexLock lock(mutex_);
    const auto found = probes_.find(server->address);
    if (found != probes_.end()) {
      probe = std::move(found->second);
      probes_.erase(found);
    }
  }
  const int64_t now_ns = clock->MonotonicNs();
  for (const auto& link : server->direct.all()) is_reached |= link->last_answer_ns() > began_ns;
  switch (server->reach.EndProbe(is_reached, now_ns)) {
    case ServerReach::Change::kNone:
      return;
    case ServerReach::Change::kWentDown:
      // What waits goes the other way.
      for (const auto& link : server->direct.all()) link->BreakIfWaitingSince(now_ns);
      WantNewerMap();  // another may have taken over
      return;
    case ServerReach::Change::kCameBack:
      return LogOutage(*server);
  }
}

void ChunkClient::Core::NoteDirectAnswer(ChunkServer& server) {
  if (!server.reach.is_down()) return;
  if (server.reach.NoteDirectAnswer(clock->MonotonicNs()) == ServerReach::Change::kCameBack) LogOutage(server);
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
    const Look look = LookAtServer(server, now_ns);
    busy |= look.busy;
    silent |= look.silent;
  }
  if (silent) WantNewerMap();
  if (busy && !watching_.exchange(true)) ScheduleWatch();
}

ChunkClient::Core::Look ChunkClient::Core::LookAtServer(const std::shared_ptr<ChunkServer>& server, int64_t now_ns) {
  Look look;
  const bool is_down = server->reach.is_down();
  bool doubtful = is_down;
  for (const auto& link : server->direct.all()) {
    look.busy |= link->busy();
    if (link->SilentNs(now_ns) < kSilentNs) continue;
    doubtful = true;
    // Reads may wait for a disk, and need no newer map for that.
    look.silent |= link == server->direct.writes;
    link->BreakIfWaitingSince(is_down ? now_ns : server->left_at_ns.load());
  }
  for (const auto& link : server->relayed.all()) {
    look.busy |= link->busy();
    if (link->SilentNs(now_ns) < kSilentNs) continue;
    look.silent |= link == server->relayed.writes;
    // It may be the other server that is silent.
    const std::string relay = link->peer_address();
    const auto through = relay.empty() ? nullptr : ServerAt(relay);
    if (through != nullptr) DoubtServer(through);
    link->BreakIfWaitingSince(through != nullptr && through->reach.is_down() ? now_ns : server->left_at_ns.load());
  }
  if (doubtful) DoubtServer(server);
  return look;
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
  return sequences_[group].numbers.Begin();
}

void ChunkClient::Core::EndSequence(GroupId group, uint64_t sequence) { EndUncertainSequence(group, sequence, nullptr); }

void ChunkClient::Core::EndUncertainSequence(GroupId group, uint64_t sequence, std::function<void()> done) {
  std::vector<std::function<void()>> over;
  {
    MutexLock lock(mutex_);
    GroupWrites& writes = sequences_[group];
    writes.numbers.End(sequence);
    if (done != nullptr) writes.uncertain.emplace(sequence, std::move(done));
    const auto end = writes.uncertain.upper_bound(writes.numbers.acked_through());
    for (auto it = writes.uncertain.begin(); it != end; ++it) over.push_back(std::move(it->second));
    writes.uncertain.erase(writes.uncertain.begin(), end);
  }
  for (const auto& each : over) each();
}

uint64_t ChunkClient::Core::AckedThrough(GroupId group) {
  MutexLock lock(mutex_);
  return sequences_[group].numbers.acked_through();
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
  std::vector<std::shared_ptr<rpc::FrameClient>> probes;
  std::vector<ChunkOperationPtr> stopped;
  {
    MutexLock lock(mutex_);
    closed_.store(true);
    for (const auto& [address, server] : servers_) {
      for (const ServerLinks* each : {&server->direct, &server->relayed}) {
        links.insert(links.end(), each->reads.begin(), each->reads.end());
        links.push_back(each->writes);
      }
    }
    for (const auto& [address, probe] : probes_) probes.push_back(probe);
    stopped.assign(parked_.begin(), parked_.end());
    parked_.clear();
    for (auto& [address, gate] : write_gates_) {
      for (const auto& [operation, bytes] : gate.waiting) stopped.push_back(operation);
      gate.waiting.clear();
    }
  }
  for (const auto& link : links) link->Close();
  for (const auto& probe : probes) probe->Close();
  const Status cancelled(StatusCode::kCancelled, "the client is shutting down");
  for (const ChunkOperationPtr& operation : stopped) operation->Fail(cancelled);
}

}  // namespace tarn::client
