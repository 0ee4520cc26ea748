#include "tests/sim/world.h"

#include <algorithm>

namespace tarn::sim {
namespace {

constexpr int64_t kQuietTimeMax = 60 * kSecond;
constexpr int64_t kLeaseCheckNs = 3 * kMillisecond;
constexpr int64_t kEndCheckNs = 100 * kMillisecond;

std::vector<Endpoint> EndpointsOf(const Plan& plan) {
  std::vector<Endpoint> endpoints;
  for (uint64_t member = 1; member <= plan.members; ++member) endpoints.push_back(member);
  for (uint64_t client = 0; client < plan.clients; ++client) endpoints.push_back(kFirstClient + client);
  for (uint64_t client = 0; client < plan.file_clients; ++client) endpoints.push_back(kFirstFileClient + client);
  for (uint64_t server = 0; server < plan.chunk_servers; ++server) endpoints.push_back(kFirstChunkServer + server);
  if (plan.group_changes) endpoints.push_back(kFirstOperator);
  return endpoints;
}

class World {
 public:
  World(const Plan& plan, const TraceListener& listener)
      : plan_(plan),
        scheduler_(plan.seed),
        group_dice_(plan.seed * 0x9E3779B97F4A7C15ull + 7),
        network_(&scheduler_, plan.faults, EndpointsOf(plan)),
        oracle_(plan.plant, [this](const std::string& what) { Violate(what); }),
        files_([this](const std::string& what) { Violate(what); }) {
    oracle_.SetEntryListener([this](const auto& entry, auto replies) { files_.OnEntry(entry, replies); });
    scheduler_.SetTraceListener([this, listener](std::string_view what, uint64_t a, uint64_t b) {
      if (what == "crash") ++outcome_.crashes;
      if (what == "leads") ++outcome_.leaders;
      if (what == "needs checkpoint") ++outcome_.checkpoints;
      if (what == "joins") ++outcome_.joins;
      if (listener) listener(scheduler_.now_ns(), what, a, b);
    });
    cluster_.scheduler = &scheduler_;
    cluster_.network = &network_;
    cluster_.oracle = &oracle_;
    cluster_.files = &files_;
    cluster_.chunk_servers = &chunk_servers_;
    cluster_.plan = &plan_;
    cluster_.group_dice = &group_dice_;
    cluster_.members = &members_;
    cluster_.violation = [this](const std::string& what) { Violate(what); };
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Outcome Run();

 private:
  void Violate(const std::string& what);
  // Something of the plan's happens again and again, each time after about the interval; 0: never.
  void Repeat(int64_t interval_ns, std::function<void()> action);
  void ScheduleFaults();
  void ScheduleClientFaults();
  // Empty: nobody has anything under way.
  std::string WhatIsUnderWay() const;
  void CrashSome();
  // 0: nobody takes itself for the leader.
  uint64_t LeaderNow() const;
  void CheckLeases();
  void EndFaults();
  void CheckEnd();

  const Plan plan_;
  Scheduler scheduler_;
  Dice group_dice_;
  Network network_;
  Oracle oracle_;
  FileOracle files_;
  Cluster cluster_;
  std::vector<std::unique_ptr<Member>> members_;
  Hearsay hearsay_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::vector<std::unique_ptr<ChunkServer>> chunk_servers_;
  std::vector<std::unique_ptr<FileClient>> file_clients_;
  std::unique_ptr<GroupOperator> operator_;  // null: the group stays as it is
  Outcome outcome_;
};

void World::Violate(const std::string& what) {
  if (!outcome_.violation.empty()) return;
  outcome_.violation = what;
  outcome_.violation_ns = scheduler_.now_ns();
  scheduler_.Stop();
}

void World::Repeat(int64_t interval_ns, std::function<void()> action) {
  if (interval_ns == 0) return;
  scheduler_.After(scheduler_.dice().Between(interval_ns / 4, interval_ns * 7 / 4), [this, interval_ns, action] {
    if (cluster_.faults_ended) return;
    action();
    Repeat(interval_ns, action);
  });
}

void World::CrashSome() {
  if (scheduler_.dice().Chance(plan_.faults.crash_all)) {
    for (const auto& member : members_) member->Crash();
    return;
  }
  members_[scheduler_.dice().Below(members_.size())]->Crash();
}

uint64_t World::LeaderNow() const {
  for (const auto& member : members_) {
    if (member->Leads()) return member->id();
  }
  return 0;
}

void World::ScheduleFaults() {
  const FaultPlan& faults = plan_.faults;
  Repeat(faults.crash_interval_ns, [this] { CrashSome(); });
  Repeat(faults.pause_interval_ns, [this] {
    const int64_t length_ns = scheduler_.dice().LongTailed(plan_.faults.pause_length_ns);
    members_[scheduler_.dice().Below(members_.size())]->StopFor(length_ns);
  });
  Repeat(faults.stall_interval_ns, [this] {
    const uint64_t leader = LeaderNow();
    const uint64_t any = 1 + scheduler_.dice().Below(members_.size());
    const uint64_t member = leader != 0 && scheduler_.dice().Chance(0.7) ? leader : any;
    members_[member - 1]->StallFor(scheduler_.dice().LongTailed(plan_.faults.stall_length_ns));
  });
  ScheduleClientFaults();
  Repeat(faults.partition_interval_ns, [this] {
    network_.Partition(LeaderNow());
    scheduler_.Trace("partition");
    scheduler_.After(scheduler_.dice().LongTailed(plan_.faults.partition_length_ns), [this] { network_.Heal(); });
  });
  scheduler_.At(plan_.faults_until_ns, [this] { EndFaults(); });
}

void World::ScheduleClientFaults() {
  if (file_clients_.empty()) return;
  const FaultPlan& faults = plan_.faults;
  const auto any = [this]() -> FileClient& { return *file_clients_[scheduler_.dice().Below(file_clients_.size())]; };
  Repeat(faults.client_stop_interval_ns,
         [this, any] { any().StopFor(scheduler_.dice().LongTailed(plan_.faults.client_stop_length_ns)); });
  Repeat(faults.client_kill_interval_ns, [any] { any().Kill(); });
  Repeat(faults.chunk_server_stop_interval_ns, [this] {
    const int64_t length_ns = scheduler_.dice().LongTailed(plan_.target_lease_ms * kMillisecond / 2);
    chunk_servers_[scheduler_.dice().Below(chunk_servers_.size())]->StopFor(length_ns);
  });
}

void World::CheckLeases() {
  uint64_t holder = 0;
  for (const auto& member : members_) {
    if (!member->HoldsLease()) continue;
    if (holder != 0) {
      return Violate("members " + std::to_string(holder) + " and " + std::to_string(member->id()) +
                     " hold the lease at one time");
    }
    holder = member->id();
  }
  scheduler_.After(kLeaseCheckNs, [this] { CheckLeases(); });
}

void World::EndFaults() {
  scheduler_.Trace("faults end");
  cluster_.faults_ended = true;
  network_.EndFaults();
  for (const auto& member : members_) {
    member->EndFaults();
    scheduler_.After(scheduler_.dice().Below(kSecond), [&member] { member->Start(); });
  }
  if (operator_) operator_->EndFaults();
  for (const auto& server : chunk_servers_) server->EndFaults();
  for (const auto& client : file_clients_) client->EndFaults();
  // Some work on the healed cluster, then no more.
  scheduler_.After(kSecond, [this] {
    for (const auto& client : clients_) client->Finish();
    for (const auto& client : file_clients_) client->Finish();
  });
  scheduler_.After(2 * kSecond, [this] { CheckEnd(); });
}

std::string World::WhatIsUnderWay() const {
  if (!std::ranges::all_of(clients_, [](const auto& client) { return client->idle(); }))
    return "operations are never answered";
  if (!std::ranges::all_of(file_clients_, [](const auto& client) { return client->idle(); }))
    return "operations on files are never answered";
  if (operator_) {
    if (std::string wrong = operator_->WhatIsWrong(); !wrong.empty()) return wrong;
  }
  return files_.OrphansIn(oracle_.reference().Snapshot());
}

void World::CheckEnd() {
  const std::string under_way = WhatIsUnderWay();
  const bool idle = under_way.empty();
  const bool equal = std::ranges::all_of(
      members_, [this](const auto& member) {
        return !member->in_use() || (member->alive() && member->applied() == oracle_.entries());
      });
  if (idle && equal) {
    for (const auto& member : members_) {
      if (member->in_use()) oracle_.CompareState(member->id(), member->state());
    }
    if (oracle_.entries() == 0) Violate("the cluster never did anything");
    scheduler_.Stop();
    return;
  }
  if (scheduler_.now_ns() > plan_.faults_until_ns + kQuietTimeMax) {
    std::string what = under_way + ";";
    for (const auto& member : members_)
      what += " member " + std::to_string(member->id()) + " applied " + std::to_string(member->applied());
    return Violate("the cluster does not come to rest: " + what + " of " + std::to_string(oracle_.entries()));
  }
  scheduler_.After(kEndCheckNs, [this] { CheckEnd(); });
}

Outcome World::Run() {
  for (uint64_t id = 1; id <= plan_.members; ++id) members_.push_back(std::make_unique<Member>(&cluster_, id));
  for (uint64_t number = 0; number < plan_.clients; ++number)
    clients_.push_back(std::make_unique<Client>(&cluster_, &hearsay_, number));
  if (plan_.group_changes) {
    operator_ = std::make_unique<GroupOperator>(&cluster_);
    operator_->Start();
  } else {
    for (const auto& member : members_)
      scheduler_.After(scheduler_.dice().Below(kSecond / 5), [&member] { member->Start(); });
  }
  for (const auto& client : clients_)
    scheduler_.After(scheduler_.dice().Below(kSecond / 5), [&client] { client->Start(); });
  for (uint64_t number = 0; number < plan_.chunk_servers; ++number) {
    chunk_servers_.push_back(std::make_unique<ChunkServer>(&cluster_, number));
    chunk_servers_.back()->Start();
  }
  for (uint64_t number = 0; number < plan_.file_clients; ++number) {
    file_clients_.push_back(std::make_unique<FileClient>(&cluster_, &hearsay_, number));
    file_clients_.back()->Start();
  }
  ScheduleFaults();
  CheckLeases();
  scheduler_.RunUntil(plan_.faults_until_ns + 2 * kQuietTimeMax);
  outcome_.trace = scheduler_.trace();
  outcome_.simulated_ns = scheduler_.now_ns();
  outcome_.events = scheduler_.events_run();
  outcome_.entries = oracle_.entries();
  outcome_.mutations = oracle_.mutations_checked();
  outcome_.reads = oracle_.reads_checked();
  outcome_.remembered = oracle_.remembered_checked();
  outcome_.repeats = oracle_.repeats_seen();
  outcome_.file_writes = files_.writes();
  outcome_.file_looks = files_.looks();
  outcome_.fenced = files_.fenced();
  outcome_.operations_on_group = operator_ ? operator_->done() : 0;
  return outcome_;
}

}  // namespace

Outcome RunWorld(const Plan& plan, const TraceListener& listener) { return World(plan, listener).Run(); }

}  // namespace tarn::sim
