#include "tests/sim/data/operators.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "metaserver/service/group_admin.h"
#include "metaserver/service/node_admin.h"
#include "metaserver/service/server_registry.h"
#include "metaserver/state/group_members.h"
#include "tests/sim/data/group_laws.h"

namespace tarn::sim_data {
namespace {

constexpr uint64_t kCapacityBytes = uint64_t{1} << 40;

std::string NodeName(uint64_t number) { return "node-" + std::to_string(number); }

}  // namespace

void Operators::Found() {
  const Plan& plan = bench_->plan;
  for (uint32_t i = 0; i < plan.targets; ++i) {
    const uint64_t node = i % plan.nodes;
    fleet_->Add(NodeName(node + 1), "zone-" + std::to_string(node % plan.zones), kCapacityBytes >> bench_->dice.Below(2));
  }
}

void Operators::Weigh() {
  const auto& groups = leader_->groups();
  fleet_->SetGroupBytes(static_cast<uint32_t>(bench_->dice.Below(groups.size())) + 1, bench_->dice.Below(8) << 28);
}

proto::TargetState Operators::StateOf(const Server& server) const {
  const auto map = leader_->map();
  const proto::Target* target = meta::FindTarget(*map, server.target().value());
  return target != nullptr ? target->state() : proto::TARGET_STATE_UNSPECIFIED;
}

bool Operators::IsStaying(const Server& server) const {
  return !server.is_gone() && server.target().valid() && KeepsCopies(*leader_->map(), server.target().value());
}

bool Operators::IsMember(const Server& server) const {
  return std::ranges::any_of(leader_->groups(), [&](const replication::GroupView& group) {
    return group.IsInSync(server.target()) || group.IsSyncing(server.target());
  });
}

std::set<std::string> Operators::StayingNodes(const std::string& without_node, const Server* without) const {
  std::set<std::string> nodes;
  for (const auto& server : fleet_->servers()) {
    if (IsStaying(*server) && server.get() != without && server->place().node != without_node) nodes.insert(server->place().node);
  }
  return nodes;
}

Server* Operators::Any(const std::function<bool(const Server&)>& wanted) {
  std::vector<Server*> found;
  for (const auto& server : fleet_->servers()) {
    if (!server->is_gone() && wanted(*server)) found.push_back(server.get());
  }
  return found.empty() ? nullptr : found[bench_->dice.Below(found.size())];
}

void Operators::Start(const std::string& node, const std::string& zone) {
  ++changes_;
  Server* const server = fleet_->Add(node, zone, kCapacityBytes >> bench_->dice.Below(2));
  bench_->Trace(server->name() + " is new on " + node);
  server->Start();
}

void Operators::AddServer() {
  const auto there = std::ranges::count_if(fleet_->servers(), [](const auto& server) { return !server->is_gone(); });
  if (there >= static_cast<int64_t>(kServersMax)) return;
  Server* const beside = Any([this](const Server& server) { return IsStaying(server); });
  if (beside != nullptr && bench_->dice.Chance(0.3)) return Start(beside->place().node, beside->place().zone);
  Start(NodeName(fleet_->servers().size() + 1), AnyZone());
}

void Operators::Drain() {
  Server* const server = Any([this](const Server& each) { return IsStaying(each); });
  if (server == nullptr || leader_->nodes() == nullptr) return;
  const std::string node = server->place().node;
  if (draining_.contains(node) || StayingNodes(node, nullptr).size() < bench_->plan.replicas) return;
  proto::DrainNodeRequest request;
  request.set_node(node);
  const Result<proto::Mutation> mutation = leader_->nodes()->PlanDrain(request);
  if (!mutation.ok()) return;
  ++changes_;
  bench_->Trace(node + " is drained");
  draining_[node] = bench_->queue.now_ns() + bench_->dice.Between(300, bench_->plan.drain_ms_max) * sim::kMillisecond;
  leader_->Submit(mutation);
}

void Operators::Retire() {
  Server* const server = Any([this](const Server& each) { return IsStaying(each) && StayingNodes({}, &each).size() >= bench_->plan.replicas; });
  if (server == nullptr || leader_->nodes() == nullptr) return;
  // The last copy of nothing: the only in-sync one, that is.
  for (const replication::GroupView& group : leader_->groups()) {
    if (group.in_sync.size() == 1 && group.IsInSync(server->target())) return;
  }
  proto::RetireTargetRequest request;
  request.set_target(server->target().value());
  const Result<proto::Mutation> mutation = leader_->nodes()->PlanRetire(request);
  if (!mutation.ok()) return;
  ++changes_;
  bench_->Trace(server->name() + " is retired");
  leader_->Submit(mutation);
}

bool Operators::MayBeLost(const Server& server) const {
  return std::ranges::all_of(leader_->used_groups(), [&](uint32_t id) {
    const replication::GroupView& group = leader_->group(id);
    if (!group.IsInSync(server.target())) return true;
    return std::ranges::any_of(group.in_sync, [&](TargetId each) {
      const Server* other = fleet_->Find(each);
      return other != nullptr && other != &server && !other->is_lost();
    });
  });
}

void Operators::LoseDisk() {
  Server* const server = Any([this](const Server& each) { return IsStaying(each) && MayBeLost(each); });
  if (server == nullptr) return;
  const Server::Place place = server->place();
  server->Destroy();
  const int64_t now_ns = bench_->queue.now_ns();
  // Half of them are replaced by the leader on its own, after a while.
  lost_[place.node] = now_ns + (bench_->dice.Chance(0.5) ? bench_->dice.Between(1'000, 8'000) * sim::kMillisecond : 3'600 * sim::kSecond);
  bench_->queue.After(bench_->dice.Between(200, 4'000) * sim::kMillisecond, [this, place] { Start(place.node, place.zone); });
}

void Operators::Tick() {
  const bool any_is_new = std::ranges::any_of(fleet_->servers(), [](const auto& server) { return !server->is_gone() && !server->target().valid(); });
  if (!any_is_new && StayingNodes({}, nullptr).size() < bench_->plan.replicas) Start(NodeName(fleet_->servers().size() + 1), AnyZone());
  FinishDrains();
  RemoveLost();
  GiveUp();
}

// Taken back after a while, or left by its servers once they have nothing any more.
void Operators::FinishDrains() {
  for (const auto& server : fleet_->servers()) {
    const bool may_go = !server->is_gone() && server->target().valid() &&
                        (StateOf(*server) == proto::TARGET_STATE_DRAINING || StateOf(*server) == proto::TARGET_STATE_RETIRED);
    if (!may_go || IsMember(*server) || !bench_->dice.Chance(0.1)) continue;
    server->Leave();
    lost_[server->place().node] = bench_->queue.now_ns();
  }
  if (leader_->nodes() == nullptr) return;
  for (auto it = draining_.begin(); it != draining_.end();) {
    if (bench_->faulty && (it->second > bench_->queue.now_ns() || bench_->dice.Chance(0.7))) {
      ++it;
      continue;
    }
    proto::UncordonNodeRequest request;
    request.set_node(it->first);
    const Result<proto::Mutation> mutation = leader_->nodes()->PlanUncordon(request);
    bench_->Trace(it->first + " is taken back");
    leader_->Submit(mutation);
    it = draining_.erase(it);
  }
}

void Operators::RemoveLost() {
  if (leader_->nodes() == nullptr) return;
  for (auto it = lost_.begin(); it != lost_.end();) {
    if (it->second > bench_->queue.now_ns()) {
      ++it;
      continue;
    }
    const auto is_done = [&](const auto& server) {
      return server->place().node != it->first || !server->is_gone() || !server->target().valid() || StateOf(*server) == proto::TARGET_STATE_RETIRED;
    };
    if (std::ranges::all_of(fleet_->servers(), is_done)) {
      it = lost_.erase(it);
      continue;
    }
    it->second += sim::kSecond;
    // Others of that node may be about to come back.
    const bool is_certain = std::ranges::all_of(fleet_->servers(), [&](const auto& server) { return server->place().node != it->first || server->is_gone() || server->HasLease(); });
    proto::RemoveNodeRequest request;
    request.set_node(it->first);
    request.set_accept_data_loss(true);  // that of groups which nobody uses
    const Result<proto::Mutation> mutation = leader_->nodes()->PlanRemove(request);
    if (mutation.ok() && is_certain) {
      bench_->Trace(it->first + " is removed");
      leader_->Submit(mutation);
    }
    ++it;
  }
}

void Operators::GiveUp() {
  for (const uint32_t id : leader_->used_groups()) {
    const replication::GroupView& group = leader_->group(id);
    const bool all_gone = std::ranges::all_of(group.in_sync, [this](TargetId each) {
      const Server* server = fleet_->Find(each);
      return server != nullptr && server->is_destroyed();
    });
    if (!all_gone || group.syncing.empty() || leader_->groups_of_operators() == nullptr) continue;
    proto::PromoteMemberRequest request;
    request.set_group(id);
    request.set_target(group.syncing[bench_->dice.Below(group.syncing.size())].value());
    request.set_accept_data_loss(true);
    std::shared_ptr<meta::LapsedTargets> claim;
    const Result<proto::Mutation> mutation = leader_->groups_of_operators()->PlanPromotion(request, &claim);
    if (!mutation.ok()) continue;
    ++given_up_;
    bench_->Trace("group " + std::to_string(id) + " is given up: " + std::to_string(request.target()) + " is promoted");
    oracle_->GiveUp(id);
    leader_->Submit(mutation, claim);
  }
}

void Operators::Calm() {
  for (auto& [node, until_ns] : draining_) until_ns = 0;
  for (auto& [node, until_ns] : lost_) until_ns = 0;
}

}  // namespace tarn::sim_data
