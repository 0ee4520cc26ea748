#include "tests/sim/data/leader.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/base/check.h"
#include "common/base/random.h"
#include "metaserver/placement/plan_groups.h"
#include "metaserver/placement/plan_replication.h"
#include "metaserver/placement/rebalance.h"
#include "metaserver/service/group_admin.h"
#include "metaserver/service/maintenance.h"
#include "metaserver/service/node_admin.h"
#include "metaserver/service/replication_keeper.h"
#include "metaserver/service/state_applier.h"
#include "metaserver/state/memory_kv.h"
#include "tests/sim/data/metadata_log.h"

namespace tarn::sim_data {

using replication::GroupView;

namespace {

constexpr uint64_t kMembers = 2;
constexpr int64_t kSessionLeaseMs = 700;  // and closed after six of them
constexpr uint32_t kGroupsPerTarget = 1;
constexpr char kClusterId[] = "simulated";

class BenchClock final : public Clock {
 public:
  BenchClock(const Bench* bench, double rate) : bench_(bench), rate_(rate) {}
  int64_t MonotonicNs() const override { return static_cast<int64_t>(static_cast<double>(bench_->queue.now_ns()) * rate_); }
  int64_t WallNs() const override { return 1'700'000'000'000'000'000 + bench_->queue.now_ns(); }

 private:
  const Bench* const bench_;
  const double rate_;
};

meta::ReplicationPolicy PolicyOf(const Plan& plan) {
  meta::ReplicationPolicy policy;
  policy.replace_delay_ms = plan.replace_delay_ms;
  policy.move_pause_ms = plan.move_pause_ms;
  return policy;
}

// Any two clocks, those of chunk servers with them, differ by less than the margin of leases.
double ClockRate(Bench* bench) {
  if (bench->plan.plant == Plant::kHastyLeader) return 3;
  return 1.0 + 0.00095 * static_cast<double>(bench->dice.Between(-10, 10));
}

}  // namespace

// What the members share. The entries come by here on their way to the state.
class Leader::Consumer final : public meta::LogConsumer {
 public:
  Consumer(Leader* leader, meta::StateApplier* applier) : leader_(leader), applier_(applier) {}
  Status Apply(std::string_view entry, uint64_t number) override {
    if (!leader_->tamper) return applier_->Apply(entry, number);
    proto::LogEntry tampered;
    CHECK(tampered.ParseFromArray(entry.data(), static_cast<int>(entry.size())), "an entry can be read");
    leader_->tamper(&tampered);
    return applier_->Apply(tampered.SerializeAsString(), number);
  }
  void LeadershipGained(uint64_t /*term*/) override { leader_->Gained(); }
  void LeadershipLost() override { leader_->Lost(); }
  Status MakeDurable() override { return Status::Ok(); }
  void Failed(const Status& /*status*/) override {}

 private:
  Leader* const leader_;
  meta::StateApplier* const applier_;
};

struct Leader::Parts {
  meta::MemoryKv store;
  std::unique_ptr<meta::StateMachine> state;
  std::unique_ptr<meta::StateApplier> applier;
  std::unique_ptr<Consumer> consumer;
  std::unique_ptr<MetadataLog> log;
  std::vector<std::unique_ptr<Member>> members;  // by id - 1
  std::vector<std::unique_ptr<Member>> crashed;  // what they had under way may still be answered
};

// One process of a metadata server.
struct Leader::Member {
  Member(Bench* bench, Parts* parts, uint64_t id)
      : clock(bench, ClockRate(bench)),
        random(bench->dice.Next()),
        sessions(&clock, kSessionLeaseMs),
        coherence(meta::PushCoordinatorOptions(), &clock, &sessions),
        servers(&clock, kLeaseMs),
        members(&clock, [parts] { return parts->state->cluster_map(); }),
        port(parts->log.get(), id),
        proposer(meta::ProposerOptions(), &port, &clock, &random, [parts] { return parts->applier->TakeReplies(); }),
        maintenance(&context, {.groups = {.groups_per_target = kGroupsPerTarget}}),
        replication(&context, PolicyOf(bench->plan)),
        requests(&context),
        node_admin(&context),
        group_admin(&context) {
    context.clock = &clock;
    context.store = &parts->store;
    context.state = parts->state.get();
    context.members = &members;
    context.replicator = &port;
    context.proposer = &proposer;
    context.sessions = &sessions;
    context.coherence = &coherence;
    context.locks = &locks;
    context.servers = &servers;
    context.replication = &replication;
    context.self.cluster_id = kClusterId;
    context.self.member_id = id;
    context.serving.store(true);
    coherence.SetSettle([](InodeId, const std::vector<SessionId>&, const std::function<void(const Status&)>&) {});
  }

  BenchClock clock;
  SeededRandom random;
  meta::SessionKeeper sessions;
  meta::PushCoordinator coherence;
  meta::ServerRegistry servers;
  meta::MemberTable members;
  meta::LockNotifier locks;
  meta::ServiceContext context;
  MetadataLog::Port port;
  meta::Proposer proposer;
  meta::Maintenance maintenance;
  meta::ReplicationKeeper replication;
  meta::ServerRequests requests;
  meta::NodeAdmin node_admin;
  meta::GroupAdmin group_admin;
};

Leader::Leader(Bench* bench) : bench_(bench), parts_(std::make_unique<Parts>()) {
  auto opened = meta::StateMachine::Open(&parts_->store);
  CHECK(opened.ok(), "an empty state can be read");
  parts_->state = std::move(*opened);
  parts_->applier = std::make_unique<meta::StateApplier>(parts_->state.get(), &parts_->store);
  meta::StateApplier::Listener listener;
  listener.wants_changes = [this] {
    Member* const leading = Leading();
    return leading != nullptr && leading->coherence.WantsChanges();
  };
  listener.applied = [this](const auto& entry, const auto& replies, const auto& changes) { Applied(entry, replies, changes); };
  parts_->applier->SetListener(std::move(listener));
  parts_->consumer = std::make_unique<Consumer>(this, parts_->applier.get());
  parts_->log = std::make_unique<MetadataLog>(bench, parts_->consumer.get());
  for (uint64_t id = 1; id <= kMembers; ++id) parts_->members.push_back(MakeMember(id));
  map_ = parts_->state->cluster_map();
}

Leader::~Leader() = default;

std::unique_ptr<Leader::Member> Leader::MakeMember(uint64_t id) { return std::make_unique<Member>(bench_, parts_.get(), id); }

Leader::Member* Leader::Leading() const {
  const uint64_t id = parts_->log->leader();
  return id == 0 ? nullptr : parts_->members[id - 1].get();
}

// ---- Leadership ----

void Leader::Start() { parts_->log->Elect(1); }

// As MetadataServerImpl::OnGained.
void Leader::Gained() {
  Member* const member = Leading();
  bench_->Trace("metadata server " + std::to_string(parts_->log->leader()) + " leads");
  std::vector<proto::SessionRecord> records;
  CHECK(parts_->state->ListSessions(&records).ok(), "the sessions can be read");
  std::vector<SessionId> sessions;
  for (const proto::SessionRecord& record : records) sessions.emplace_back(record.id());
  member->sessions.Reset(sessions);
  member->coherence.BeginLeading(parts_->log->term(), records, {});
  member->servers.Reset(*parts_->state->cluster_map());
  const proto::StateHeader header = parts_->state->header();
  member->proposer.BeginLeading(header);
  if (!header.cluster_id().empty()) return;
  proto::Mutation mutation;
  mutation.mutable_init_cluster()->set_cluster_id(kClusterId);
  Propose(std::move(mutation), [](const Status&, std::span<proto::MutationReply>) {});
}

void Leader::Lost() {
  for (const auto& member : parts_->members) {
    member->proposer.EndLeading();
    member->coherence.EndLeading();
  }
}

bool Leader::is_silent() const { return parts_->log->leader() == 0 || parts_->log->stands_still(); }

void Leader::StandStill(int64_t length_ns) {
  if (is_silent()) return;
  bench_->Trace("the leader stands still");
  parts_->log->StandStill();
  bench_->queue.After(length_ns, [this, term = parts_->log->term()] {
    if (term != parts_->log->term() || !parts_->log->stands_still()) return;
    bench_->Trace("the leader goes on");
    parts_->log->GoOn();
  });
}

void Leader::ChangeLeader(int64_t gap_ns) {
  const uint64_t before = parts_->log->leader();
  if (before == 0) return;
  const bool crashes = bench_->dice.Chance(0.5);
  bench_->Trace("metadata server " + std::to_string(before) + (crashes ? " crashes" : " leads no more"));
  ++changes_;
  parts_->log->Depose();
  if (crashes) {
    std::unique_ptr<Member>& member = parts_->members[before - 1];
    member->proposer.Stop();
    parts_->crashed.push_back(std::exchange(member, MakeMember(before)));
  }
  // It may be the same again.
  const uint64_t next = bench_->dice.Chance(0.8) ? kMembers + 1 - before : before;
  bench_->queue.After(gap_ns, [this, next] {
    if (parts_->log->leader() == 0) parts_->log->Elect(next);
  });
}

void Leader::Calm() {
  if (parts_->log->leader() == 0) parts_->log->Elect(1);
  parts_->log->GoOn();
}

void Leader::Tick() {
  if (is_silent()) return;
  Member* const member = Leading();
  member->maintenance.Step();
  member->replication.Step();
}

// ---- Requests ----

void Leader::Propose(proto::Mutation mutation, std::function<void(const Status&, std::span<proto::MutationReply>)> done) {
  std::vector<proto::Mutation> mutations;
  mutations.push_back(std::move(mutation));
  Leading()->proposer.Submit(std::move(mutations), std::move(done));
}

// As ClusterServiceImpl::Register.
void Leader::Register(const proto::RegisterServerRequest& request, Answer<proto::RegisterServerReply> answer) {
  if (is_silent()) return;
  const Result<meta::ServerRequests::Registration> checked = Leading()->requests.CheckRegistration(request);
  if (!checked.ok()) return answer(checked.status());
  if (!checked->needs_proof || bench_->plan.plant == Plant::kNoProof) return RegisterChecked(request, *checked, answer);
  ask_process(request.address(), [this, member = Leading(), request, checked = *checked, answer](uint64_t process) {
    if (!is_silent() && member == Leading() && process == request.incarnation()) RegisterChecked(request, checked, answer);
  });
}

void Leader::RegisterChecked(const proto::RegisterServerRequest& request, const meta::ServerRequests::Registration& checked,
                             const Answer<proto::RegisterServerReply>& answer) {
  Result<proto::Mutation> begun = Leading()->requests.BeginRegistration(request, checked);
  if (!begun.ok()) return answer(begun.status());
  Propose(std::move(*begun), [member = Leading(), request, checked, answer](const Status& status, std::span<proto::MutationReply> replies) {
    const Status done = status.ok() ? meta::StatusOf(replies[0]) : status;
    Result<proto::MutationReply> applied = done.ok() ? Result<proto::MutationReply>(std::move(replies[0])) : Result<proto::MutationReply>(done);
    proto::RegisterServerReply reply;
    const Status finished = member->requests.FinishRegistration(request, checked, std::move(applied), &reply);
    finished.ok() ? answer(std::move(reply)) : answer(finished);
  });
}

void Leader::SubmitAll(std::vector<proto::Mutation> mutations, std::function<void(const Status&)> done) {
  if (mutations.empty()) return done(Status::Ok());
  proto::Mutation first = std::move(mutations.front());
  mutations.erase(mutations.begin());
  Propose(std::move(first), [this, mutations = std::move(mutations), done = std::move(done)](const Status& status, std::span<proto::MutationReply> replies) {
    const Status applied = status.ok() ? meta::StatusOf(replies[0]) : status;
    applied.ok() ? SubmitAll(mutations, done) : done(applied);
  });
}

void Leader::Heartbeat(const proto::HeartbeatRequest& request, Answer<proto::HeartbeatReply> answer) {
  if (is_silent()) return;
  Member* const member = Leading();
  Result<meta::ServerRequests::Heartbeat> begun = member->requests.BeginHeartbeat(request);
  if (!begun.ok()) return answer(begun.status());
  SubmitAll(std::move(begun->mutations), [member, request, begun = *begun, answer = std::move(answer)](const Status& applied) {
    proto::HeartbeatReply reply;
    const Status finished = applied.ok() ? member->requests.FinishHeartbeat(request, begun, &reply) : applied;
    finished.ok() ? answer(std::move(reply)) : answer(finished);
  });
}

void Leader::Report(const proto::ReportGroupsRequest& request, Answer<proto::ReportGroupsReply> answer) {
  if (is_silent()) return;
  Member* const member = Leading();
  member->requests.BeginReport(request, [member, answer = std::move(answer)](const Status& decided) {
    proto::ReportGroupsReply reply;
    const Status finished = decided.ok() ? member->requests.FinishReport(&reply) : decided;
    finished.ok() ? answer(std::move(reply)) : answer(finished);
  });
}

void Leader::OpenSession(uint64_t nonce, Answer<uint64_t> answer) {
  if (is_silent()) return;
  proto::Mutation open;
  open.mutable_open_session()->set_nonce(nonce);
  Propose(std::move(open), [this, member = Leading(), answer = std::move(answer)](const Status& opened, std::span<proto::MutationReply> replies) {
    if (!opened.ok() || is_silent() || member != Leading()) return;
    CHECK(replies[0].status() == 0, "a session can be opened");
    const uint64_t session = replies[0].session();
    member->sessions.Add(SessionId(session));
    proto::Mutation lock;
    lock.set_session(session);
    lock.set_sequence(1);
    lock.mutable_lock()->set_inode(lock_inode_);
    lock.mutable_lock()->set_space(proto::LOCK_SPACE_POSIX);
    proto::FileLock* range = lock.mutable_lock()->mutable_lock();
    range->set_owner(1);
    range->set_exclusive(true);
    range->set_first(++locks_taken_);
    range->set_last(locks_taken_);
    Propose(std::move(lock), [session, answer](const Status& locked, std::span<proto::MutationReply> lock_replies) {
      const Status applied = locked.ok() ? meta::StatusOf(lock_replies[0]) : locked;
      if (applied.ok()) answer(session);
    });
  });
}

void Leader::RenewSession(uint64_t session) {
  if (!is_silent()) Leading()->sessions.Touch(SessionId(session));
}

void Leader::ExpireSession(uint64_t session) {
  if (!is_silent()) Leading()->sessions.Expire(SessionId(session));
}

const meta::NodeAdmin* Leader::nodes() const { return is_silent() ? nullptr : &Leading()->node_admin; }
const meta::GroupAdmin* Leader::groups_of_operators() const { return is_silent() ? nullptr : &Leading()->group_admin; }

void Leader::Submit(const Result<proto::Mutation>& mutation, std::shared_ptr<meta::LapsedTargets> claim) {
  if (!mutation.ok() || mutation->op_case() == proto::Mutation::OP_NOT_SET || is_silent()) return;
  Propose(*mutation, [claim = std::move(claim)](const Status&, std::span<proto::MutationReply>) {});
}

// ---- The run's groups ----

void Leader::Prepare(std::function<void()> prepared) {
  const Plan& plan = bench_->plan;
  std::vector<proto::Mutation> mutations;
  // Those of one copy are made by maintenance.
  if (plan.replicas > 1) {
    auto groups = meta::PlanGroups(*map_, {.groups_per_target = kGroupsPerTarget, .replicas = plan.replicas});
    CHECK(groups.has_value(), "there are as many nodes as copies");
    *mutations.emplace_back().mutable_add_groups() = std::move(*groups);
  }
  std::vector<uint32_t> factors = {plan.replicas};
  if (plan.single_copies && plan.replicas > 1) factors.push_back(1);
  for (const uint32_t replicas : factors) {
    proto::Volume* volume = mutations.emplace_back().mutable_create_volume()->mutable_volume();
    volume->set_name("copies-" + std::to_string(replicas));
    volume->set_replicas(replicas);
  }
  SubmitAll(std::move(mutations), [this, factors, prepared = std::move(prepared)](const Status& made) {
    CHECK(made.ok(), made.ToString());
    proto::ListVolumesReply volumes;
    CHECK(parts_->state->ListVolumes(&volumes).ok(), "the volumes can be read");
    proto::Mutation create;
    create.mutable_create()->set_parent(volumes.volumes(0).root());
    create.mutable_create()->set_name("locks");
    create.mutable_create()->set_type(proto::FILE_TYPE_REGULAR);
    create.mutable_create()->set_mode(0600);
    Propose(std::move(create), [this, factors, prepared](const Status& created, std::span<proto::MutationReply> replies) {
      CHECK(created.ok() && replies[0].status() == 0, replies.empty() ? created.ToString() : replies[0].message());
      lock_inode_ = replies[0].attributes().inode();
      for (const GroupView& group : groups_) {
        const uint32_t wanted = group.replicas == bench_->plan.replicas ? bench_->plan.groups : 1;
        const auto same = std::ranges::count_if(used_groups_, [&](uint32_t id) { return this->group(id).replicas == group.replicas; });
        const bool is_asked_for = std::ranges::find(factors, group.replicas) != factors.end();
        if (is_asked_for && static_cast<uint32_t>(same) < wanted) used_groups_.push_back(static_cast<uint32_t>(group.id.value()));
      }
      prepared();
    });
  });
}

bool Leader::IsUsed(uint32_t group) const { return std::ranges::find(used_groups_, group) != used_groups_.end(); }

std::shared_ptr<const proto::ClusterMap> Leader::map() const { return map_; }

void Leader::ReadGroups() {
  std::vector<GroupView> groups;
  for (const proto::PlacementGroup& group : map_->groups()) {
    groups.push_back(GroupView::From(group));
    const bool is_new = groups.size() > groups_.size();
    if (is_new || groups_[groups.size() - 1].epoch != groups.back().epoch) ++epochs_;
  }
  groups_ = std::move(groups);
}

void Leader::Applied(const proto::LogEntry& entry, const std::vector<proto::MutationReply>& replies, const std::vector<meta::ChangeSet>& changes) {
  if (Member* const leading = Leading(); leading != nullptr) leading->coherence.OnApplied(entry, replies, changes);
  for (int i = 0; i < entry.commands_size(); ++i) {
    const proto::Mutation& mutation = entry.commands(i).mutation();
    if (mutation.has_close_session() && replies[static_cast<size_t>(i)].status() == 0) on_session_closed(mutation.close_session().session());
  }
  const auto after = parts_->state->cluster_map();
  if (after->version() == map_->version()) return;
  const auto before = std::exchange(map_, after);
  ReadGroups();
  on_change(*before, *after, entry);
}

std::string Leader::NextPlan() const {
  if (is_silent()) return "nobody leads";
  meta::ReplicationFacts facts;
  facts.targets = Leading()->servers.Facts();
  facts.group_bytes = Leading()->servers.GroupBytes();
  facts.quiet_ms = bench_->plan.move_pause_ms;
  return meta::PlanReplication(*map_, facts, PolicyOf(bench_->plan)).ShortDebugString();
}

}  // namespace tarn::sim_data
