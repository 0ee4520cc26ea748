// TargetReplication: finds the replica that is meant, adopts maps, and lets requests of a newer epoch wait for its map.

#include <map>
#include <utility>

#include "chunkserver/replication/chunk_repair.h"
#include "chunkserver/replication/client_change.h"
#include "chunkserver/replication/commit_job.h"
#include "chunkserver/replication/confirmations.h"
#include "chunkserver/replication/context.h"
#include "chunkserver/replication/member_change.h"
#include "chunkserver/replication/read_grants.h"
#include "chunkserver/replication/replica.h"
#include "chunkserver/replication/sync_job.h"
#include "chunkserver/replication/target_replication.h"

namespace tarn::replication {
namespace {

// Requests of peers that wait for a newer map.
constexpr size_t kParkedMax = 4'096;

// Requests that name an epoch newer than the map. Thread-safe.
class ParkedRequests : public std::enable_shared_from_this<ParkedRequests> {
 public:
  explicit ParkedRequests(ContextPtr ctx) : ctx_(std::move(ctx)) {}

  // `again` runs after the next map; `refuse` instead if none comes in time, or there is no room.
  void Park(std::function<void()> again, std::function<void()> refuse) {
    uint64_t number = 0;
    {
      MutexLock lock(mutex_);
      if (requests_.size() < kParkedMax) {
        number = ++last_number_;
        requests_.emplace(number, std::pair(std::move(again), refuse));
      }
    }
    if (number == 0) return refuse();
    ctx_->authority->WantMap(ctx_->map_version() + 1);
    ctx_->executor->RunAfter(ctx_->options.member_timeout_ms, [self = shared_from_this(), number] {
      std::function<void()> refuse_late;
      {
        MutexLock lock(self->mutex_);
        const auto found = self->requests_.find(number);
        if (found == self->requests_.end()) return;
        refuse_late = std::move(found->second.second);
        self->requests_.erase(found);
      }
      refuse_late();
    });
  }
  void Resume() {
    std::map<uint64_t, Request> requests;
    {
      MutexLock lock(mutex_);
      requests.swap(requests_);
    }
    for (auto& [number, request] : requests) request.first();
  }

 private:
  using Request = std::pair<std::function<void()>, std::function<void()>>;
  const ContextPtr ctx_;
  Mutex mutex_;
  uint64_t last_number_ GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Request> requests_ GUARDED_BY(mutex_);
};

// A peer's request, kept whole so that it can wait.
struct PeerRequest {
  rpc::Method method;
  std::vector<uint8_t> message;
  std::span<const uint8_t> payload;
  std::shared_ptr<void> holder;
  ResponderPtr responder;
};

template <typename Message>
std::shared_ptr<const Message> Parse(const PeerRequest& request) {
  auto message = std::make_shared<Message>();
  if (message->ParseFromArray(request.message.data(), static_cast<int>(request.message.size()))) return message;
  request.responder->Fail(Status(StatusCode::kInvalidArgument, "a message that cannot be read"));
  return nullptr;
}

class Engine final : public TargetReplication {
 public:
  explicit Engine(ContextPtr ctx)
      : ctx_(std::move(ctx)), grants_(std::make_shared<GrantKeeper>(ctx_)), parked_(std::make_shared<ParkedRequests>(ctx_)) {}
  ~Engine() override { Stop(); }

  void AdoptMap(std::shared_ptr<const proto::ClusterMap> map) override;
  void ExtendLease(int64_t sent_ns, int64_t lease_ms) override {
    const int64_t until_ns = sent_ns + lease_ms * kNsPerMs;
    int64_t known_ns = ctx_->lease_until_ns.load();
    while (known_ns < until_ns && !ctx_->lease_until_ns.compare_exchange_weak(known_ns, until_ns)) {
    }
  }
  void SetIncarnation(Incarnation incarnation) override { ctx_->incarnation = incarnation.value(); }

  ReadVerdict AdmitRead(GroupId group, Epoch epoch, ChunkId chunk) override;
  ReadVerdict AdmitConfirmedRead(GroupId group, Epoch epoch, ChunkId chunk) override;
  void Write(ClientWrite write, ChangeCallback done) override {
    auto change = std::make_shared<ClientChange>();
    change->write = std::move(write.request);
    change->payload = write.payload;
    change->holder = std::move(write.holder);
    change->done = std::move(done);
    Submit(std::move(change));
  }
  void Truncate(std::shared_ptr<const proto::TruncateChunkRequest> request, ChangeCallback done) override {
    auto change = std::make_shared<ClientChange>();
    change->truncate = std::move(request);
    change->done = std::move(done);
    Submit(std::move(change));
  }
  void Commit(const std::vector<GroupId>& groups, std::function<void(Status, std::vector<GroupId>)> done) override;
  void HandlePeer(rpc::Method method, std::span<const uint8_t> message, std::span<const uint8_t> payload, std::shared_ptr<void> holder,
                  std::shared_ptr<PeerResponder> responder) override {
    auto request = std::make_shared<PeerRequest>(
        PeerRequest{method, {message.begin(), message.end()}, payload, std::move(holder), std::move(responder)});
    Dispatch(request);
  }
  void RepairChunk(GroupId group, ChunkId chunk, std::function<void(Status)> done) override {
    const ReplicaPtr replica = ctx_->table.load()->Find(group);
    if (replica == nullptr) return done(Status(StatusCode::kStaleEpoch, "the group is not on this target"));
    replication::RepairChunk(replica, chunk, done);
  }
  std::vector<proto::SyncProgress> Progress() override;
  uint64_t map_version() const override { return ctx_->settled_version.load(); }
  void Stop() override;

 private:
  void Submit(std::shared_ptr<ClientChange> change);
  void Dispatch(const std::shared_ptr<PeerRequest>& request);
  void HandleCommit(const ResponderPtr& responder);
  // The replica, if the request's epoch is this map's; else the request is answered or parked, and null returned.
  ReplicaPtr Admit(const std::shared_ptr<PeerRequest>& request, const proto::GroupAddress& address);
  template <typename Message, typename Handler>
  void DispatchTo(const std::shared_ptr<PeerRequest>& request, Handler handler) {
    const std::shared_ptr<const Message> message = Parse<Message>(*request);
    if (message == nullptr) return;
    if (const ReplicaPtr replica = Admit(request, message->member())) handler(replica, message);
  }
  // The version is acknowledged when no write that was admitted before is still being applied: its session may be fenced now.
  void Settle(uint64_t version, const ReplicaTable& table);

  const ContextPtr ctx_;
  const std::shared_ptr<GrantKeeper> grants_;
  const std::shared_ptr<ParkedRequests> parked_;
  Mutex adopt_mutex_;  // one map at a time
};

void Engine::AdoptMap(std::shared_ptr<const proto::ClusterMap> map) {
  {
    MutexLock lock(adopt_mutex_);
    const auto older = ctx_->table.load();
    if (ctx_->stopped || map->version() <= older->version) return;
    auto table = std::make_shared<ReplicaTable>();
    table->version = map->version();
    for (const proto::FencedSession& fenced : map->fenced_sessions()) table->fenced.emplace(fenced.session());
    std::vector<std::pair<ReplicaPtr, GroupView>> views;
    for (const proto::PlacementGroup& group : map->groups()) {
      const GroupView view = GroupView::From(group);
      table->epochs[view.id] = view.epoch;
      ReplicaPtr replica = older->Find(view.id);
      const bool is_member = view.RoleOf(ctx_->target) != Role::kNone;
      if (replica == nullptr && is_member) replica = std::make_shared<Replica>(ctx_, view.id);
      if (replica == nullptr) continue;
      if (is_member) table->replicas.emplace(view.id, replica);
      views.emplace_back(std::move(replica), view);
    }
    ctx_->table.store(table);
    for (const auto& [replica, view] : views) replica->Adopt(view);
    Settle(table->version, *table);
  }
  parked_->Resume();
}

void Engine::Settle(uint64_t version, const ReplicaTable& table) {
  // Counts down; the last one to go settles.
  const std::shared_ptr<void> settling(nullptr, [ctx = ctx_, version](void*) {
    uint64_t known = ctx->settled_version.load();
    while (known < version && !ctx->settled_version.compare_exchange_weak(known, version)) {
    }
  });
  for (const auto& [group, replica] : table.replicas) {
    Callbacks drained;  // at once: nothing to wait for
    MutexLock lock(replica->mutex);
    replica->applying.WhenDrained([settling] {}, &drained);
  }
}

ReadVerdict Engine::AdmitRead(GroupId group, Epoch epoch, ChunkId chunk) {
  const auto table = ctx_->table.load(std::memory_order_acquire);
  const auto found = table->replicas.find(group);
  if (found == table->replicas.end()) return {.code = StatusCode::kStaleEpoch, .map_version = table->version};
  const ReadVerdict verdict = found->second->AdmitRead(epoch, chunk);
  if (found->second->WantsGrant()) grants_->Want(found->second);
  return verdict;
}

ReadVerdict Engine::AdmitConfirmedRead(GroupId group, Epoch epoch, ChunkId chunk) {
  const auto table = ctx_->table.load(std::memory_order_acquire);
  const auto found = table->replicas.find(group);
  if (found == table->replicas.end()) return {.code = StatusCode::kStaleEpoch, .map_version = table->version};
  return found->second->AdmitConfirmedRead(epoch, chunk);
}

void Engine::Submit(std::shared_ptr<ClientChange> change) {
  const auto table = ctx_->table.load();
  const ReplicaPtr replica = table->Find(GroupId(change->address().group()));
  if (replica == nullptr) {
    return change->done({.status = Status(StatusCode::kStaleEpoch, "the group is not on this target"), .map_version = table->version,
                         .outcome = {}, .durable = false});
  }
  SubmitChange(replica, std::move(change));
}

void Engine::Commit(const std::vector<GroupId>& groups, std::function<void(Status, std::vector<GroupId>)> done) {
  const auto table = ctx_->table.load();
  std::vector<ReplicaPtr> replicas;
  std::vector<GroupId> absent;
  for (const GroupId group : groups) {
    const ReplicaPtr replica = table->Find(group);
    replica == nullptr ? absent.push_back(group) : replicas.push_back(replica);
  }
  CommitGroups(ctx_, replicas, [absent, done = std::move(done)](const Status& status, const std::vector<GroupId>& not_primary) {
    std::vector<GroupId> all = absent;
    all.insert(all.end(), not_primary.begin(), not_primary.end());
    done(status, std::move(all));
  });
}

ReplicaPtr Engine::Admit(const std::shared_ptr<PeerRequest>& request, const proto::GroupAddress& address) {
  const auto fail = [&](StatusCode code, const char* why) {
    request->responder->Fail(Status(code, why), ctx_->map_version());
    return nullptr;
  };
  if (TargetId(address.target()) != ctx_->target) return fail(StatusCode::kWrongIncarnation, "this is another target");
  if (!ctx_->HasLease()) return fail(StatusCode::kUnavailable, "the target has no lease");
  const auto table = ctx_->table.load();
  const auto epoch = table->epochs.find(GroupId(address.group()));
  if (epoch == table->epochs.end() || epoch->second < Epoch(address.epoch())) {
    parked_->Park([this, request] { Dispatch(request); },
                  [ctx = ctx_, request] { request->responder->Fail(Status(StatusCode::kUnavailable, "the map is on its way"), ctx->map_version()); });
    return nullptr;
  }
  const ReplicaPtr replica = table->Find(GroupId(address.group()));
  if (replica == nullptr || epoch->second > Epoch(address.epoch())) return fail(StatusCode::kStaleEpoch, "another epoch of the group is current");
  return replica;
}

void Engine::Dispatch(const std::shared_ptr<PeerRequest>& request) {
  if (ctx_->stopped) return request->responder->Fail(Status(StatusCode::kCancelled, "the server stops"));
  const ResponderPtr& responder = request->responder;
  switch (request->method) {
    case rpc::Method::kReplicate:
      return DispatchTo<proto::ReplicateRequest>(request, [&](const ReplicaPtr& replica, const auto& message) {
        HandleReplicate(replica, message, request->payload, request->holder, responder);
      });
    case rpc::Method::kReconcile:
      return DispatchTo<proto::ReconcileRequest>(
          request, [&](const ReplicaPtr& replica, const auto& message) { HandleReconcile(replica, *message, responder); });
    case rpc::Method::kInventory:
      return DispatchTo<proto::InventoryRequest>(
          request, [&](const ReplicaPtr& replica, const auto& message) { HandleInventory(replica, message, responder); });
    case rpc::Method::kChunkSums:
      return DispatchTo<proto::ChunkSumsRequest>(
          request, [&](const ReplicaPtr& replica, const auto& message) { HandleChunkSums(replica, message, responder); });
    case rpc::Method::kInstallChunk:
      return DispatchTo<proto::InstallChunkRequest>(request, [&](const ReplicaPtr& replica, const auto& message) {
        HandleInstallChunk(replica, message, request->payload, request->holder, responder);
      });
    case rpc::Method::kInstallWindows:
      return DispatchTo<proto::InstallWindowsRequest>(
          request, [&](const ReplicaPtr& replica, const auto& message) { HandleInstallWindows(replica, message, responder); });
    case rpc::Method::kReadGrant: {
      const auto message = Parse<proto::ReadGrantRequest>(*request);
      if (message == nullptr) return;
      if (!ctx_->HasLease()) return responder->Fail(Status(StatusCode::kUnavailable, "the target has no lease"));
      return HandleReadGrant(ctx_, *message, responder);
    }
    case rpc::Method::kConfirmChanges: {
      const auto message = Parse<proto::ConfirmChangesRequest>(*request);
      if (message == nullptr) return;
      return HandleConfirmChanges(ctx_, *message, responder);
    }
    case rpc::Method::kCommitTarget: return HandleCommit(responder);
    default: return responder->Fail(Status(StatusCode::kNotSupported, "not a method between members"));
  }
}

// A process that has no lease may have lost what its predecessor acknowledged, and be a member still in everybody's eyes.
void Engine::HandleCommit(const ResponderPtr& responder) {
  if (!ctx_->HasLease()) return responder->Fail(Status(StatusCode::kUnavailable, "the target has no lease"));
  ctx_->store->WhenDurable([ctx = ctx_, responder](const Status& status) {
    if (!status.ok()) return responder->Fail(status);
    proto::CommitTargetReply reply;
    reply.set_incarnation(ctx->incarnation);
    responder->Reply(reply);
  });
}

std::vector<proto::SyncProgress> Engine::Progress() {
  std::vector<proto::SyncProgress> progress;
  for (const auto& [group, replica] : ctx_->table.load()->replicas) {
    MutexLock lock(replica->mutex);
    for (const auto& [member, job] : replica->syncs) progress.push_back(job->Progress());
  }
  return progress;
}

void Engine::Stop() {
  if (ctx_->stopped.exchange(true)) return;
  MutexLock lock(adopt_mutex_);
  for (const auto& [group, replica] : ctx_->table.load()->replicas) replica->Stop();
  parked_->Resume();
}

}  // namespace

std::unique_ptr<TargetReplication> TargetReplication::Create(const ReplicationOptions& options, TargetId target, store::ReplicaStore* store,
                                                             PeerNetwork* network, GroupAuthority* authority, Executor* executor) {
  return std::make_unique<Engine>(std::make_shared<Context>(options, target, store, network, authority, executor));
}

}  // namespace tarn::replication
