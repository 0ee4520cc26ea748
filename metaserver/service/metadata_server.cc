#include "metaserver/service/metadata_server.h"

#include <grpc/support/log.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <utility>
#include <vector>

#include "common/rpc/event_loop.h"
#include "common/rpc/frame_server.h"
#include "metaserver/replication/raft_replicator.h"
#include "metaserver/service/admin_service.h"
#include "metaserver/service/cluster_service.h"
#include "metaserver/service/data_directory.h"
#include "metaserver/service/group_client.h"
#include "metaserver/service/data_reconciler.h"
#include "metaserver/service/group_keeper.h"
#include "metaserver/service/lock_notifier.h"
#include "metaserver/service/maintenance.h"
#include "metaserver/service/member_service.h"
#include "metaserver/service/member_table.h"
#include "metaserver/service/memory_budget.h"
#include "metaserver/service/metadata_service.h"
#include "metaserver/service/peer_transport.h"
#include "metaserver/service/proposer.h"
#include "metaserver/service/replication_keeper.h"
#include "metaserver/service/reply_faults.h"
#include "metaserver/service/server_registry.h"
#include "metaserver/service/service_context.h"
#include "metaserver/service/session_keeper.h"
#include "metaserver/service/state_applier.h"
#include "metaserver/state/deferred_writes.h"
#include "metaserver/state/rocks_kv.h"
#include "metaserver/state/state_machine.h"

namespace tarn::meta {
namespace {

constexpr int64_t kMaintenanceIntervalMs = 100;
constexpr uint32_t kRequestsInFlightMax = 8192;
constexpr uint64_t kStepsBetweenAnnouncements = 5;
// Between two commands that remove or count in the background: what clients want goes first.
constexpr int64_t kBackgroundPauseMs = 10;
constexpr auto kGrpcShutdownTime = std::chrono::seconds(2);
constexpr int kGrpcThreadsMax = 64;
constexpr auto kHandOverTimeMax = std::chrono::seconds(2);

// gRPC's own complaints: what matters of them comes back as errors.
void LogOfGrpc(gpr_log_func_args* args) { spdlog::debug("grpc: {} ({}:{})", args->message, args->file, args->line); }

std::string HostOf(const std::string& address) { return address.substr(0, address.rfind(':')); }

class MetadataServerImpl final : public MetadataServer {
 public:
  MetadataServerImpl(const MetadataServerOptions& options, DataDirectory directory, Clock* clock, Random* random)
      : options_(options),
        directory_(std::move(directory)),
        clock_(clock),
        random_(random),
        seeds_(random->Next()),
        sessions_(clock, options.session_lease_ms),
        coherence_(PushCoordinatorOptions(), clock, &sessions_),
        servers_(clock, options.target_lease_ms, options.former_target_lease_ms),
        members_(clock, [this] { return state_->cluster_map(); }) {}
  ~MetadataServerImpl() override;
  MetadataServerImpl(const MetadataServerImpl&) = delete;
  MetadataServerImpl& operator=(const MetadataServerImpl&) = delete;

  // In this order.
  Status Listen();
  Status FindIdentity();
  Status OpenState();
  Status OpenLog();
  void Run();

  const std::string& address() const override { return context_.self.address; }
  const std::string& grpc_address() const override { return context_.self.grpc_address; }
  const std::string& cluster_id() const override { return directory_.identity().cluster_id; }
  bool leads() const override { return context_.CheckLease().ok() && coherence_.term() != 0; }

 private:
  Status ListenGrpc(const std::string& address);
  Status Join(MetaserverIdentity* identity);
  void HandOverLeadership();
  // The log's own thread, while nothing is applied.
  Status FetchState(const CheckpointRequest& request);
  Result<uint64_t> InstallCheckpoint(const CheckpointRequest& request);
  void OnGained(uint64_t term);
  void OnLost();
  void OnFailed(const Status& status) const {
    if (options_.on_failure) options_.on_failure(status);
  }
  // What is granted from now on belongs to this leadership.
  void BeginGranting();
  void SettleOrphan(InodeId inode, const std::vector<SessionId>& holders, std::function<void(const Status&)> done);
  // On `loop` itself: while the server ends, maintenance_loop_ is empty already, but the loop still runs what is due.
  void ScheduleMaintenance(rpc::EventLoop* loop, int64_t interval_ms);
  void AnnounceIfForgotten();

  const MetadataServerOptions options_;
  DataDirectory directory_;
  Clock* const clock_;
  Random* const random_;
  SeededRandom seeds_;  // the proposer's
  uint64_t steps_without_leader_ = 0;  // maintenance loop

  // Apply thread: this member leads, and has applied nothing since.
  bool begins_to_lead_ = false;
  std::vector<proto::SessionRecord> sessions_at_start_;
  std::vector<InodeId> orphans_at_start_;

  // Destroyed in the reverse order: first who asks, last what is asked.
  std::unique_ptr<RocksKv> rocks_;
  std::unique_ptr<DeferredWrites> store_;  // in front of rocks_
  std::unique_ptr<StateMachine> state_;
  std::unique_ptr<StateApplier> applier_;
  SessionKeeper sessions_;
  PushCoordinator coherence_;
  LockNotifier locks_;
  ServerRegistry servers_;
  MemberTable members_;
  std::unique_ptr<ReplyFaults> reply_faults_;
  ServiceContext context_;
  std::unique_ptr<rpc::EventLoop> peers_loop_;
  std::unique_ptr<PeerTransport> transport_;
  std::unique_ptr<Proposer> proposer_;
  std::unique_ptr<Maintenance> maintenance_;
  std::unique_ptr<ReplicationKeeper> replication_keeper_;
  std::unique_ptr<GroupKeeper> group_keeper_;
  std::unique_ptr<DataReconciler> reconciler_;
  std::unique_ptr<MetadataService> metadata_service_;
  std::unique_ptr<ClusterServiceImpl> cluster_service_;
  std::unique_ptr<AdminServiceImpl> admin_service_;
  std::unique_ptr<MemberServiceImpl> member_service_;
  std::unique_ptr<RaftReplicator> replicator_;
  std::unique_ptr<rpc::EventLoop> maintenance_loop_;
  std::unique_ptr<grpc::Server> grpc_server_;
  std::unique_ptr<rpc::FrameServer> frame_server_;
};

MetadataServerImpl::~MetadataServerImpl() {
  if (replicator_) HandOverLeadership();
  frame_server_.reset();
  if (grpc_server_) {
    grpc_server_->Shutdown(std::chrono::system_clock::now() + kGrpcShutdownTime);
    grpc_server_.reset();
  }
  maintenance_loop_.reset();
  if (proposer_) proposer_->Stop();
  if (reconciler_) reconciler_->Stop();
  if (replicator_) replicator_->Stop();
  if (transport_) transport_->Close();
  peers_loop_.reset();
}

// While this member still listens: else the others would have to notice its silence first.
void MetadataServerImpl::HandOverLeadership() {
  const auto members = replicator_->members();
  const auto voters =
      std::ranges::count_if(members, [](const GroupMember& member) { return member.role == MemberRole::kVoter; });
  if (voters < 2 || !replicator_->HoldsLease()) return;
  const auto done = std::make_shared<std::promise<Status>>();
  std::future<Status> answer = done->get_future();
  replicator_->TransferLeadership(0, [done](const Status& status) { done->set_value(status); });
  if (answer.wait_for(kHandOverTimeMax) != std::future_status::ready) {
    spdlog::warn("leadership could not be handed over in time");
  } else if (const Status status = answer.get(); !status.ok()) {
    spdlog::warn("leadership could not be handed over: {}", status.ToString());
  }
}

Status MetadataServerImpl::FindIdentity() {
  if (directory_.is_new()) {
    MetaserverIdentity identity;
    identity.created_ns = clock_->WallNs();
    if (options_.join.empty()) {
      identity.cluster_id = NewClusterId(random_);
      identity.member_id = 1;
      spdlog::warn(
          "the directory is empty and there is no --join: this makes a new cluster id={}. If there was one before, stop "
          "this server and empty the directory; then start with --join ADDRESS of another metadata server, or bring the "
          "state back with --restore",
          identity.cluster_id);
    } else {
      RETURN_IF_ERROR(Join(&identity));
    }
    RETURN_IF_ERROR(directory_.Create(identity, [&](const std::string& log_path) {
      return options_.join.empty()
                 ? RaftReplicator::Bootstrap(log_path, identity.member_id, MemberName(identity.member_id))
                 : RaftReplicator::PrepareToJoin(log_path);
    }));
  }
  context_.self.cluster_id = directory_.identity().cluster_id;
  context_.self.member_id = directory_.identity().member_id;
  return Status::Ok();
}

Status MetadataServerImpl::Join(MetaserverIdentity* identity) {
  proto::JoinGroupRequest request;
  request.set_address(context_.self.address);
  request.set_grpc_address(context_.self.grpc_address);
  request.set_nonce(directory_.nonce());
  request.set_replaces(options_.replaces_member);
  ASSIGN_OR_RETURN(const proto::JoinGroupReply reply,
                   JoinGroup(peers_loop_.get(), *clock_, options_.join, request, options_.join_timeout_ms,
                             [this] { return options_.cancelled && options_.cancelled(); }));
  if (reply.member() == 0 || reply.cluster_id().empty())
    return Status(StatusCode::kInternal, "the group took this server in without giving it an id");
  identity->cluster_id = reply.cluster_id();
  identity->member_id = reply.member();
  spdlog::info("joins the group member={} members={}", reply.member(), reply.members_size());
  return Status::Ok();
}

Status MetadataServerImpl::OpenState() {
  RocksKvOptions store_options;
  const MemoryBudget memory = ShareOut(options_.memory_bytes);
  store_options.memory_bytes = memory.store_bytes;
  ASSIGN_OR_RETURN(rocks_, RocksKv::Open(directory_.state_path(), store_options));
  DeferredWrites::Bounds deferred;
  deferred.bytes_max = memory.deferred_bytes;
  store_ = std::make_unique<DeferredWrites>(rocks_.get(), deferred);
  ASSIGN_OR_RETURN(state_, StateMachine::Open(store_.get()));
  const std::string cluster_id = state_->header().cluster_id();
  if (!cluster_id.empty() && cluster_id != directory_.identity().cluster_id) {
    return Status(StatusCode::kCorruption,
                  directory_.state_path() + ": belongs to another cluster than METASERVER beside it");
  }
  applier_ = std::make_unique<StateApplier>(state_.get(), store_.get());
  return Status::Ok();
}

Status MetadataServerImpl::OpenLog() {
  PeerTransportOptions peers;
  peers.cluster_id = context_.self.cluster_id;
  peers.member_id = context_.self.member_id;
  peers.address = context_.self.address;
  peers.grpc_address = context_.self.grpc_address;
  peers.pid = context_.self.pid;
  transport_ = std::make_unique<PeerTransport>(
      peers, peers_loop_.get(), clock_, [this](uint64_t member) { return members_.Find(member).address(); },
      [this](const Status& status) { OnFailed(status.WithContext("this server's directory is of no use any more")); });
  RaftReplicatorOptions log_options;
  log_options.directory = directory_.log_path();
  log_options.member_id = directory_.identity().member_id;
  log_options.transport = transport_.get();
  log_options.address = MemberName(context_.self.member_id);
  log_options.clock = clock_;
  log_options.cluster_id = directory_.identity().cluster_id;
  log_options.address = options_.advertise.empty() ? options_.listen : options_.advertise;
  log_options.clock = clock_;
  log_options.applied_entries = state_->applied_entries();
  log_options.election_timeout_ms = options_.election_timeout_ms;
  log_options.snapshot_entries_max = options_.snapshot_entries_max;
  const MemoryBudget memory = ShareOut(options_.memory_bytes);
  log_options.snapshot_bytes_max = memory.log_bytes;
  ProposerOptions proposer_options;
  proposer_options.waiting_bytes_max = memory.waiting_mutations_bytes;
  ASSIGN_OR_RETURN(replicator_, RaftReplicator::Open(log_options, applier_.get(), random_));
  proposer_ = std::make_unique<Proposer>(proposer_options, replicator_.get(), clock_, &seeds_,
                                         [this] { return applier_->TakeReplies(); });
  context_.clock = clock_;
  context_.store = store_.get();
  context_.checkpoints_path = directory_.checkpoint_path();
  context_.state = state_.get();
  context_.members = &members_;
  context_.replicator = replicator_.get();
  context_.proposer = proposer_.get();
  context_.sessions = &sessions_;
  context_.coherence = &coherence_;
  context_.locks = &locks_;
  coherence_.SetSettle([this](InodeId inode, std::vector<SessionId> holders, auto done) {
    SettleOrphan(inode, holders, std::move(done));
  });
  context_.servers = &servers_;
  if (options_.faults != nullptr) {
    reply_faults_ = std::make_unique<ReplyFaults>(options_.faults, options_.fault_delay_ms);
    context_.reply_faults = reply_faults_.get();
  }
  context_.receive_message = [this](uint64_t from, std::string message) {
    replicator_->Receive(from, MemberName(from), std::move(message));
  };
  context_.reclaim_delay_ms = options_.reclaim_delay_ms;
  context_.heartbeat_interval_ms = std::clamp<int64_t>(options_.target_lease_ms / 5, 100, 1'000);
  maintenance_ = std::make_unique<Maintenance>(&context_, MaintenanceOptions());
  ReplicationPolicy replication;
  replication.replace_delay_ms = options_.replace_delay_ms;
  replication_keeper_ = std::make_unique<ReplicationKeeper>(&context_, replication);
  context_.replication = replication_keeper_.get();
  group_keeper_ = std::make_unique<GroupKeeper>(&context_);
  ReconcilePolicy reconcile;
  reconcile.interval_ms = options_.reconcile_interval_ms;
  reconcile.quarantine_ms = options_.orphan_quarantine_ms;
  reconciler_ = std::make_unique<DataReconciler>(&context_, reconcile);
  context_.reconciler = reconciler_.get();
  applier_->SetListener({.gained = [this](uint64_t term) { OnGained(term); },
                         .lost = [this] { OnLost(); },
                         .wants_changes = [this] { return begins_to_lead_ || coherence_.WantsChanges() || locks_.any(); },
                         .applied =
                             [this](const auto& entry, const auto& replies, const auto& changes) {
                               if (begins_to_lead_) BeginGranting();
                               coherence_.OnApplied(entry, replies, changes);
                               locks_.OnApplied(changes);
                             },
                         .failed = [this](const Status& status) { OnFailed(status); },
                         .install = [this](const CheckpointRequest& request) { return InstallCheckpoint(request); }});
  return Status::Ok();
}

// The leader's is the newest. But it may die while it sends, and this member be needed to elect another: any state with
// enough entries will do, for all of them were committed.
Status MetadataServerImpl::FetchState(const CheckpointRequest& request) {
  std::vector<uint64_t> sources;
  if (request.leader != 0) sources.push_back(request.leader);
  for (const GroupMember& other : replicator_->members()) {
    if (other.member != request.leader && other.member != context_.self.member_id) sources.push_back(other.member);
  }
  proto::FetchCheckpointRequest fetch;
  fetch.set_cluster_id(context_.self.cluster_id);
  fetch.set_member(context_.self.member_id);
  fetch.set_at_least_entries(request.at_least_entries);
  const auto cancelled = [&request] { return request.cancelled && request.cancelled(); };
  Status fetched(StatusCode::kUnavailable, "it is not known where the other members are");
  for (const uint64_t source : sources) {
    const std::string grpc_address = members_.Find(source).grpc_address();
    if (grpc_address.empty()) continue;
    spdlog::info("fetches a checkpoint from member {} at_least_entries={}", source, request.at_least_entries);
    fetched = FetchCheckpoint(peers_loop_.get(), clock_, grpc_address, fetch, directory_.incoming_path(), cancelled);
    // Damaged on the way, not on this disk.
    if (fetched.code() == StatusCode::kCorruption) fetched = Status(StatusCode::kUnavailable, fetched.message());
    if (fetched.code() != StatusCode::kUnavailable && fetched.code() != StatusCode::kTimeout) break;
    if (cancelled()) break;
    spdlog::warn("no checkpoint from member {}: {}", source, fetched.message());
  }
  return fetched;
}

Result<uint64_t> MetadataServerImpl::InstallCheckpoint(const CheckpointRequest& request) {
  RETURN_IF_ERROR(FetchState(request));
  RETURN_IF_ERROR(directory_.MarkIncomingReady());
  RETURN_IF_ERROR(store_->Drain());  // nothing is applied meanwhile
  RETURN_IF_ERROR(rocks_->Replace([this] { return directory_.PutReadyState(); }));
  RETURN_IF_ERROR(state_->Reload());
  const proto::StateHeader header = state_->header();
  if (header.cluster_id() != context_.self.cluster_id || header.applied_entries() < request.at_least_entries) {
    return Status(StatusCode::kCorruption, directory_.state_path() + ": the checkpoint received is of " +
                                               std::to_string(header.applied_entries()) +
                                               " entries, or of another cluster");
  }
  spdlog::info("took over a checkpoint applied_entries={}", header.applied_entries());
  return header.applied_entries();
}

Status MetadataServerImpl::ListenGrpc(const std::string& address) {
  gpr_set_log_function(LogOfGrpc);
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  // Else two servers could listen on one port, each getting some of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  grpc::ResourceQuota quota("tarn-metaserver");
  quota.SetMaxThreads(kGrpcThreadsMax);
  builder.SetResourceQuota(quota);
  builder.RegisterService(cluster_service_.get());
  builder.RegisterService(admin_service_.get());
  builder.RegisterService(member_service_.get());
  grpc_server_ = builder.BuildAndStart();
  if (grpc_server_ == nullptr || port == 0) return Status(StatusCode::kBusy, "cannot listen on " + address + " (gRPC)");
  const std::string& host_source = options_.advertise.empty() ? address : options_.advertise;
  context_.self.grpc_address = HostOf(host_source) + ":" + std::to_string(port);
  return Status::Ok();
}

// Before there is an identity: one who joins must be able to say where it will be. Nothing is served before `serving`.
Status MetadataServerImpl::Listen() {
  metadata_service_ = std::make_unique<MetadataService>(&context_);
  cluster_service_ = std::make_unique<ClusterServiceImpl>(&context_);
  admin_service_ = std::make_unique<AdminServiceImpl>(&context_);
  member_service_ = std::make_unique<MemberServiceImpl>(&context_, directory_.checkpoint_path());
  rpc::FrameServerOptions frame_options;
  frame_options.listen = options_.listen;
  frame_options.loop_threads = options_.loop_threads;
  // More than a client has in flight: acknowledgements must get through however many of its changes wait for others.
  frame_options.requests_in_flight_max = kRequestsInFlightMax;
  ASSIGN_OR_RETURN(frame_server_, rpc::FrameServer::Start(
                                      frame_options,
                                      [this](const proto::HelloRequest& request, proto::HelloReply* reply) {
                                        return metadata_service_->Hello(request, reply);
                                      },
                                      [this](rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
                                        metadata_service_->Handle(std::move(request), std::move(responder));
                                      }));
  const std::string grpc_listen =
      !options_.grpc_listen.empty() ? options_.grpc_listen : HostOf(frame_server_->address()) + ":0";
  RETURN_IF_ERROR(ListenGrpc(grpc_listen));
  SelfDescription& self = context_.self;
  self.incarnation = random_->NextNonZero();
  self.pid = static_cast<uint64_t>(getpid());
  self.address = options_.advertise.empty() ? frame_server_->address() : options_.advertise;
  self.software_version = options_.software_version;
  ASSIGN_OR_RETURN(peers_loop_, rpc::EventLoop::Start("peers"));
  ASSIGN_OR_RETURN(maintenance_loop_, rpc::EventLoop::Start("maintenance"));
  return Status::Ok();
}

void MetadataServerImpl::Run() {
  context_.serving.store(true, std::memory_order_release);
  replicator_->Start();
  ScheduleMaintenance(maintenance_loop_.get(), kMaintenanceIntervalMs);
  reconciler_->Start();
}

void MetadataServerImpl::ScheduleMaintenance(rpc::EventLoop* loop, int64_t interval_ms) {
  loop->PostAfter(interval_ms, [this, loop] {
    const bool more = maintenance_->Step();
    replication_keeper_->Step();
    group_keeper_->Step();
    AnnounceIfForgotten();
    ScheduleMaintenance(loop, more ? kBackgroundPauseMs : kMaintenanceIntervalMs);
  });
}

// A follower that came back elsewhere waits for a leader that looks for it where it was.
void MetadataServerImpl::AnnounceIfForgotten() {
  if (replicator_->leader_member() != 0 || ++steps_without_leader_ % kStepsBetweenAnnouncements != 0) return;
  for (const proto::MetaserverMember& member : state_->cluster_map()->metaservers()) {
    if (member.id() != context_.self.member_id) transport_->Announce(member.id());
  }
}

void MetadataServerImpl::OnGained(uint64_t term) {
  std::vector<proto::SessionRecord> records;
  if (const Status status = state_->ListSessions(&records); !status.ok()) {
    OnFailed(status.WithContext("read the sessions"));
    return;
  }
  std::vector<SessionId> sessions;
  for (const proto::SessionRecord& record : records) sessions.emplace_back(record.id());
  orphans_at_start_.clear();
  if (const Status status = state_->ListUnsettledOrphans(&orphans_at_start_); !status.ok()) {
    OnFailed(status.WithContext("read the orphans"));
    return;
  }
  sessions_.Reset(sessions);
  sessions_at_start_ = std::move(records);
  begins_to_lead_ = true;
  servers_.Reset(*state_->cluster_map());
  const proto::StateHeader header = state_->header();
  proposer_->BeginLeading(header);
  spdlog::info("leads term={} applied_entries={} sessions={}", term, header.applied_entries(), sessions.size());
  // Settles nothing: it is there to be the first entry of this leadership, by which its grants are known.
  SettleOrphan(InodeId(), {}, [](const Status&) {});
  if (!header.cluster_id().empty()) return;
  std::vector<proto::Mutation> mutations(1);
  mutations[0].mutable_init_cluster()->set_cluster_id(directory_.identity().cluster_id);
  proposer_->Submit(std::move(mutations), [](const Status& status, std::span<proto::MutationReply>) {
    if (!status.ok()) spdlog::error("the cluster could not be made: {}", status.ToString());
  });
}

void MetadataServerImpl::OnLost() {
  spdlog::warn("leadership lost");
  begins_to_lead_ = false;
  proposer_->EndLeading();
  coherence_.EndLeading();
}

// Grants are numbered by the first entry applied under a leadership: no other leadership can have that number, and
// later ones have larger ones.
void MetadataServerImpl::BeginGranting() {
  begins_to_lead_ = false;
  coherence_.BeginLeading(state_->applied_entries(), std::exchange(sessions_at_start_, {}),
                          std::exchange(orphans_at_start_, {}));
}

void MetadataServerImpl::SettleOrphan(InodeId inode, const std::vector<SessionId>& holders,
                                      std::function<void(const Status&)> done) {
  std::vector<proto::Mutation> mutations(1);
  mutations[0].mutable_settle_orphan()->set_inode(inode.value());
  for (const SessionId holder : holders) mutations[0].mutable_settle_orphan()->add_sessions(holder.value());
  proposer_->Submit(std::move(mutations),
                    [done = std::move(done)](const Status& status, std::span<proto::MutationReply>) { done(status); });
}

}  // namespace

Result<std::unique_ptr<MetadataServer>> MetadataServer::Start(const MetadataServerOptions& options, Clock* clock,
                                                              Random* random) {
  ASSIGN_OR_RETURN(DataDirectory directory, DataDirectory::Open(options.directory, random));
  auto server = std::make_unique<MetadataServerImpl>(options, std::move(directory), clock, random);
  RETURN_IF_ERROR(server->Listen());
  RETURN_IF_ERROR(server->FindIdentity());
  RETURN_IF_ERROR(server->OpenState());
  RETURN_IF_ERROR(server->OpenLog());
  server->Run();
  return std::unique_ptr<MetadataServer>(std::move(server));
}

}  // namespace tarn::meta
