#include "tests/sim/data/server.h"

#include <algorithm>
#include <utility>

#include "metaserver/state/group_members.h"

namespace tarn::sim_data {
namespace {

constexpr int64_t kHeartbeatNs = 300 * sim::kMillisecond;
constexpr int64_t kReportNs = 200 * sim::kMillisecond;
constexpr char kClusterId[] = "simulated";

}  // namespace

Server::Server(Place place, const World& world)
    : place_(std::move(place)),
      world_(world),
      bench_(world.bench),
      // Any two clocks, the leader's with it, differ by less than its margin.
      clock_rate_(1.0 + 0.00095 * static_cast<double>(world.bench->dice.Between(-10, 10))),
      map_(std::make_shared<proto::ClusterMap>()) {}

void Server::MakeTarget(TargetId id) {
  replication::testing::FakeTarget::Hooks hooks;
  hooks.report = [this](TargetId, const proto::GroupReport& what) {
    reports_.push_back(what);
    world_.on_report(what);
  };
  hooks.want_map = [this](TargetId, uint64_t) { FetchMap(); };
  hooks.task_delay_ns = [bench = bench_] { return bench->dice.LongTailed(200'000); };
  hooks.sync_delay_ms = bench_->dice.Between(1, 20);
  hooks.clock_rate = clock_rate_;
  target_ = std::make_unique<replication::testing::FakeTarget>(id, &bench_->queue, world_.peers, replication::ReplicationOptions(), std::move(hooks));
  target_->store.page_entries_max = bench_->dice.Chance(0.5) ? 1 : 4'096;
  world_.on_identified(this);
}

void Server::StartTarget() {
  target_->Start();
  target_->engine()->SetIncarnation(Incarnation(process_));
}

std::function<void()> Server::OfProcess(std::function<void()> what) {
  return [this, process = process_, what = std::move(what)] {
    if (process == process_ && is_up_) what();
  };
}

void Server::Start() {
  if (is_gone_) return;
  bench_->Trace("start " + name());
  ++process_;
  is_up_ = true;
  is_registered_ = false;
  is_fetching_ = false;
  lease_until_ns_ = 0;
  map_ = std::make_shared<proto::ClusterMap>();
  reports_.clear();
  repairing_.clear();
  if (target_ != nullptr) StartTarget();
  Register();
  Heartbeat();
  SendReports();
}

void Server::Crash() {
  is_up_ = false;
  if (target_ == nullptr) return;
  const size_t kept = bench_->dice.Chance(0.5) ? 0 : bench_->dice.Below(target_->store.not_durable() + 1);
  bench_->Trace("crash " + name() + " loses " + std::to_string(target_->store.not_durable() - kept));
  is_lost_ = true;
  is_clean_ = false;
  target_->Kill(kept);
}

void Server::ShutDown() {
  bench_->Trace("shut down " + name());
  is_up_ = false;
  is_clean_ = !is_lost_;  // one that never registered after a crash is not sound
  if (target_ != nullptr) target_->ShutDown();
}

void Server::Destroy() {
  if (is_up_) Crash();
  bench_->Trace(name() + " is lost for good");
  is_destroyed_ = true;
  is_gone_ = true;
}

void Server::Leave() {
  if (is_up_) ShutDown();
  bench_->Trace(name() + " has left");
  is_gone_ = true;
}

bool Server::TakesItselfForPrimary(uint32_t id) const {
  const proto::PlacementGroup* group = meta::FindGroup(*map_, id);
  return serves() && group != nullptr && !group->targets().empty() && TargetId(group->targets(0)) == target();
}

void Server::Adopt(const proto::ClusterMap& map) {
  const auto copy = std::make_shared<const proto::ClusterMap>(map);
  if (copy->version() > map_->version()) map_ = copy;
  target_->engine()->AdoptMap(copy);
}

void Server::ExtendLease(int64_t sent_ns, uint32_t lease_ms) {
  const int64_t told_ms = bench_->plan.plant == Plant::kNoLease ? 3'600'000 : static_cast<int64_t>(lease_ms);
  target_->engine()->ExtendLease(sent_ns, told_ms);
  lease_until_ns_ = std::max(lease_until_ns_, sent_ns + static_cast<int64_t>(lease_ms) * sim::kMillisecond);
}

void Server::FillReport(proto::TargetReport* report) const {
  report->set_id(target().value());
  report->set_directory_id("directory " + std::to_string(place_.number));
  report->set_clean_shutdown(is_clean_);
  report->set_capacity_bytes(place_.capacity_bytes);
  uint64_t used_bytes = 0;
  for (const proto::PlacementGroup& group : map_->groups()) {
    const bool is_member = std::ranges::find(group.targets(), target().value()) != group.targets().end();
    if (!is_member) continue;
    proto::GroupUsage* usage = report->add_groups();
    usage->set_group(group.id());
    usage->set_bytes(world_.group_bytes(group.id()));
    used_bytes += usage->bytes();
  }
  report->set_used_bytes(used_bytes);
  report->set_available_bytes(place_.capacity_bytes - std::min(used_bytes, place_.capacity_bytes));
}

void Server::Register() {
  if (is_registered_) return;
  proto::RegisterServerRequest request;
  if (server_id_ != 0) request.set_cluster_id(kClusterId);
  request.set_server_id(server_id_);
  request.set_incarnation(process_);
  request.set_address(address());
  request.set_node(place_.node);
  request.set_zone(place_.zone);
  FillReport(request.add_targets());
  const int64_t sent_ns = NowNs();
  // What was sent arrives, even if the process is gone by then.
  const auto send = [this, process = process_, request, sent_ns] {
    world_.net->Send(place_.number, kLeaderNode, [this, process, request, sent_ns] {
      world_.leader->Register(request, [this, process, sent_ns](const Result<proto::RegisterServerReply>& reply) {
        if (!reply.ok()) {
          const StatusCode code = reply.status().code();
          const bool again = code == StatusCode::kUnavailable || code == StatusCode::kNotLeader || code == StatusCode::kCancelled;
          if (!again) bench_->Violation(name() + " may not register: " + reply.status().ToString());
          return;
        }
        world_.net->Send(kLeaderNode, place_.number, [this, process, sent_ns, answer = *reply] {
          if (process == process_ && is_up_) Registration(sent_ns, answer);
        });
      });
    });
  };
  send();
  if (bench_->faulty) {
    for (uint32_t copy = 0; copy < bench_->plan.registration_copies; ++copy) bench_->queue.After(bench_->dice.Between(100, 15'000) * sim::kMillisecond, send);
  }
  bench_->queue.After(kHeartbeatNs, OfProcess([this] { Register(); }));
}

void Server::Registration(int64_t sent_ns, const proto::RegisterServerReply& reply) {
  server_id_ = reply.server_id();
  if (target_ == nullptr) {
    MakeTarget(TargetId(reply.target_ids(0)));
    StartTarget();
  }
  is_registered_ = true;
  is_clean_ = true;
  Adopt(reply.map());
  ExtendLease(sent_ns, reply.lease_ms());
}

void Server::Heartbeat() {
  bench_->queue.After(kHeartbeatNs, OfProcess([this] { Heartbeat(); }));
  Beat([] {});
}

void Server::Beat(std::function<void()> answered) {
  if (!is_registered_) return;
  proto::HeartbeatRequest request;
  request.set_cluster_id(kClusterId);
  request.set_server_id(server_id_);
  request.set_incarnation(process_);
  request.set_map_version(target_->engine()->map_version());
  FillReport(request.add_targets());
  const int64_t sent_ns = NowNs();
  world_.net->Send(place_.number, kLeaderNode, [this, process = process_, request, sent_ns, answered = std::move(answered)] {
    world_.leader->Heartbeat(request, [this, process, sent_ns, answered](const Result<proto::HeartbeatReply>& reply) {
      world_.net->Send(kLeaderNode, place_.number, [this, process, sent_ns, answered, answer = reply] {
        if (process != process_ || !is_up_) return;
        if (answer.ok()) {
          if (answer->has_map()) Adopt(answer->map());
          ExtendLease(sent_ns, answer->lease_ms());
          return answered();
        }
        const StatusCode code = answer.status().code();
        if (code != StatusCode::kUnknownSession && code != StatusCode::kWrongIncarnation) return;
        bench_->Trace(name() + " registers again: " + answer.status().ToString());
        if (std::exchange(is_registered_, false)) Register();
      });
    });
  });
}

void Server::RepairDamage() {
  if (!is_registered_ || !serves()) return;
  for (const ChunkId chunk : target_->store.damaged_chunks()) {
    const auto found = target_->store.chunks().find(chunk);
    if (found == target_->store.chunks().end() || !repairing_.insert(chunk).second) continue;
    target_->engine()->RepairChunk(found->second.group, chunk, [this, process = process_, chunk](const Status& status) {
      if (process != process_) return;
      bench_->Trace(name() + " repairs a chunk: " + status.ToString());
      repairing_.erase(chunk);
    });
  }
}

void Server::FetchMap() {
  if (!is_registered_ || is_fetching_) return;
  is_fetching_ = true;
  Beat([] {});
  bench_->queue.After(20 * sim::kMillisecond, OfProcess([this] { is_fetching_ = false; }));
}

// Again and again, as long as the epoch that they are about may be current.
void Server::SendReports() {
  bench_->queue.After(kReportNs, OfProcess([this] { SendReports(); }));
  reports_.remove_if([this](const proto::GroupReport& report) {
    const proto::PlacementGroup* group = meta::FindGroup(*map_, report.group());
    return group != nullptr && group->epoch() > report.epoch();
  });
  if (reports_.empty() || !is_registered_) return;
  proto::ReportGroupsRequest request;
  request.set_cluster_id(kClusterId);
  request.set_server_id(server_id_);
  request.set_incarnation(process_);
  for (const proto::GroupReport& report : reports_) *request.add_reports() = report;
  world_.net->Send(place_.number, kLeaderNode, [this, process = process_, request] {
    world_.leader->Report(request, [this, process](const Result<proto::ReportGroupsReply>& reply) {
      if (!reply.ok()) return;
      world_.net->Send(kLeaderNode, place_.number, [this, process, answer = *reply] {
        if (process == process_ && is_up_) Adopt(answer.map());
      });
    });
  });
}

}  // namespace tarn::sim_data
