// The network of a run: who can reach whom, and how late.
//
// Nodes are numbers: targets by their ids, the metadata leader is 0, clients begin at kFirstClient.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <utility>

#include "chunkserver/replication/testing/event_queue.h"
#include "chunkserver/replication/testing/fake_network.h"
#include "tests/sim/data/plan.h"
#include "tests/sim/scheduler.h"

namespace tarn::sim_data {

inline constexpr uint64_t kLeaderNode = 0;
inline constexpr uint64_t kFirstClient = 100;

// What the parts of a run share. One thread.
class Bench {
 public:
  Bench(const Plan& the_plan, std::function<void(int64_t, const std::string&)> listener)
      : plan(the_plan), dice(the_plan.seed), listener_(std::move(listener)) {}

  void Trace(const std::string& what) {
    for (const char c : what) trace_ = (trace_ ^ static_cast<uint8_t>(c)) * 0x100000001b3ull;
    trace_ = (trace_ ^ static_cast<uint64_t>(queue.now_ns())) * 0x100000001b3ull;
    if (listener_) listener_(queue.now_ns(), what);
  }
  void Violation(const std::string& what) {
    if (!violation.empty()) return;
    violation = what;
    violation_ns = queue.now_ns();
    Trace("VIOLATION " + what);
    queue.Stop();
  }

  const Plan plan;
  sim::Dice dice;
  replication::testing::EventQueue queue;
  bool faulty = true;
  std::string violation;
  int64_t violation_ns = 0;
  uint64_t trace() const { return trace_; }

 private:
  uint64_t trace_ = 0xcbf29ce484222325ull;
  const std::function<void(int64_t, const std::string&)> listener_;
};

// One thread.
class Net {
 public:
  explicit Net(Bench* bench) : bench_(bench) {}

  int64_t LateNs() { return bench_->dice.Between(10, bench_->plan.late_ms_max) * sim::kMillisecond; }
  int64_t DelayNs() {
    int64_t delay_ns = bench_->dice.LongTailed(400'000);
    if (bench_->faulty && bench_->dice.Chance(bench_->plan.very_late)) delay_ns += LateNs();
    return delay_ns;
  }
  // Whether a message sent now gets through.
  bool Passes(uint64_t from, uint64_t to) {
    if (cuts_.contains({from, to})) return false;
    return !bench_->faulty || !bench_->dice.Chance(bench_->plan.lost);
  }
  void Send(uint64_t from, uint64_t to, std::function<void()> deliver) {
    int64_t delay_ns = DelayNs();
    const bool is_of_client = from != kLeaderNode && to != kLeaderNode && (from >= kFirstClient || to >= kFirstClient);
    if (is_of_client && bench_->plan.clients_late > 0 && bench_->faulty && bench_->dice.Chance(bench_->plan.clients_late)) delay_ns += LateNs();
    if (from == stall_.client && is_of_client) delay_ns = HeldUntil(stall_.requests_from_ns, stall_.requests_until_ns, delay_ns);
    if (to == stall_.client && is_of_client) delay_ns = HeldUntil(0, stall_.answers_until_ns, delay_ns);
    if (Passes(from, to)) bench_->queue.After(delay_ns, deliver);
    if (bench_->faulty && bench_->dice.Chance(bench_->plan.twice) && Passes(from, to)) bench_->queue.After(DelayNs() * 3, deliver);
  }
  replication::testing::CallFate CallFate(uint64_t from, uint64_t to) {
    replication::testing::CallFate fate;
    fate.request_lost = !Passes(from, to);
    fate.reply_lost = !Passes(to, from);
    fate.request_delay_ns = DelayNs();
    fate.reply_delay_ns = DelayNs();
    if (bench_->faulty && bench_->dice.Chance(bench_->plan.twice) && Passes(from, to)) fate.second_copy_delay_ns = DelayNs() * 3;
    return fate;
  }
  void Cut(uint64_t from, uint64_t to) { cuts_.insert({from, to}); }
  void Heal() { cuts_.clear(); }
  // A client's connections to targets stand still: it gets no answers for a while, and what it sends until then comes later than that. What it sends
  // afterwards goes over new ones. One client at a time.
  void Stall(uint64_t client) {
    const int64_t now_ns = bench_->queue.now_ns();
    if (now_ns < stall_.requests_until_ns) return;
    stall_.client = client;
    stall_.requests_from_ns = now_ns + 100 * sim::kMillisecond;
    stall_.answers_until_ns = now_ns + bench_->dice.Between(1'000, 4'000) * sim::kMillisecond;
    stall_.requests_until_ns = stall_.answers_until_ns + bench_->dice.Between(100, 1'000) * sim::kMillisecond;
  }

 private:
  struct Stalled {
    uint64_t client = kLeaderNode;  // none
    int64_t requests_from_ns = 0;
    int64_t requests_until_ns = 0;
    int64_t answers_until_ns = 0;
  };

  // Of a message that is sent while its way stands still.
  int64_t HeldUntil(int64_t from_ns, int64_t until_ns, int64_t delay_ns) const {
    const int64_t now_ns = bench_->queue.now_ns();
    return now_ns >= from_ns && now_ns < stall_.answers_until_ns ? until_ns - now_ns + delay_ns : delay_ns;
  }

  Bench* const bench_;
  std::set<std::pair<uint64_t, uint64_t>> cuts_;
  Stalled stall_;
};

}  // namespace tarn::sim_data
