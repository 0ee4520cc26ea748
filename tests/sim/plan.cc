// The fault model, as a whole. Each part is told in full at the top of the file that implements it.
//
//   network  (network.h): messages are lost, repeated, delayed, reordered; directed partitions come and go.
//   log disk (log_disk.h): writes are durable when reported, in order; a crash keeps any prefix of those that were not,
//            the last one perhaps in part. Terms and votes are durable at once or not at all. Syncs can be slow.
//   state    (member.h, MemoryKv): a crash falls back to any batch boundary after the last flush.
//   members  (member.h): crash at any moment and at any write, alone or all at once; restart; stop in the middle of an
//            event or of answering a read and go on later; their Raft
//            thread alone stands still while requests are answered; clocks run at different rates, wall clocks jump.
//   clients  (client.h): give up waiting and ask again, the same request or a late copy of it; ask members of whom
//            nobody says that they lead; expire; start over.
//
// A seed arms each kind of fault with a probability, and draws its rate from a range, so that some runs are calm but
// for one kind, and some are stormy. Not modelled: bits that flip, disks that lose what they reported (but as a planted
// bug), clocks beyond kClockRateMax.
//
//   group    (group_operator.h), where it changes: servers are added, removed and replaced after the loss of a disk,
//            leadership is handed over, leaders are stopped; what an operator asks for is repeated until it is answered.
#include "tests/sim/plan.h"

#include <algorithm>

#include "tests/sim/scheduler.h"

namespace tarn::sim {
namespace {

// The leader's lease is 0.75 of an election time-out: safe while (1 + r) / (1 - r) < 1 / 0.75.
constexpr double kClockRateMax = 0.1;

class Drawer {
 public:
  explicit Drawer(uint64_t seed) : dice_(seed * 0x9E3779B97F4A7C15ull + 1) {}

  double Rate(double armed, double low, double high) {
    const bool on = dice_.Chance(armed);
    const double at = static_cast<double>(dice_.Below(1001)) / 1000.0;
    return on ? low + (high - low) * at * at : 0;
  }
  int64_t Interval(double armed, int64_t low_ms, int64_t high_ms) {
    const bool on = dice_.Chance(armed);
    const int64_t length = dice_.Between(low_ms, high_ms) * kMillisecond;
    return on ? length : 0;
  }
  Dice& dice() { return dice_; }

 private:
  Dice dice_;
};

// Clients that write files; then the others are few, and leases short enough to end within the run.
void DrawFiles(Drawer* draw, Plan* plan) {
  plan->file_clients = static_cast<uint32_t>(draw->dice().Between(2, 4));
  plan->chunk_servers = static_cast<uint32_t>(draw->dice().Between(1, 2));
  plan->target_lease_ms = draw->dice().Between(300, 1500);
  plan->clients = static_cast<uint32_t>(draw->dice().Between(1, 2));
  plan->caching_clients = std::min(plan->caching_clients, plan->clients);
  if (plan->session_lease_ms > 3000) plan->session_lease_ms = draw->dice().Between(600, 3000);
  FaultPlan& faults = plan->faults;
  faults.client_stop_interval_ns = draw->Interval(0.6, 400, 4000);
  faults.client_stop_length_ns = draw->dice().Between(50, 2000) * kMillisecond;
  faults.client_kill_interval_ns = draw->Interval(0.4, 1000, 6000);
  faults.chunk_server_stop_interval_ns = draw->Interval(0.4, 500, 4000);
}

}  // namespace

std::string_view PlantName(Plant plant) {
  switch (plant) {
    case Plant::kNone:
      return "none";
    case Plant::kForgetResult:
      return "forget-result";
    case Plant::kReadWithoutLease:
      return "read-without-lease";
    case Plant::kNoSecondLook:
      return "no-second-look";
    case Plant::kServeTooEarly:
      return "serve-too-early";
    case Plant::kAckUnsynced:
      return "ack-unsynced";
    case Plant::kForgetVote:
      return "forget-vote";
    case Plant::kCountWrong:
      return "count-wrong";
    case Plant::kVoteAtOnce:
      return "vote-at-once";
    case Plant::kTrimTooEarly:
      return "trim-too-early";
    case Plant::kIgnorePush:
      return "ignore-push";
    case Plant::kCacheBeyondLease:
      return "cache-beyond-lease";
    case Plant::kCacheAcrossTerms:
      return "cache-across-terms";
    case Plant::kIgnoreRecall:
      return "ignore-recall";
    case Plant::kForgetSize:
      return "forget-size";
    case Plant::kHideOpen:
      return "hide-open";
    case Plant::kHideWritten:
      return "hide-written";
    case Plant::kNewLeaderRushes:
      return "new-leader-rushes";
    case Plant::kNoFence:
      return "no-fence";
    case Plant::kClaimFence:
      return "claim-fence";
    case Plant::kBelieveLonger:
      return "believe-longer";
  }
  return "none";
}

// From a stream of its own: the rest of a plan is as it is without it.
void DrawGroupChanges(Plan* plan) {
  Drawer draw(plan->seed ^ 0x6D656D62657273ull);
  plan->group_changes = true;
  plan->group_size = draw.dice().Chance(0.25) ? 5 : 3;
  plan->members = plan->group_size + static_cast<uint32_t>(draw.dice().Between(1, 3));
  plan->operate_interval_ns = draw.dice().Between(200, 2500) * kMillisecond;
}

Plan DrawPlan(uint64_t seed) {
  Drawer draw(seed);
  Plan plan;
  plan.seed = seed;
  plan.members = draw.dice().Chance(0.3) ? 5 : 3;
  plan.clients = static_cast<uint32_t>(draw.dice().Between(2, 5));
  plan.slots = static_cast<uint32_t>(draw.dice().Between(1, 3));
  plan.faults_until_ns = draw.dice().Between(8, 20) * kSecond;
  plan.snapshot_entries = static_cast<uint32_t>(draw.dice().Chance(0.6) ? draw.dice().Between(5, 60) : 1'000'000);
  plan.session_lease_ms = draw.dice().Chance(0.3) ? draw.dice().Between(800, 2500) : 60'000;
  FaultPlan& faults = plan.faults;
  faults.lose = draw.Rate(0.6, 0.001, 0.2);
  faults.repeat = draw.Rate(0.5, 0.001, 0.1);
  faults.delay = draw.Rate(0.5, 0.001, 0.1);
  faults.reorder = draw.Rate(0.5, 0.01, 0.5);
  faults.latency_ns = draw.dice().Between(50, 3000) * kMicrosecond;
  faults.partition_interval_ns = draw.Interval(0.6, 400, 4000);
  faults.partition_length_ns = draw.dice().Between(50, 2500) * kMillisecond;
  faults.crash_interval_ns = draw.Interval(0.6, 400, 5000);
  faults.crash_at_write = draw.Rate(0.4, 0.0002, 0.01);
  faults.crash_all = draw.Rate(0.3, 0.05, 0.5);
  faults.restart_delay_ns = draw.dice().Between(1, 1500) * kMillisecond;
  faults.pause_interval_ns = draw.Interval(0.5, 300, 3000);
  faults.pause_length_ns = draw.dice().Between(20, 1500) * kMillisecond;
  faults.pause_in_read = draw.Rate(0.5, 0.004, 0.06);
  faults.sync_ns = draw.dice().Between(20, 4000) * kMicrosecond;
  faults.slow_sync = draw.Rate(0.4, 0.001, 0.05);
  faults.clock_rate = draw.Rate(0.6, 0.01, kClockRateMax);
  faults.wall_jump = draw.Rate(0.5, 0.1, 1.0);
  faults.stall_interval_ns = draw.Interval(0.4, 500, 4000);
  faults.stall_length_ns = draw.dice().Between(100, 1500) * kMillisecond;
  plan.probe = draw.Rate(0.6, 0.02, 0.6);
  plan.call_timeout_ns = draw.dice().Between(60, 500) * kMillisecond;
  const bool caches = draw.dice().Chance(0.5);
  const auto caching_clients = static_cast<uint32_t>(draw.dice().Between(1, plan.clients));
  const int64_t cache_lease_ms = draw.dice().Between(600, 3000);
  if (caches) {
    plan.caching_clients = caching_clients;
    plan.session_lease_ms = cache_lease_ms;
  }
  if (draw.dice().Chance(0.5)) DrawFiles(&draw, &plan);
  return plan;
}

std::string Describe(const Plan& plan) {
  const FaultPlan& faults = plan.faults;
  const auto ms = [](int64_t ns) { return std::to_string(ns / kMillisecond); };
  return "members=" + std::to_string(plan.members) + " clients=" + std::to_string(plan.clients) + "x" +
         std::to_string(plan.slots) + " faults_ms=" + ms(plan.faults_until_ns) +
         " snapshot_entries=" + std::to_string(plan.snapshot_entries) +
         " session_lease_ms=" + std::to_string(plan.session_lease_ms) + " lose=" + std::to_string(faults.lose) +
         " repeat=" + std::to_string(faults.repeat) + " delay=" + std::to_string(faults.delay) +
         " reorder=" + std::to_string(faults.reorder) + " partition_ms=" + ms(faults.partition_interval_ns) + "/" +
         ms(faults.partition_length_ns) + " crash_ms=" + ms(faults.crash_interval_ns) +
         " crash_at_write=" + std::to_string(faults.crash_at_write) + " crash_all=" + std::to_string(faults.crash_all) +
         " pause_ms=" + ms(faults.pause_interval_ns) + "/" + ms(faults.pause_length_ns) +
         " pause_in_read=" + std::to_string(faults.pause_in_read) + " stall_ms=" + ms(faults.stall_interval_ns) + "/" + ms(faults.stall_length_ns) +
         " file_clients=" + std::to_string(plan.file_clients) + " chunk_servers=" + std::to_string(plan.chunk_servers) +
         " target_lease_ms=" + std::to_string(plan.target_lease_ms) + " client_stop_ms=" +
         ms(faults.client_stop_interval_ns) + "/" + ms(faults.client_stop_length_ns) + " client_kill_ms=" +
         ms(faults.client_kill_interval_ns) + " chunk_server_stop_ms=" + ms(faults.chunk_server_stop_interval_ns) +
         " caching_clients=" + std::to_string(plan.caching_clients) + " probe=" + std::to_string(plan.probe) + " call_timeout_ms=" + ms(plan.call_timeout_ns) +
         (plan.group_changes ? " group_size=" + std::to_string(plan.group_size) + " operate_ms=" + ms(plan.operate_interval_ns) : "") +
         " slow_sync=" + std::to_string(faults.slow_sync) +
         " clock_rate=" + std::to_string(faults.clock_rate);
}

}  // namespace tarn::sim
