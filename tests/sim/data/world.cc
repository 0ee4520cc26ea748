#include "tests/sim/data/world.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "metaserver/state/group_members.h"
#include "tests/sim/data/client.h"
#include "tests/sim/data/fleet.h"
#include "tests/sim/data/group_laws.h"
#include "tests/sim/data/leader.h"
#include "tests/sim/data/net.h"
#include "tests/sim/data/operators.h"
#include "tests/sim/data/oracle.h"
#include "tests/sim/data/planted_bugs.h"

namespace tarn::sim_data {
namespace {

constexpr int64_t kTickNs = 100 * sim::kMillisecond;
constexpr int64_t kOperatorsNs = 500 * sim::kMillisecond;
// The servers of the beginning, one after another, and their groups.
constexpr int64_t kFoundingStepNs = 100 * sim::kMillisecond;
constexpr int kFoundingStepsMax = 200;
// After the last fault the cluster is whole, and every operation answered, within this.
constexpr int64_t kRestNs = 90 * sim::kSecond;
constexpr int64_t kMendNs = 20 * sim::kSecond;
// And stays so: longer than rebalancing waits.
constexpr int64_t kQuietNs = 5 * sim::kSecond;

class World {
 public:
  World(const Plan& plan, const TraceListener& listener)
      : bench_(plan, listener),
        net_(&bench_),
        leader_(&bench_),
        oracle_(&bench_),
        peers_(&bench_.queue),
        fleet_({&bench_, &net_, &leader_, &peers_, nullptr, nullptr, nullptr}),
        laws_(&bench_, &fleet_),
        operators_(&bench_, &leader_, &fleet_, &oracle_) {
    peers_.fate = [this](TargetId from, TargetId to, rpc::Method method) {
      replication::testing::CallFate fate = net_.CallFate(fleet_.NumberOf(from), NumberInNet(to));
      if (method == rpc::Method::kReplicate && accident_waits_) fate.request_lost |= AccidentHits(from);
      return fate;
    };
    leader_.on_change = [this](const auto& before, const auto& after, const auto& entry) { Changed(before, after, entry); };
    leader_.ask_process = [this](const std::string& address, const std::function<void(uint64_t)>& answer) { AskProcess(address, answer); };
    leader_.on_session_closed = [this](uint64_t session) { SessionClosed(session); };
    PlantBug(plan.plant, &peers_, &fleet_, &leader_);
    const Client::World world{&bench_, &net_, &leader_, &oracle_, &fleet_, [this](uint32_t group, bool durable) { CheckCopies(group, durable); }, &generations_, &counts_};
    for (uint32_t number = 0; number < plan.clients + plan.readers; ++number) clients_.push_back(std::make_unique<Client>(number, world));
  }

  ~World() { bench_.queue.Close(); }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Outcome Run() {
    Found();
    for (const auto& client : clients_) client->Start();
    Scrub();
    Operate();
    bench_.faulty = true;
    ScheduleFaults();
    bench_.queue.RunFor(bench_.plan.faulty_ns);
    Calm();
    // Moves begin only some time after all is well.
    int64_t quiet_ns = 0;
    uint64_t epochs = 0;
    for (int64_t waited_ns = 0; waited_ns < kRestNs && quiet_ns < kQuietNs && !bench_.queue.stopped(); waited_ns += sim::kSecond) {
      bench_.queue.RunFor(sim::kSecond);
      quiet_ns = IsAtRest() && epochs == leader_.epochs() ? quiet_ns + sim::kSecond : 0;
      epochs = leader_.epochs();
    }
    if (bench_.violation.empty() && quiet_ns < kQuietNs) bench_.Violation("the cluster does not come to rest" + Unrest());
    if (bench_.violation.empty()) CheckQuiet();
    return Result();
  }

 private:
  // Nothing fails before the cluster is there.
  void Found() {
    bench_.faulty = false;
    leader_.Start();
    Tick();
    operators_.Found();
    int steps = 0;
    const auto wait_for = [&](const std::function<bool()>& done) {
      while (!done() && ++steps < kFoundingStepsMax && !bench_.queue.stopped()) bench_.queue.RunFor(kFoundingStepNs);
    };
    for (const auto& server : fleet_.servers()) {
      server->Start();
      wait_for([&] { return server->serves(); });
    }
    wait_for([this] { return leader_.groups().size() >= bench_.plan.targets; });
    bool prepared = false;
    leader_.Prepare([&prepared] { prepared = true; });
    wait_for([&] { return prepared; });
    if (!prepared) bench_.Violation("the cluster is not founded");
  }

  void Tick() {
    bench_.queue.After(kTickNs, [this] { Tick(); });
    leader_.Tick();
    if (bench_.plan.plant == Plant::kPromoteEarly) leader_.Submit(PlantMutation(leader_, &bench_.dice));
  }

  void Operate() {
    bench_.queue.After(kOperatorsNs, [this] { Operate(); });
    operators_.Tick();
  }

  // A target that the map knows and that has not heard of it yet is nobody.
  uint64_t NumberInNet(TargetId target) const {
    const Server* server = fleet_.Find(target);
    return server != nullptr ? server->place().number : kLeaderNode;
  }

  void Changed(const proto::ClusterMap& before, const proto::ClusterMap& after, const proto::LogEntry& entry) {
    TraceChanges(before, after);
    laws_.Check(before, after, entry);
    for (const proto::LogCommand& command : entry.commands()) {
      if (!command.mutation().has_register_server()) continue;
      const proto::RegisterServerRequest& request = command.mutation().register_server().request();
      fleet_.At(request.address())->Registered(request.incarnation());
    }
    for (const proto::PlacementGroup& group : after.groups()) {
      const proto::PlacementGroup* old = meta::FindGroup(before, group.id());
      if (old == nullptr || old->epoch() == group.epoch()) continue;
      CheckLoss(leader_.group(group.id()));
      CheckCopies(group.id(), true);
    }
  }

  void AskProcess(const std::string& address, const std::function<void(uint64_t)>& answer) {
    Server* const server = fleet_.At(address);
    net_.Send(kLeaderNode, server->place().number, [this, server, answer] {
      if (!server->is_up()) return;
      net_.Send(server->place().number, kLeaderNode, [answer, process = server->process()] { answer(process); });
    });
  }

  void TraceChanges(const proto::ClusterMap& before, const proto::ClusterMap& after) {
    for (const proto::PlacementGroup& group : after.groups()) {
      const proto::PlacementGroup* old = meta::FindGroup(before, group.id());
      if (old != nullptr && old->epoch() == group.epoch()) continue;
      std::string text = "group " + std::to_string(group.id()) + " epoch " + std::to_string(group.epoch()) + ":";
      for (const uint64_t target : group.targets()) text += " " + std::to_string(target);
      text += " |";
      for (const uint64_t target : group.syncing_targets()) text += " " + std::to_string(target);
      bench_.Trace(text);
    }
    for (const proto::Target& target : after.targets()) {
      const proto::Target* old = meta::FindTarget(before, target.id());
      if (old == nullptr || old->state() != target.state()) bench_.Trace("target " + std::to_string(target.id()) + " is " + proto::TargetState_Name(target.state()));
    }
  }

  // `what` happens now and then while there are faults.
  void Every(int64_t mean_ms, std::function<void()> what) {
    if (mean_ms == 0) return;
    bench_.queue.After(bench_.dice.Between(1, 2 * mean_ms) * sim::kMillisecond, [this, mean_ms, what] {
      if (!bench_.faulty) return;
      what();
      Every(mean_ms, what);
    });
  }

  // What scrubbing does.
  void Scrub() {
    bench_.queue.After(sim::kSecond, [this] { Scrub(); });
    for (const auto& server : fleet_.servers()) server->RepairDamage();
  }

  // Of those that are not gone.
  Server* AnyServer() {
    std::vector<Server*> there;
    for (const auto& server : fleet_.servers()) {
      if (!server->is_gone()) there.push_back(server.get());
    }
    return there[bench_.dice.Below(there.size())];
  }

  void ScheduleFaults() {
    const Plan& plan = bench_.plan;
    Every(plan.crash_every_ms, [this] { Crash(); });
    Every(plan.clean_restart_every_ms, [this] {
      Server* const server = AnyServer();
      if (!server->is_up()) return;
      server->ShutDown();
      StartLater(server);
    });
    Every(plan.cut_every_ms, [this] { Cut(); });
    Every(plan.weigh_every_ms, [this] { operators_.Weigh(); });
    Every(plan.add_every_ms, [this] { operators_.AddServer(); });
    Every(plan.drain_every_ms, [this] { operators_.Drain(); });
    Every(plan.retire_every_ms, [this] { operators_.Retire(); });
    Every(plan.destroy_every_ms, [this] {
      operators_.LoseDisk();
      CheckLosses();
    });
    Every(plan.leader_change_every_ms, [this] { leader_.ChangeLeader(bench_.dice.LongTailed(800 * sim::kMillisecond)); });
    Every(plan.fence_every_ms, [this] { Fence(clients_[bench_.dice.Below(bench_.plan.clients)].get()); });
    Every(plan.lonely_every_ms, [this] { Isolate(); });
    Every(plan.accident_every_ms, [this] { accident_waits_ = true; });
    Every(plan.full_every_ms, [this] { Fill(AnyServer()); });
    Every(plan.damage_every_ms, [this] { Damage(AnyServer()); });
    Every(plan.stall_every_ms, [this] { net_.Stall(kFirstClient + bench_.dice.Below(bench_.plan.clients)); });
    Every(plan.outage_every_ms, [this] { leader_.StandStill(bench_.dice.Between(500, 8'000) * sim::kMillisecond); });
  }

  // A primary sends a change to its members, of whom some get it, and dies with the clients whose changes it has: nobody repeats these.
  // True: this member does not get it.
  bool AccidentHits(TargetId primary) {
    if (hit_ != primary) {
      hit_ = primary;
      bench_.queue.After(1, [this, primary] { Accident(primary); });
    }
    return bench_.dice.Chance(0.5);
  }
  void Accident(TargetId primary) {
    accident_waits_ = false;
    hit_ = TargetId();
    if (!bench_.faulty) return;
    for (const replication::GroupView& group : leader_.groups()) {
      if (group.primary() != primary) continue;
      for (const auto& client : clients_) {
        if (!client->WritesTo(static_cast<uint32_t>(group.id.value())) || client->is_dead()) continue;
        bench_.Trace("session " + std::to_string(client->session()) + " dies");
        client->Die();
        bench_.queue.After(bench_.dice.Between(100, 6'000) * sim::kMillisecond, [this, dead = client.get()] {
          if (dead->is_dead()) Fence(dead);
        });
      }
    }
    Crash(fleet_.Find(primary));
  }

  void Fill(Server* server) {
    const bool is_brimful = bench_.dice.Chance(0.3);
    if (!server->target().valid()) return;
    bench_.Trace(server->name() + (is_brimful ? " is brimful" : " is full"));
    server->store().available_bytes = 0;
    server->store().is_brimful = is_brimful;
    bench_.queue.After(bench_.dice.Between(300, 6'000) * sim::kMillisecond, [this, server] { Empty(server); });
  }

  void Empty(Server* server) {
    if (!server->target().valid()) return;
    server->store().available_bytes = uint64_t{1} << 40;
    server->store().is_brimful = false;
  }

  // A block of one copy. Others of the chunk are whole, so it can be mended.
  void Damage(Server* server) {
    if (!server->serves() || server->is_lost() || server->store().chunks().empty()) return;
    auto chunk = server->store().chunks().begin();
    std::advance(chunk, static_cast<ptrdiff_t>(bench_.dice.Below(server->store().chunks().size())));
    if (chunk->second.bytes.empty() || !chunk->second.group.valid()) return;
    const replication::GroupView& group = leader_.group(static_cast<uint32_t>(chunk->second.group.value()));
    if (group.in_sync.size() < 2 || !group.IsInSync(server->target())) return;
    for (const auto& other : fleet_.servers()) {
      if (other->target().valid() && other->store().damaged_chunks().contains(chunk->first)) return;
    }
    const uint64_t block = bench_.dice.Below((chunk->second.bytes.size() + 4'095) / 4'096);
    bench_.Trace("damage in chunk " + ToString(chunk->first) + " at " + server->name());
    server->store().Damage(chunk->first, block, bench_.dice.Chance(0.5) ? StatusCode::kCorruption : StatusCode::kIoError);
    ++damages_;
  }

  void Crash() { Crash(AnyServer()); }
  void Crash(Server* server) {
    if (!server->is_up()) return;
    ++crashes_;
    server->Crash();
    CheckLosses();
    StartLater(server);
  }
  void CheckLosses() {
    for (const replication::GroupView& group : leader_.groups()) CheckLoss(group);
  }

  // Whether nobody is left, of those whom the leader counts as in-sync, who has what was not durable.
  void CheckLoss(const replication::GroupView& group) {
    const bool all_lost = std::all_of(group.in_sync.begin(), group.in_sync.end(), [this](TargetId id) {
      const Server* server = fleet_.Find(id);
      return server != nullptr && server->is_lost();
    });
    if (!all_lost) return;
    bench_.Trace("all in-sync members of group " + std::to_string(group.id.value()) + " have crashed");
    oracle_.Loss(group.id.value());
  }

  void StartLater(Server* server) {
    bench_.queue.After(bench_.dice.LongTailed(800 * sim::kMillisecond), [server] {
      if (!server->is_up()) server->Start();
    });
  }

  void Cut() {
    if (is_cut_) return;
    const auto any = [this] { return bench_.dice.Below(fleet_.servers().size() + 1); };  // 0: the leader
    const uint64_t one = any(), other = bench_.dice.Chance(0.4) ? kLeaderNode : any();
    const bool whole_node = bench_.dice.Chance(0.3);
    bench_.Trace("cut " + std::to_string(one) + " from " + (whole_node ? "all" : std::to_string(other)));
    for (uint64_t node = 0; node <= fleet_.servers().size(); ++node) {
      if (node == one || (!whole_node && node != other)) continue;
      net_.Cut(one, node);
      if (bench_.dice.Chance(0.7)) net_.Cut(node, one);
    }
    HealAfter(bench_.dice.Between(100, 8'000) * sim::kMillisecond);
  }

  void HealAfter(int64_t delay_ns) {
    is_cut_ = true;
    bench_.queue.After(delay_ns, [this] {
      net_.Heal();
      is_cut_ = false;
    });
  }

  // A member of a whole group, more often than not its primary, from the leader and the other servers: its readers stay, and learn of nothing.
  void Isolate() {
    const replication::GroupView& group = leader_.group(leader_.used_groups()[bench_.dice.Below(leader_.used_groups().size())]);
    if (is_cut_ || group.in_sync.size() < 2) return;
    const Server* const lonely = fleet_.Find(group.in_sync[bench_.dice.Chance(0.6) ? 0 : 1]);
    bench_.Trace(lonely->name() + " reaches clients only");
    const uint64_t one = lonely->place().number;
    for (uint64_t node = 0; node <= fleet_.servers().size(); ++node) {
      net_.Cut(one, node);
      net_.Cut(node, one);
    }
    HealAfter(bench_.dice.Between(3'000, 8'000) * sim::kMillisecond);
  }

  // The leader takes the client for gone, at once or when its session's time is up.
  void Fence(Client* client) {
    bench_.Trace("session " + std::to_string(client->session()) + " is not renewed any more");
    client->StopRenewing();
    if (bench_.dice.Chance(0.7)) leader_.ExpireSession(client->session());
  }
  void SessionClosed(uint64_t session) {
    bench_.Trace("closed session " + std::to_string(session));
    for (const auto& client : clients_) {
      if (client->session() == session) client->Closed();
    }
  }

  // No more faults, and nothing new.
  void Calm() {
    bench_.Trace("calm");
    bench_.faulty = false;
    net_.Heal();
    leader_.Calm();
    operators_.Calm();
    for (const auto& server : fleet_.servers()) {
      Empty(server.get());
      if (!server->is_up()) server->Start();
    }
    // What is left of damage then has no other copy any more: somebody writes it anew.
    bench_.queue.After(kMendNs, [this] {
      for (const auto& server : fleet_.servers()) {
        if (server->target().valid()) server->store().MendAll();
      }
    });
    bench_.queue.RunFor(3 * sim::kSecond);
    for (const auto& client : clients_) client->Finish();
  }

  // It can be made whole.
  bool HasSource(const replication::GroupView& group) const {
    return std::any_of(group.in_sync.begin(), group.in_sync.end(), [this](TargetId id) {
      const Server* server = fleet_.Find(id);
      return server != nullptr && !server->is_gone();
    });
  }
  bool IsWhole(const replication::GroupView& group) const {
    std::set<std::string> nodes;
    for (const TargetId member : group.in_sync) {
      const Server* server = fleet_.Find(member);
      if (server == nullptr || !server->HasLease() || !operators_.IsStaying(*server)) return false;
      nodes.insert(server->place().node);
    }
    return group.in_sync.size() == group.replicas && group.syncing.empty() && nodes.size() == group.in_sync.size();
  }
  std::string NotWhole() const {
    std::string text;
    for (const replication::GroupView& group : leader_.groups()) {
      const bool must_be = HasSource(group) || leader_.IsUsed(static_cast<uint32_t>(group.id.value()));
      if (must_be && !IsWhole(group)) text += ", group " + std::to_string(group.id.value()) + " is not whole";
    }
    return text;
  }
  bool IsAtRest() const {
    return leader_.NextPlan().empty() && NotWhole().empty() && std::all_of(clients_.begin(), clients_.end(), [](const auto& client) { return client->is_idle(); });
  }
  std::string Unrest() const {
    std::string text = NotWhole();
    if (const std::string plan = leader_.NextPlan(); !plan.empty()) text += ", the planner goes on: " + plan;
    for (const auto& client : clients_) {
      if (!client->is_idle()) text += ", session " + std::to_string(client->session()) + " waits";
    }
    return text;
  }

  void CheckCopies(uint32_t group, bool durable) {
    for (const TargetId member : leader_.group(group).in_sync) {
      const Server* const found = fleet_.Find(member);
      if (found == nullptr || found->is_destroyed()) continue;
      const Server& server = *found;
      if (!server.is_lost()) oracle_.CheckCopy(group, server.store().chunks(), false, server.name());
      if (durable) oracle_.CheckCopy(group, server.store().durable_chunks(), true, server.name());
    }
  }

  // In-sync members are equal, and have what was acknowledged.
  void CheckQuiet() {
    for (const uint32_t id_of_group : leader_.used_groups()) {
      const replication::GroupView& group = leader_.group(id_of_group);
      CheckCopies(id_of_group, true);
      const auto chunks = [&](TargetId id) {
        std::map<ChunkId, replication::testing::FakeStore::Chunk> found;
        for (const auto& [chunk, state] : fleet_.Find(id)->store().chunks()) {
          if (state.group == group.id && state.stamp.version > 0) found.emplace(chunk, state);
        }
        return found;
      };
      for (const TargetId member : group.in_sync) {
        oracle_.CheckSharedCopy(id_of_group, fleet_.Find(member)->store().chunks(), fleet_.Find(member)->name());
      }
      const auto first = chunks(group.primary());
      for (const TargetId member : group.in_sync) {
        const auto other = chunks(member);
        const bool equal = std::equal(first.begin(), first.end(), other.begin(), other.end(), [](const auto& a, const auto& b) {
          return a.first == b.first && a.second.bytes == b.second.bytes && a.second.stamp == b.second.stamp;
        });
        if (!equal) {
          bench_.Violation("group " + std::to_string(group.id.value()) + " differs between its in-sync members " +
                           std::to_string(group.primary().value()) + " and " + std::to_string(member.value()));
        }
      }
    }
  }

  Outcome Result() const {
    Outcome outcome;
    outcome.violation = bench_.violation;
    outcome.violation_ns = bench_.violation_ns;
    outcome.trace = bench_.trace();
    outcome.events = bench_.queue.events_run();
    outcome.writes = counts_.writes;
    outcome.reads = counts_.reads;
    outcome.commits = counts_.commits;
    outcome.sent_again = counts_.sent_again;
    outcome.given_way = counts_.given_way;
    outcome.given_up = counts_.given_up;
    outcome.crashes = crashes_;
    outcome.epochs = leader_.epochs();
    outcome.losses = oracle_.losses();
    outcome.damages = damages_;
    outcome.changes_of_leader = leader_.changes_of_leader();
    outcome.changes_of_fleet = operators_.changes();
    outcome.groups_given_up = operators_.given_up();
    return outcome;
  }

  Bench bench_;
  Net net_;
  Leader leader_;
  Oracle oracle_;
  replication::testing::FakeNetwork peers_;
  Fleet fleet_;
  const GroupLaws laws_;
  Operators operators_;
  std::vector<std::unique_ptr<Client>> clients_;
  Counts counts_;
  std::map<std::pair<uint32_t, uint32_t>, uint64_t> generations_;  // of cuts, by group and chunk
  bool is_cut_ = false;
  bool accident_waits_ = false;  // for a change to be sent
  TargetId hit_;                 // the primary that it has met
  uint64_t crashes_ = 0;
  uint64_t damages_ = 0;
};

}  // namespace

Outcome RunWorld(const Plan& plan, const TraceListener& listener) { return World(plan, listener).Run(); }

}  // namespace tarn::sim_data
