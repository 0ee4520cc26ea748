#include "tests/sim/data/server.h"

#include <algorithm>
#include <utility>

namespace tarn::sim_data {
namespace {

constexpr int64_t kHeartbeatNs = 300 * sim::kMillisecond;
constexpr int64_t kReportNs = 200 * sim::kMillisecond;

replication::testing::FakeTarget::Hooks MakeHooks(Bench* bench, std::function<void(const proto::GroupReport&)> report, std::function<void()> want_map) {
  replication::testing::FakeTarget::Hooks hooks;
  hooks.report = [report = std::move(report)](TargetId, const proto::GroupReport& what) { report(what); };
  hooks.want_map = [want_map = std::move(want_map)](TargetId, uint64_t) { want_map(); };
  hooks.task_delay_ns = [bench] { return bench->dice.LongTailed(200'000); };
  hooks.sync_delay_ms = bench->dice.Between(1, 20);
  // Any two clocks, the leader's with it, differ by less than its margin.
  hooks.clock_rate = 1.0 + 0.00095 * static_cast<double>(bench->dice.Between(-10, 10));
  return hooks;
}

}  // namespace

Server::Server(TargetId target, Bench* bench, Net* net, Leader* leader, replication::testing::FakeNetwork* peers)
    : bench_(bench),
      net_(net),
      leader_(leader),
      target_(target, &bench->queue, peers, replication::ReplicationOptions(),
              MakeHooks(bench, [this](const proto::GroupReport& report) { reports_.push_back(report); }, [this] { FetchMap(); })) {
  target_.store.page_entries_max = bench->dice.Chance(0.5) ? 1 : 4'096;
}

std::function<void()> Server::OfProcess(std::function<void()> what) {
  return [this, process = process_, what = std::move(what)] {
    if (process == process_ && target_.is_up()) what();
  };
}

void Server::Start() {
  bench_->Trace("start " + name());
  ++process_;
  registered_ = false;
  fetching_ = false;
  map_version_ = 0;
  reports_.clear();
  repairing_.clear();
  target_.Start();
  Register();
  Heartbeat();
  SendReports();
}

void Server::Crash() {
  const size_t kept = bench_->dice.Chance(0.5) ? 0 : bench_->dice.Below(target_.store.not_durable() + 1);
  bench_->Trace("crash " + name() + " loses " + std::to_string(target_.store.not_durable() - kept));
  lost_ = true;
  clean_ = false;
  target_.Kill(kept);
}

void Server::ShutDown() {
  bench_->Trace("shut down " + name());
  clean_ = !lost_;  // one that never registered after a crash is not sound
  target_.ShutDown();
}

void Server::Adopt(const std::shared_ptr<const proto::ClusterMap>& map) {
  map_version_ = std::max(map_version_, map->version());
  target_.engine()->AdoptMap(map);
}

void Server::Register() {
  if (registered_) return;
  const int64_t sent_ns = target_.NowNs();
  net_->Send(target_.id.value(), kLeaderNode, [this, process = process_, clean = clean_, sent_ns] {
    if (leader_->is_silent() || process != process_) return;
    leader_->Register(target_.id, process, clean);
    if (target_.is_up()) lost_ = false;  // else it is a late copy
    net_->Send(kLeaderNode, target_.id.value(), [this, process, sent_ns, map = leader_->map()] {
      if (process != process_ || !target_.is_up()) return;
      registered_ = true;
      clean_ = true;
      target_.engine()->ExtendLease(sent_ns, bench_->plan.plant == Plant::kNoLease ? 3'600'000 : kLeaseMs);
      Adopt(map);
    });
  });
  bench_->queue.After(kHeartbeatNs, OfProcess([this] { Register(); }));
}

void Server::Heartbeat() {
  bench_->queue.After(kHeartbeatNs, OfProcess([this] { Heartbeat(); }));
  if (!registered_) return;
  const int64_t sent_ns = target_.NowNs();
  net_->Send(target_.id.value(), kLeaderNode, [this, process = process_, sent_ns, version = target_.engine()->map_version()] {
    if (leader_->is_silent() || !leader_->Heartbeat(target_.id, process, version)) return;
    net_->Send(kLeaderNode, target_.id.value(), [this, process, sent_ns, map = leader_->map()] {
      if (process != process_ || !target_.is_up()) return;
      target_.engine()->ExtendLease(sent_ns, bench_->plan.plant == Plant::kNoLease ? 3'600'000 : kLeaseMs);
      Adopt(map);
    });
  });
}

void Server::ConfirmMap(std::function<void()> confirmed) {
  if (!registered_) return;
  net_->Send(target_.id.value(), kLeaderNode, [this, process = process_, version = target_.engine()->map_version(), confirmed = std::move(confirmed)] {
    if (leader_->is_silent() || !leader_->Heartbeat(target_.id, process, version)) return;
    net_->Send(kLeaderNode, target_.id.value(), [this, process, confirmed, map = leader_->map()] {
      if (process != process_ || !target_.is_up()) return;
      Adopt(map);
      confirmed();
    });
  });
}

void Server::RepairDamage() {
  if (!registered_ || !target_.is_up()) return;
  for (const ChunkId chunk : target_.store.damaged_chunks()) {
    const auto found = target_.store.chunks().find(chunk);
    if (found == target_.store.chunks().end() || !repairing_.insert(chunk).second) continue;
    target_.engine()->RepairChunk(found->second.group, chunk, [this, process = process_, chunk](const Status& status) {
      if (process != process_) return;
      bench_->Trace(name() + " repairs a chunk: " + status.ToString());
      repairing_.erase(chunk);
    });
  }
}

void Server::FetchMap() {
  if (!registered_ || fetching_) return;
  fetching_ = true;
  net_->Send(target_.id.value(), kLeaderNode, [this, process = process_] {
    if (leader_->is_silent()) return;
    net_->Send(kLeaderNode, target_.id.value(), [this, process, map = leader_->map()] {
      if (process == process_ && target_.is_up()) Adopt(map);
    });
  });
  bench_->queue.After(20 * sim::kMillisecond, OfProcess([this] { fetching_ = false; }));
}

// Again and again, as long as the epoch that they are about may be current.
void Server::SendReports() {
  bench_->queue.After(kReportNs, OfProcess([this] { SendReports(); }));
  const auto map = leader_->map();
  reports_.remove_if([&map](const proto::GroupReport& report) { return map->groups(static_cast<int>(report.group()) - 1).epoch() > report.epoch(); });
  for (const proto::GroupReport& report : reports_) {
    net_->Send(target_.id.value(), kLeaderNode, [this, process = process_, report] {
      if (leader_->is_silent()) return;
      leader_->Report(report);
      net_->Send(kLeaderNode, target_.id.value(), [this, process, map = leader_->map()] {
        if (process == process_ && target_.is_up()) Adopt(map);
      });
    });
  }
}

}  // namespace tarn::sim_data
