#include "tests/sim/data/world.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "tests/sim/data/client.h"
#include "tests/sim/data/leader.h"
#include "tests/sim/data/net.h"
#include "tests/sim/data/oracle.h"
#include "tests/sim/data/planted_bugs.h"
#include "tests/sim/data/server.h"

namespace tarn::sim_data {
namespace {

constexpr int64_t kTickNs = 100 * sim::kMillisecond;
// After the last fault the cluster is whole, and every operation answered, within this.
constexpr int64_t kRestNs = 90 * sim::kSecond;
constexpr int64_t kMendNs = 20 * sim::kSecond;

class World {
 public:
  World(const Plan& plan, const TraceListener& listener) : bench_(plan, listener), net_(&bench_), leader_(&bench_), oracle_(&bench_), peers_(&bench_.queue) {
    peers_.fate = [this](TargetId from, TargetId to, rpc::Method method) {
      replication::testing::CallFate fate = net_.CallFate(from.value(), to.value());
      if (method == rpc::Method::kReplicate && accident_waits_) fate.request_lost |= AccidentHits(from);
      return fate;
    };
    for (uint32_t id = 1; id <= plan.targets; ++id) {
      servers_[TargetId(id)] = std::make_unique<Server>(TargetId(id), &bench_, &net_, &leader_, &peers_);
    }
    leader_.on_change = [this](const replication::GroupView& group) { CheckLoss(group); };
    PlantBug(plan.plant, &peers_, &servers_, &leader_);
    const Client::World world{&bench_, &net_, &leader_, &oracle_, &servers_, [this](uint32_t group, bool durable) { CheckCopies(group, durable); }, &generations_, &counts_};
    for (uint32_t number = 0; number < plan.clients + plan.readers; ++number) clients_.push_back(std::make_unique<Client>(number, world));
  }

  ~World() { bench_.queue.Close(); }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Outcome Run() {
    for (const auto& [id, server] : servers_) server->Start();
    for (const auto& client : clients_) client->Start();
    Tick();
    Scrub();
    ScheduleFaults();
    bench_.queue.RunFor(bench_.plan.faulty_ns);
    Calm();
    for (int64_t waited_ns = 0; waited_ns < kRestNs && !IsAtRest() && !bench_.queue.stopped(); waited_ns += sim::kSecond) bench_.queue.RunFor(sim::kSecond);
    if (bench_.violation.empty() && !IsAtRest()) bench_.Violation("the cluster does not come to rest" + Unrest());
    bench_.queue.RunFor(2 * sim::kSecond);
    if (bench_.violation.empty()) CheckQuiet();
    return Result();
  }

 private:
  void Tick() {
    bench_.queue.After(kTickNs, [this] { Tick(); });
    leader_.Tick();
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
    for (const auto& [id, server] : servers_) server->RepairDamage();
  }

  Server* AnyServer() { return servers_.at(TargetId(bench_.dice.Below(bench_.plan.targets) + 1)).get(); }

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
    Every(plan.move_every_ms, [this] { leader_.MoveSomething(); });
    Every(plan.fence_every_ms, [this] { Fence(clients_[bench_.dice.Below(bench_.plan.clients)].get()); });
    Every(plan.lonely_every_ms, [this] { Isolate(); });
    Every(plan.accident_every_ms, [this] { accident_waits_ = true; });
    Every(plan.full_every_ms, [this] { Fill(AnyServer()); });
    Every(plan.damage_every_ms, [this] { Damage(AnyServer()); });
    Every(plan.outage_every_ms, [this] {
      if (leader_.is_silent()) return;
      leader_.SetSilent(true);
      bench_.queue.After(bench_.dice.Between(500, 8'000) * sim::kMillisecond, [this] {
        if (leader_.is_silent()) leader_.SetSilent(false);
      });
    });
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
        if (!client->WritesTo(static_cast<uint32_t>(group.id.value())) || fencing_.contains(client.get())) continue;
        bench_.Trace("session " + std::to_string(client->session()) + " dies");
        client->Die();
        bench_.queue.After(bench_.dice.Between(100, 6'000) * sim::kMillisecond, [this, dead = client.get()] {
          if (bench_.faulty) Fence(dead);
        });
      }
    }
    Crash(servers_.at(primary).get());
  }

  void Fill(Server* server) {
    const bool is_brimful = bench_.dice.Chance(0.3);
    bench_.Trace(server->name() + (is_brimful ? " is brimful" : " is full"));
    server->store().available_bytes = 0;
    server->store().is_brimful = is_brimful;
    bench_.queue.After(bench_.dice.Between(300, 6'000) * sim::kMillisecond, [this, server] { Empty(server); });
  }

  void Empty(Server* server) {
    server->store().available_bytes = uint64_t{1} << 40;
    server->store().is_brimful = false;
  }

  // A block of one copy. Others of the chunk are whole, so it can be mended.
  void Damage(Server* server) {
    if (!server->is_up() || server->is_lost() || server->store().chunks().empty()) return;
    auto chunk = server->store().chunks().begin();
    std::advance(chunk, static_cast<ptrdiff_t>(bench_.dice.Below(server->store().chunks().size())));
    if (chunk->second.bytes.empty() || !chunk->second.group.valid()) return;
    const replication::GroupView& group = leader_.group(static_cast<uint32_t>(chunk->second.group.value()));
    if (group.in_sync.size() < 2 || !group.IsInSync(server->target())) return;
    for (const auto& [id, other] : servers_) {
      if (other->store().damaged_chunks().contains(chunk->first)) return;
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
    for (const replication::GroupView& group : leader_.groups()) CheckLoss(group);
    StartLater(server);
  }

  // Whether nobody is left, of those whom the leader counts as in-sync, who has what was not durable.
  void CheckLoss(const replication::GroupView& group) {
    const bool all_lost = std::all_of(group.in_sync.begin(), group.in_sync.end(), [this](TargetId id) { return servers_.at(id)->is_lost(); });
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
    const auto any = [this] { return bench_.dice.Below(bench_.plan.targets + 1); };  // 0: the leader
    const uint64_t one = any(), other = bench_.dice.Chance(0.4) ? kLeaderNode : any();
    const bool whole_node = bench_.dice.Chance(0.3);
    bench_.Trace("cut " + std::to_string(one) + " from " + (whole_node ? "all" : std::to_string(other)));
    for (uint64_t node = 0; node <= bench_.plan.targets; ++node) {
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
    const replication::GroupView& group = leader_.group(static_cast<uint32_t>(bench_.dice.Below(bench_.plan.groups)) + 1);
    if (is_cut_ || group.in_sync.size() < 2) return;
    const uint64_t one = group.in_sync[bench_.dice.Chance(0.6) ? 0 : 1].value();
    bench_.Trace("target " + std::to_string(one) + " reaches clients only");
    for (uint64_t node = 0; node <= bench_.plan.targets; ++node) {
      net_.Cut(one, node);
      net_.Cut(node, one);
    }
    HealAfter(bench_.dice.Between(3'000, 8'000) * sim::kMillisecond);
  }

  void Fence(Client* client) {
    if (leader_.is_silent() || !fencing_.insert(client).second) return;
    leader_.Fence(client->session(), [this, client] {
      fencing_.erase(client);
      bench_.Trace("fenced session " + std::to_string(client->session()));
      client->Reopen();
    });
  }

  // No more faults, and nothing new.
  void Calm() {
    bench_.Trace("calm");
    bench_.faulty = false;
    net_.Heal();
    if (leader_.is_silent()) leader_.SetSilent(false);
    for (const auto& [id, server] : servers_) {
      Empty(server.get());
      if (!server->is_up()) server->Start();
    }
    // What is left of damage then has no other copy any more: somebody writes it anew.
    bench_.queue.After(kMendNs, [this] {
      for (const auto& [id, server] : servers_) server->store().MendAll();
    });
    bench_.queue.RunFor(3 * sim::kSecond);
    for (const auto& client : clients_) client->Finish();
  }

  bool IsAtRest() const {
    return fencing_.empty() && leader_.IsWhole() && std::all_of(clients_.begin(), clients_.end(), [](const auto& client) { return client->is_idle(); });
  }
  std::string Unrest() const {
    std::string text;
    if (!fencing_.empty()) text += ", a session is not fenced";
    if (!leader_.IsWhole()) text += ", a group is not whole";
    for (const auto& client : clients_) {
      if (!client->is_idle()) text += ", session " + std::to_string(client->session()) + " waits";
    }
    return text;
  }

  void CheckCopies(uint32_t group, bool durable) {
    for (const TargetId member : leader_.group(group).in_sync) {
      const Server& server = *servers_.at(member);
      if (!server.is_lost()) oracle_.CheckCopy(group, server.store().chunks(), false, server.name());
      if (durable) oracle_.CheckCopy(group, server.store().durable_chunks(), true, server.name());
    }
  }

  // In-sync members are equal, and have what was acknowledged.
  void CheckQuiet() {
    for (const replication::GroupView& group : leader_.groups()) {
      CheckCopies(group.id.value(), true);
      const auto chunks = [&](TargetId id) {
        std::map<ChunkId, replication::testing::FakeStore::Chunk> found;
        for (const auto& [chunk, state] : servers_.at(id)->store().chunks()) {
          if (state.group == group.id && state.stamp.version > 0) found.emplace(chunk, state);
        }
        return found;
      };
      for (const TargetId member : group.in_sync) {
        oracle_.CheckSharedCopy(static_cast<uint32_t>(group.id.value()), servers_.at(member)->store().chunks(), servers_.at(member)->name());
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
    return outcome;
  }

  Bench bench_;
  Net net_;
  Leader leader_;
  Oracle oracle_;
  replication::testing::FakeNetwork peers_;
  std::map<TargetId, std::unique_ptr<Server>> servers_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::set<Client*> fencing_;
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
