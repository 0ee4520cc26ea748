#include "tests/sim/member.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "common/base/check.h"
#include "metaserver/service/group_keeper.h"
#include "metaserver/service/maintenance.h"
#include "metaserver/service/member_requests.h"
#include "metaserver/service/member_table.h"
#include "metaserver/service/metadata_service.h"
#include "metaserver/service/proposer.h"
#include "metaserver/service/push_coordinator.h"
#include "metaserver/service/service_context.h"
#include "metaserver/service/state_applier.h"
#include "proto/hello.pb.h"
#include "proto/types.pb.h"
#include "tests/sim/group_replicator.h"

namespace tarn::sim {
namespace {

constexpr int64_t kMaintenanceNs = 100 * kMillisecond;
constexpr int kPausedReadsMax = 4;

class SimPeer final : public rpc::Peer {
 public:
  SimPeer(uint64_t session, std::function<void(std::string)> push) : push_(std::move(push)) {
    hello_.set_role(proto::PEER_ROLE_CLIENT);
    hello_.set_session(session);
  }
  const proto::HelloRequest& hello() const override { return hello_; }
  const std::string& address() const override { return address_; }
  void Push(rpc::Method, const google::protobuf::MessageLite& message) override {
    if (push_) push_(message.SerializeAsString());
  }
  bool connected() const override { return true; }

 private:
  proto::HelloRequest hello_;
  const std::string address_ = "client";
  const std::function<void(std::string)> push_;
};

class SimResponder final : public rpc::Responder {
 public:
  explicit SimResponder(std::function<void(Answer)> answer) : answer_(std::move(answer)) {}
  void Reply(const google::protobuf::MessageLite& message) override {
    Send({Status::Ok(), message.SerializeAsString(), 0});
  }
  void Reply(const google::protobuf::MessageLite& message, Buffer) override { Reply(message); }
  void ReplyFile(const google::protobuf::MessageLite& message, std::vector<rpc::FilePayload>) override {
    Reply(message);
  }
  void Fail(const Status& status) override { Send({status, {}, 0}); }
  void Fail(const Status& status, proto::ErrorDetail detail) override {
    Send({status, {}, MemberOf(detail.leader_address())});
  }

 private:
  void Send(Answer answer) {
    CHECK(answer_ != nullptr, "a request is answered once");
    std::exchange(answer_, nullptr)(std::move(answer));
  }

  std::function<void(Answer)> answer_;
};

// The replicator as the service sees it: here bugs of the lease are planted.
class WatchedReplicator final : public meta::Replicator {
 public:
  WatchedReplicator(MemberLog* base, uint64_t member_id, Plant plant)
      : base_(base), member_id_(member_id), plant_(plant) {}

  void Propose(std::string entry, Committed committed) override {
    base_->Propose(std::move(entry), std::move(committed));
  }
  bool HoldsLease() const override {
    if (plant_ == Plant::kReadWithoutLease) return base_->leader_member() == member_id_;
    if (plant_ == Plant::kNoSecondLook && looked_) return true;
    looked_ = base_->HoldsLease();
    return looked_;
  }
  // A request begins; with Plant::kNoSecondLook the first look that goes well is the last until then.
  void BeginRequest() { looked_ = false; }
  uint64_t leader_member() const override { return base_->leader_member(); }
  uint64_t term() const override { return base_->term(); }
  std::vector<meta::GroupMember> members() const override { return base_->members(); }
  Result<std::vector<meta::MemberProgress>> Progress() const override { return base_->Progress(); }
  void AddMember(uint64_t member, const std::string& address, Changed done) override {
    base_->AddMember(member, address, std::move(done));
  }
  void PromoteMember(uint64_t member, Changed done) override { base_->PromoteMember(member, std::move(done)); }
  void RemoveMember(uint64_t member, Changed done) override { base_->RemoveMember(member, std::move(done)); }
  void TransferLeadership(uint64_t member, Changed done) override {
    base_->TransferLeadership(member, std::move(done));
  }
  void Stop() override {}

 private:
  MemberLog* const base_;
  const uint64_t member_id_;
  const Plant plant_;
  mutable bool looked_ = false;
};

}  // namespace

std::string AddressOf(uint64_t member) { return "member-" + std::to_string(member); }

uint64_t MemberOf(const std::string& address) {
  return address.empty() ? 0 : std::strtoull(address.c_str() + sizeof("member-") - 1, nullptr, 10);
}

// What a crash ends.
struct Member::Process final : public meta::LogConsumer {
  explicit Process(Member* owner)
      : member(owner),
        store(&owner->state_, owner->cluster_->plan->plant),
        random(owner->cluster_->scheduler),
        sessions(&owner->clock_, owner->cluster_->plan->session_lease_ms),
        coherence(meta::PushCoordinatorOptions(), &owner->clock_, &sessions),
        servers(&owner->clock_, owner->cluster_->plan->target_lease_ms, owner->cluster_->plan->target_lease_ms),
        members(&owner->clock_, [this] { return state->cluster_map(); }) {}

  void Open();
  void Gained(uint64_t term);
  void RegisterAll(uint64_t term, const std::vector<proto::SessionRecord>& records);
  void BeginGranting(uint64_t leadership);
  void Lost() {
    begins_to_lead = false;
    proposer->EndLeading();
    coherence.EndLeading();
  }
  void SettleOrphan(InodeId inode, const std::vector<SessionId>& holders, std::function<void(const Status&)> done);

  // LogConsumer: watched on the way to the applier.
  Status Apply(std::string_view entry, uint64_t number) override {
    Cluster* cluster = member->cluster_;
    cluster->scheduler->Trace("apply", member->id_, number);
    cluster->oracle->OnApply(member->id_, number, entry);
    number_applied = number;
    return applier->Apply(entry, number);
  }
  void LeadershipGained(uint64_t term) override {
    member->cluster_->oracle->OnLeader(member->group_id_, term);
    applier->LeadershipGained(term);
  }
  void LeadershipLost() override { applier->LeadershipLost(); }
  Status MakeDurable() override { return applier->MakeDurable(); }
  void Failed(const Status& status) override { applier->Failed(status); }

  Member* const member;
  SimStore store;
  SimRandom random;
  meta::SessionKeeper sessions;
  meta::PushCoordinator coherence;
  meta::ServerRegistry servers;
  meta::MemberTable members;
  meta::LockNotifier locks;
  uint64_t number_applied = 0;
  // This member leads, and has applied nothing since.
  bool begins_to_lead = false;
  std::vector<proto::SessionRecord> sessions_at_start;
  std::vector<InodeId> orphans_at_start;
  std::unique_ptr<meta::StateMachine> state;
  std::unique_ptr<meta::StateApplier> applier;
  std::unique_ptr<MemberLog> replicator;
  std::unique_ptr<WatchedReplicator> watched;
  std::unique_ptr<meta::Proposer> proposer;
  meta::ServiceContext context;
  std::unique_ptr<meta::Maintenance> maintenance;
  std::unique_ptr<meta::MetadataService> service;
  std::unique_ptr<meta::MemberRequests> requests;
  std::unique_ptr<meta::GroupKeeper> group_keeper;  // null: the group stays as it is
};

void Member::Process::Open() {
  Cluster* cluster = member->cluster_;
  auto opened = meta::StateMachine::Open(&store);
  CHECK(opened.ok(), "a state that was written can be read");
  state = std::move(*opened);
  store.SetWriteListener(
      [this, cluster](const meta::KvBatch& batch) { cluster->oracle->OnBatch(member->id_, number_applied, batch); });
  store.SetReadHook([this] { member->PauseInRead(); });
  applier = std::make_unique<meta::StateApplier>(state.get(), &store);
  meta::StateApplier::Listener listener;
  listener.gained = [this](uint64_t term) { Gained(term); };
  listener.lost = [this] { Lost(); };
  listener.wants_changes = [this] { return begins_to_lead || coherence.WantsChanges(); };
  listener.applied = [this](const auto& entry, const auto& replies, const auto& changes) {
    if (begins_to_lead) BeginGranting(state->applied_entries());
    coherence.OnApplied(entry, replies, changes);
  };
  listener.failed = [this](const Status& status) { member->Violation("a log failed: " + status.ToString()); };
  applier->SetListener(std::move(listener));
  SimReplicator::Options options;
  options.member_id = member->group_id_;
  options.applied_entries = state->applied_entries();
  options.proposer = random.NextNonZero();
  if (member->group_mode_) {
    replicator = std::make_unique<GroupReplicator>(options, *cluster->plan, member, cluster->scheduler, &member->clock_,
                                                   &member->disk_, this);
  } else {
    replicator = std::make_unique<SimReplicator>(options, *cluster->plan, member, cluster->scheduler, &member->clock_,
                                                 &member->disk_, this);
  }
  watched = std::make_unique<WatchedReplicator>(replicator.get(), member->group_id_, cluster->plan->plant);
  proposer = std::make_unique<meta::Proposer>(meta::ProposerOptions(), watched.get(), &member->clock_, &random,
                                              [this] { return applier->TakeReplies(); });
  context.clock = &member->clock_;
  context.store = &store;
  context.state = state.get();
  context.members = &members;
  context.replicator = watched.get();
  context.proposer = proposer.get();
  context.sessions = &sessions;
  context.coherence = &coherence;
  coherence.SetSettle([this](InodeId inode, std::vector<SessionId> holders, auto done) {
    SettleOrphan(inode, holders, std::move(done));
  });
  context.servers = &servers;
  context.locks = &locks;
  context.self.cluster_id = "simulated";
  context.self.member_id = member->group_id_;
  context.self.address = AddressOf(member->id_);
  context.self.grpc_address = AddressOf(member->id_);
  context.receive_message = [this](uint64_t from, std::string message) {
    member->PostToLoop(0, [this, from, message = std::move(message)] { replicator->Receive(from, message); });
  };
  maintenance = std::make_unique<meta::Maintenance>(&context, meta::MaintenanceOptions());
  service = std::make_unique<meta::MetadataService>(&context);
  requests = std::make_unique<meta::MemberRequests>(&context);
  if (member->group_mode_) group_keeper = std::make_unique<meta::GroupKeeper>(&context);
  context.serving.store(true);
}

void Member::Process::SettleOrphan(InodeId inode, const std::vector<SessionId>& holders,
                                   std::function<void(const Status&)> done) {
  std::vector<proto::Mutation> mutations(1);
  mutations[0].mutable_settle_orphan()->set_inode(inode.value());
  for (const SessionId holder : holders) mutations[0].mutable_settle_orphan()->add_sessions(holder.value());
  proposer->Submit(std::move(mutations),
                   [done = std::move(done)](const Status& status, std::span<proto::MutationReply>) { done(status); });
}

// Planted: nobody is waited for, as if all had registered and held nothing.
void Member::Process::RegisterAll(uint64_t term, const std::vector<proto::SessionRecord>& records) {
  for (const proto::SessionRecord& record : records) {
    proto::KeepAliveRequest request;
    request.set_session(record.id());
    request.set_term(term);
    coherence.KeepAlive(request, 0);
  }
}

// As MetadataServerImpl::BeginGranting. Where the group does not change it has several voters, and its term is as good a
// number: it rises with each leadership.
void Member::Process::BeginGranting(uint64_t leadership) {
  begins_to_lead = false;
  const auto records = std::exchange(sessions_at_start, {});
  coherence.BeginLeading(leadership, records, std::exchange(orphans_at_start, {}));
  if (member->cluster_->plan->plant == Plant::kNewLeaderRushes) RegisterAll(leadership, records);
}

// As MetadataServerImpl::OnGained.
void Member::Process::Gained(uint64_t term) {
  std::vector<proto::SessionRecord> records;
  CHECK(state->ListSessions(&records).ok(), "the sessions can be read");
  std::vector<SessionId> ids;
  for (const proto::SessionRecord& record : records) ids.emplace_back(record.id());
  orphans_at_start.clear();
  CHECK(state->ListUnsettledOrphans(&orphans_at_start).ok(), "the orphans can be read");
  sessions.Reset(ids);
  sessions_at_start = std::move(records);
  begins_to_lead = member->group_mode_;
  if (!begins_to_lead) BeginGranting(term);
  servers.Reset(*state->cluster_map());
  const proto::StateHeader header = state->header();
  proposer->BeginLeading(header);
  member->cluster_->scheduler->Trace("serves", member->id_, term);
  // Settles nothing: the first entry of this leadership.
  if (begins_to_lead) SettleOrphan(InodeId(), {}, [](const Status&) {});
  if (!header.cluster_id().empty()) return;
  std::vector<proto::Mutation> mutations(1);
  mutations[0].mutable_init_cluster()->set_cluster_id("simulated");
  proposer->Submit(std::move(mutations), [](const Status&, std::span<proto::MutationReply>) {});
}

// ---- Life ----

Member::Member(Cluster* cluster, uint64_t id)
    : cluster_(cluster),
      id_(id),
      group_mode_(cluster->plan->group_changes),
      clock_(cluster->scheduler,
             1.0 + cluster->plan->faults.clock_rate *
                       static_cast<double>(cluster->scheduler->dice().Between(-1000, 1000)) / 1000.0,
             cluster->scheduler->dice().Between(1, 1000) * kSecond),
      disk_(cluster->scheduler, *cluster->plan) {
  if (group_mode_) return;
  group_id_ = id;
  void* data = nullptr;
  size_t bytes = 0;
  sim_bootstrap_configuration(cluster->plan->members, &data, &bytes);
  disk_.Bootstrap({1, sim_change_entry_type(), std::string(static_cast<const char*>(data), bytes)});
  std::free(data);
}

Member::~Member() = default;

void Member::Start() {
  if (process_ != nullptr || group_id_ == 0) return;
  cluster_->scheduler->Trace("start", id_, life_);
  dead_ = false;
  process_ = std::make_unique<Process>(this);
  ++depth_;
  process_->Open();
  checkpoint_asked_ = false;
  process_->replicator->Start();
  checkpoint_due_ = checkpoint_asked_;
  --depth_;
  if (dead_) return Bury();
  ScheduleMaintenance();
}

void Member::ScheduleMaintenance() {
  Post(clock_.WorldTime(kMaintenanceNs), [this] {
    process_->maintenance->Step();
    if (process_->group_keeper) process_->group_keeper->Step();
    ScheduleMaintenance();
  });
}

void Member::Crash() {
  if (process_ == nullptr || dead_) return;
  cluster_->scheduler->Trace("crash", id_, life_);
  dead_ = true;
  unflushed_at_death_ = state_.unflushed_batches();
  process_->store.SetDead();
  if (depth_ == 0) Bury();
}

void Member::Bury() {
  process_->proposer->Stop();
  posted_.clear();
  process_.reset();
  ++life_;
  for (const auto& gone : std::exchange(when_gone_, {})) gone();
  stopped_until_ns_ = 0;
  stalled_until_ns_ = 0;
  Dice& dice = cluster_->scheduler->dice();
  if (std::exchange(wiped_, false)) return Wipe();
  disk_.Crash();
  state_.Crash(dice.Chance(0.5) ? 0 : dice.Below(unflushed_at_death_ + 1));
  if (dice.Chance(cluster_->plan->faults.wall_jump)) clock_.JumpWall(dice.Between(-600, 600) * kSecond);
  Restart(cluster_->faults_ended ? kMillisecond : dice.LongTailed(cluster_->plan->faults.restart_delay_ns));
}

void Member::Restart(int64_t delay_ns) {
  cluster_->scheduler->After(delay_ns, [this, body = bodies_] {
    if (body == bodies_) Start();
  });
}

void Member::StopFor(int64_t length_ns) {
  cluster_->scheduler->Trace("stop", id_, static_cast<uint64_t>(length_ns));
  stopped_until_ns_ = std::max(stopped_until_ns_, cluster_->scheduler->now_ns() + length_ns);
}

void Member::StallFor(int64_t length_ns) {
  cluster_->scheduler->Trace("stall", id_, static_cast<uint64_t>(length_ns));
  stalled_until_ns_ = std::max(stalled_until_ns_, cluster_->scheduler->now_ns() + length_ns);
}

void Member::EndFaults() {
  disk_.EndFaults();
  stopped_until_ns_ = 0;
  stalled_until_ns_ = 0;
}

void Member::Post(int64_t delay_ns, std::function<void()> action) { Schedule(delay_ns, std::move(action), false); }

void Member::PostToLoop(int64_t delay_ns, std::function<void()> action) { Schedule(delay_ns, std::move(action), true); }

void Member::Schedule(int64_t delay_ns, std::function<void()> action, bool on_loop) {
  if (dead_) return;
  const uint64_t posted = next_posted_++;
  posted_.emplace(posted, std::move(action));
  cluster_->scheduler->After(delay_ns, [this, life = life_, posted, on_loop] { RunPosted(life, posted, on_loop); });
}

void Member::RunPosted(uint64_t life, uint64_t posted, bool on_loop) {
  if (process_ == nullptr || dead_ || life != life_) return;
  const int64_t until_ns = on_loop ? std::max(stopped_until_ns_, stalled_until_ns_) : stopped_until_ns_;
  if (until_ns > cluster_->scheduler->now_ns()) {
    cluster_->scheduler->At(until_ns, [this, life, posted, on_loop] { RunPosted(life, posted, on_loop); });
    return;
  }
  auto action = posted_.extract(posted);
  Run(life, std::move(action.mapped()));
}

void Member::RunOnLoop(uint64_t life, const std::function<void()>& action) {
  if (life == life_ && stalled_until_ns_ > cluster_->scheduler->now_ns()) {
    cluster_->scheduler->At(stalled_until_ns_, [this, life, action] { RunOnLoop(life, action); });
    return;
  }
  Run(life, action);
}

void Member::Run(uint64_t life, std::function<void()> action) {
  if (process_ == nullptr || dead_ || life != life_) return;
  if (stopped_until_ns_ > cluster_->scheduler->now_ns()) {
    cluster_->scheduler->At(stopped_until_ns_, [this, life, action] { Run(life, action); });
    return;
  }
  ++depth_;
  const bool outer = std::exchange(in_request_, false);
  action();
  in_request_ = outer;
  action = nullptr;  // before the process that it may refer to
  --depth_;
  if (dead_ && depth_ == 0) Bury();
}

void Member::AtWrite() {
  if (dead_ || cluster_->faults_ended) return;
  if (cluster_->scheduler->dice().Chance(cluster_->plan->faults.crash_at_write)) Crash();
}

void Member::PauseInRead() {
  if (!in_request_ || cluster_->faults_ended || dead_) return;
  Dice& dice = cluster_->scheduler->dice();
  if (!dice.Chance(cluster_->plan->faults.pause_in_read) || cluster_->reads_paused >= kPausedReadsMax) return;
  const int64_t length_ns = dice.LongTailed(cluster_->plan->faults.pause_length_ns / 2);
  const int64_t end_ns = cluster_->scheduler->now_ns() + length_ns;
  cluster_->scheduler->Trace("pause in read", id_, static_cast<uint64_t>(length_ns));
  if (dice.Chance(0.5)) StopFor(length_ns);
  ++cluster_->reads_paused;
  cluster_->scheduler->RunUntil(end_ns);
  --cluster_->reads_paused;
}

// ---- Checkpoints ----

void Member::FetchCheckpoint(bool at_start, uint64_t at_least_entries) {
  // A snapshot that a leader sent may be on the disk before libraft was told of it: then the state is fetched now.
  if (at_start && !checkpoint_due_ && !disk_.snapshot_is_leaders()) {
    Violation("member " + std::to_string(id_) + " starts with a log that begins behind entry " +
              std::to_string(at_least_entries) + ", which its state lacks");
    return;
  }
  cluster_->scheduler->Trace("needs checkpoint", id_, at_least_entries);
  checkpoint_due_ = true;
  checkpoint_asked_ = true;
  checkpoint_entries_ = at_least_entries;
  AskForCheckpoint(at_least_entries);
}

void Member::AskForCheckpoint(uint64_t at_least_entries) {
  Post(20 * kMillisecond, [this, at_least_entries] {
    if (group_mode_ && (!checkpoint_asked_ || at_least_entries < checkpoint_entries_)) return;
    for (const auto& other : *cluster_->members) {
      if (!other->alive() || other->applied() < at_least_entries) continue;
      cluster_->network->Send(other->id_, id_, "checkpoint",
                              [this, life = life_, entries = other->applied(), contents = other->state_.Snapshot()] {
                                Run(life, [this, entries, contents] {
                                  if (entries >= checkpoint_entries_) TakeCheckpoint(contents);
                                });
                              });
      break;
    }
    AskForCheckpoint(at_least_entries);
  });
}

void Member::TakeCheckpoint(const meta::MemoryKv::Contents& contents) {
  if (group_mode_ && (!checkpoint_asked_ || !process_->replicator->MayTakeOver())) return;
  AtWrite();
  if (dead_) return;
  meta::KvBatch batch;
  for (const auto& [key, value] : state_.Snapshot()) {
    if (!contents.contains(key)) batch.changes.push_back({key, std::nullopt});
  }
  for (const auto& [key, value] : contents) batch.changes.push_back({key, value});
  CHECK(state_.Write(batch).ok() && state_.Flush().ok(), "the simulated store takes a checkpoint");
  checkpoint_due_ = false;
  if (group_mode_) {
    checkpoint_asked_ = false;
    CHECK(process_->state->Reload().ok(), "a checkpoint can be read");
    process_->number_applied = process_->state->applied_entries();
    process_->replicator->TakeOver(process_->number_applied);
    return;
  }
  Crash();  // a new process begins behind it
}

// ---- The group ----

void Member::BeginGroup() {
  group_id_ = 1;
  disk_.Bootstrap(FirstConfiguration(group_id_));
  Start();
}

void Member::Wipe() {
  if (process_ != nullptr) {  // again when it is buried
    wiped_ = true;
    return Crash();
  }
  cluster_->scheduler->Trace("wipe", id_, group_id_);
  ++bodies_;
  group_id_ = 0;
  joining_nonce_ = 0;
  disk_.Lose();
  meta::KvBatch batch;
  for (const auto& [key, value] : state_.Snapshot()) batch.changes.push_back({key, std::nullopt});
  CHECK(state_.Write(batch).ok() && state_.Flush().ok(), "the simulated store can be emptied");
}

void Member::Join(uint64_t nonce, uint64_t replaces) {
  CHECK(!in_use(), "a server joins on an empty disk");
  joining_nonce_ = nonce;
  joining_replaces_ = replaces;
  AskToJoin(nonce, 1 + cluster_->group_dice->Below(cluster_->members->size()));
}

// As JoinGroup in group_client.cc: each address in turn, and whom it says to lead.
void Member::AskToJoin(uint64_t nonce, uint64_t machine) {
  if (nonce != joining_nonce_) return;
  GroupQuestion question;
  question.kind = GroupQuestion::Kind::kJoin;
  question.join.set_address(AddressOf(id_));
  question.join.set_grpc_address(AddressOf(id_));
  question.join.set_nonce(nonce);
  question.join.set_replaces(joining_replaces_);
  const auto followed = std::make_shared<bool>(false);
  cluster_->network->Send(id_, machine, "join", [this, nonce, machine, question, followed] {
    (*cluster_->members)[machine - 1]->ReceiveQuestion(question, [this, nonce, machine, followed](const GroupAnswer& answer) {
      cluster_->network->Send(machine, id_, "join answer", [this, nonce, answer, followed] {
        if (nonce != joining_nonce_) return;
        if (answer.status.ok()) {
          joining_nonce_ = 0;
          group_id_ = answer.joined.member();
          cluster_->scheduler->Trace("joins", id_, group_id_);
          return Start();
        }
        if (answer.leader != 0 && !std::exchange(*followed, true)) AskToJoin(nonce, answer.leader);
      });
    });
  });
  cluster_->scheduler->After(cluster_->group_dice->Between(200, 600) * kMillisecond, [this, nonce, machine, followed] {
    if (!std::exchange(*followed, true)) AskToJoin(nonce, machine % cluster_->members->size() + 1);
  });
}

// As MetadataServerImpl::HandOverLeadership, and what follows it.
void Member::StopGracefully() {
  if (!alive()) return;
  cluster_->scheduler->Trace("stops", id_, group_id_);
  const auto end = [this, life = life_](const Status&) {
    if (life != life_ || process_ == nullptr || dead_) return;
    CHECK(state_.Flush().ok(), "the simulated store can be flushed");
    Crash();
  };
  const auto members = GroupMembers();
  const auto voters =
      std::ranges::count_if(members, [](const auto& member) { return member.role == meta::MemberRole::kVoter; });
  if (voters < 2 || !HoldsLease()) return end(Status::Ok());
  Run(life_, [this, end] { process_->watched->TransferLeadership(0, end); });
  cluster_->scheduler->After(2 * kSecond, [end] { end(Status::Ok()); });
}

std::vector<meta::GroupMember> Member::GroupMembers() const {
  return alive() ? process_->replicator->members() : std::vector<meta::GroupMember>();
}

std::vector<uint64_t> Member::MapMembers() const {
  std::vector<uint64_t> ids;
  if (!alive()) return ids;
  for (const auto& member : process_->state->cluster_map()->metaservers()) ids.push_back(member.id());
  return ids;
}

void Member::ReceiveQuestion(const GroupQuestion& question, std::function<void(const GroupAnswer&)> answer) {
  Run(life_, [this, question, answer = std::move(answer)] { AnswerQuestion(question, answer); });
}

// As MemberServiceImpl, which blocks and so cannot run here.
void Member::AnswerQuestion(const GroupQuestion& question, std::function<void(const GroupAnswer&)> answer) {
  const auto refuse = [this, answer](const Status& status) {
    const bool may_know = status.code() == StatusCode::kNotLeader;
    answer({.status = status, .leader = may_know ? MemberOf(process_->context.Leader().address()) : 0, .joined = {}, .list = {}});
  };
  Result<std::optional<proto::Mutation>> mutation = std::optional<proto::Mutation>();
  switch (question.kind) {
    case GroupQuestion::Kind::kJoin:
      if (auto planned = process_->requests->PlanJoin(question.join); planned.ok()) {
        mutation = std::optional(*std::move(planned));
      } else {
        mutation = planned.status();
      }
      break;
    case GroupQuestion::Kind::kRemove:
      mutation = process_->requests->PlanRemoval(question.removal);
      break;
    case GroupQuestion::Kind::kTransfer: {
      const Status status = process_->requests->CheckTransfer(question.transfer_to);
      if (!status.ok()) return refuse(status);
      if (question.transfer_to == group_id_) return answer({});
      return process_->watched->TransferLeadership(question.transfer_to, [this, life = life_, refuse](const Status& done) {
        if (life == life_ && !dead_) refuse(done);
      });
    }
    case GroupQuestion::Kind::kList: {
      if (const Status status = process_->context.CheckLease(); !status.ok()) return refuse(status);
      GroupAnswer list;
      process_->context.FillMetaservers(list.list.mutable_members());
      list.list.set_leader(group_id_);
      list.list.set_term(process_->replicator->term());
      return answer(list);
    }
  }
  if (!mutation.ok()) return refuse(mutation.status());
  if (!mutation->has_value()) return answer({});
  std::vector<proto::Mutation> mutations(1, **mutation);
  process_->proposer->Submit(std::move(mutations), [this, life = life_, question, refuse, answer](
                                                       const Status& status, std::span<proto::MutationReply> replies) {
    if (life != life_ || dead_) return;
    if (!status.ok()) return refuse(status);
    if (replies[0].status() != 0)
      return refuse(Status(static_cast<StatusCode>(replies[0].status()), replies[0].message()));
    GroupAnswer done;
    if (question.kind == GroupQuestion::Kind::kJoin) process_->requests->FinishJoin(question.join, replies[0], &done.joined);
    answer(done);
  });
}

// As PeerTransport: to where the member is by the map and by what was heard of it.
void Member::SendInFrame(uint64_t to, const std::string& message) {
  const uint64_t machine = MemberOf(process_->members.Find(to).address());
  if (machine == 0) return;
  proto::RaftMessageHeader header;
  header.set_cluster_id("simulated");
  header.set_from(group_id_);
  header.set_to(to);
  header.set_from_address(AddressOf(id_));
  header.set_from_grpc_address(AddressOf(id_));
  cluster_->network->Send(
      id_, machine, "raft",
      [this, life = life_, to, machine, header = header.SerializeAsString(), message] {
        Member* const there = (*cluster_->members)[machine - 1].get();
        // Answers matter only if they say that the sender was removed.
        const auto answer = [this, life, to, machine](const Answer& what) {
          if (what.status.code() != StatusCode::kNotFound) return;
          cluster_->network->Send(machine, id_, "raft answer", [this, life, to, status = what.status] {
            Run(life, [this, to, status] { OnGroupRefusal(to, status); });
          });
        };
        there->Run(there->life_, [there, header, message, answer] {
          Buffer payload(message.size());
          std::copy(message.begin(), message.end(), payload.data());
          there->Handle(std::make_shared<SimPeer>(0, nullptr), rpc::Method::kRaftMessage, header, answer, std::move(payload));
        });
      });
}

// The server ends, and its service manager starts it again.
void Member::OnGroupRefusal(uint64_t to, const Status& /*status*/) {
  cluster_->scheduler->Trace("hears that it was removed", id_, to);
  Crash();
}

// ---- Asked ----

bool Member::HoldsLease() const { return alive() && process_->replicator->HoldsLease(); }
bool Member::Leads() const { return alive() && process_->replicator->leader_member() == group_id_; }
uint64_t Member::applied() const { return alive() ? process_->state->applied_entries() : 0; }

// ---- Network ----

void Member::SendToMember(uint64_t to, std::string message) {
  if (group_mode_) return SendInFrame(to, message);
  static constexpr std::string_view kKinds[] = {"append", "append result", "vote", "vote result", "snapshot", "other"};
  const std::string_view kind = kKinds[sim_message_kind_of(message.data(), message.size())];
  cluster_->network->Send(id_, to, kind, [cluster = cluster_, from = id_, to, message = std::move(message)] {
    (*cluster->members)[to - 1]->ReceiveMessage(from, message);
  });
}

void Member::ReceiveMessage(uint64_t from_member, const std::string& message) {
  RunOnLoop(life_, [this, from_member, message] { process_->replicator->Receive(from_member, message); });
}

// Nothing is told of the state by who may not lead any more. (What was read after a look at the lease is as old as that
// look at most, so a client cannot see the difference: Plant::kNoSecondLook is found here only. Plant::kReadWithoutLease
// has to be found by what clients see.)
void Member::CheckReadAnswer(rpc::Method method, const Answer& answer) {
  const bool is_read = method == rpc::Method::kLookup || method == rpc::Method::kGetAttr ||
                       method == rpc::Method::kReadDir || method == rpc::Method::kGetVolume;
  const StatusCode code = answer.status.code();
  const bool tells = code != StatusCode::kNotLeader && code != StatusCode::kUnavailable;
  if (!is_read || !tells || HoldsLease() || cluster_->plan->plant == Plant::kReadWithoutLease) return;
  Violation("member " + std::to_string(id_) + " answers a read without the lease");
}

void Member::Handle(const std::shared_ptr<rpc::Peer>& peer, rpc::Method method, const std::string& message,
                    std::function<void(Answer)> answer, Buffer payload) {
  rpc::Request request;
  request.payload = std::move(payload);
  request.method = method;
  request.peer = peer;
  request.message = {reinterpret_cast<const uint8_t*>(message.data()), message.size()};
  auto alive_only = [this, life = life_, method, answer = std::move(answer)](Answer what) {
    if (life != life_ || dead_) return;
    CheckReadAnswer(method, what);
    answer(std::move(what));
  };
  process_->watched->BeginRequest();
  in_request_ = true;
  process_->service->Handle(std::move(request), std::make_unique<SimResponder>(alive_only));
}

void Member::ReceiveRequest(rpc::Method method, uint64_t hello_session, const std::string& message,
                            std::function<void(Answer)> answer, std::function<void(std::string)> push) {
  Run(life_, [this, method, hello_session, message, answer = std::move(answer), push = std::move(push)] {
    Handle(std::make_shared<SimPeer>(hello_session, push), method, message, answer);
  });
}

void Member::ReceiveFrame(uint64_t life, std::shared_ptr<rpc::Peer> peer, rpc::Method method,
                          const std::string& message, std::function<void(Answer)> answer,
                          std::function<void()> handled) {
  Run(life, [this, peer = std::move(peer), method, message, answer = std::move(answer), handled = std::move(handled)] {
    Handle(peer, method, message, answer);
    handled();
  });
}

// ---- Chunk servers ----

void Member::ReceiveRegistration(const proto::RegisterServerRequest& request,
                                 std::function<void(const Status&, const proto::RegisterServerReply&)> answer) {
  Run(life_, [this, request, answer = std::move(answer)] {
    if (const Status status = process_->context.CheckLease(); !status.ok()) return answer(status, {});
    std::vector<proto::Mutation> mutations(1);
    *mutations[0].mutable_register_server()->mutable_request() = request;
    process_->proposer->Submit(
        std::move(mutations),
        [this, life = life_, request, answer](const Status& status, std::span<proto::MutationReply> replies) {
          if (life != life_ || dead_) return;
          if (!status.ok()) return answer(status, {});
          if (replies[0].status() != 0) return answer(Status(static_cast<StatusCode>(replies[0].status()), ""), {});
          proto::RegisterServerReply reply = replies[0].registered();
          std::vector<TargetId> targets;
          for (const uint64_t id : reply.target_ids()) targets.emplace_back(id);
          reply.set_lease_ms(process_->servers.RecordRegistration(targets, request));
          *reply.mutable_map() = process_->context.LiveMap();
          answer(Status::Ok(), reply);
        });
  });
}

void Member::ReceiveHeartbeat(const proto::HeartbeatRequest& request,
                              std::function<void(const Status&, const proto::HeartbeatReply&)> answer) {
  Run(life_, [this, request, answer = std::move(answer)] {
    if (const Status status = process_->context.CheckLease(); !status.ok()) return answer(status, {});
    const Result<uint32_t> lease_ms = process_->servers.RecordHeartbeat(*process_->state->cluster_map(), request);
    if (!lease_ms.ok()) return answer(lease_ms.status(), {});
    proto::HeartbeatReply reply;
    if (process_->state->cluster_map()->version() > request.map_version()) *reply.mutable_map() = process_->context.LiveMap();
    reply.set_lease_ms(*lease_ms);
    answer(process_->context.CheckLease(), reply);
  });
}

}  // namespace tarn::sim
