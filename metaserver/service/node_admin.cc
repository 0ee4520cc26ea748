#include "metaserver/service/node_admin.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "metaserver/placement/plan_groups.h"
#include "metaserver/service/replication_keeper.h"
#include "metaserver/state/group_members.h"
#include "metaserver/state/limits.h"

namespace tarn::meta {
namespace {

// Plans are made from a map that may have moved on when they come to the log.
constexpr int kPlansMax = 5;

std::map<std::string, proto::NodeInfo> NodesOf(const proto::ClusterMap& map) {
  std::map<std::string, proto::NodeInfo> nodes;
  std::map<uint64_t, std::string> node_of;
  for (const proto::Target& target : map.targets()) {
    const std::string name = NodeOf(target);
    node_of[target.id()] = name;
    proto::NodeInfo& node = nodes[name];
    node.set_name(name);
    node.set_zone(target.zone());
    *node.add_targets() = target;
    if (target.state() != proto::TARGET_STATE_DRAINING) continue;
    node.set_draining(true);
  }
  for (const proto::PlacementGroup& group : map.groups()) {
    std::set<std::string> on;
    for (const auto* list : {&group.targets(), &group.syncing_targets()}) {
      for (const uint64_t target : *list) on.insert(node_of[target]);
    }
    for (const std::string& name : on) nodes[name].set_groups_left(nodes[name].groups_left() + 1);
  }
  for (auto& [name, node] : nodes) {
    if (!node.draining() || node.groups_left() == 0) continue;
    for (const proto::Target& target : node.targets()) node.set_bytes_left(node.bytes_left() + target.used_bytes());
  }
  return nodes;
}

// For the node's targets that are in one of these states.
proto::Mutation SetStates(const proto::NodeInfo& node, const std::set<proto::TargetState>& from, proto::TargetState to) {
  proto::Mutation mutation;
  for (const proto::Target& target : node.targets()) {
    if (!from.contains(target.state())) continue;
    proto::Target* update = mutation.mutable_update_targets()->add_targets();
    update->set_id(target.id());
    update->set_state(to);
  }
  return mutation;
}

}  // namespace

Status NodeAdmin::List(proto::ListNodesReply* reply) const {
  RETURN_IF_ERROR(context_->CheckLease());
  ASSIGN_OR_RETURN(auto nodes, Nodes());
  for (auto& [name, node] : nodes) *reply->add_nodes() = std::move(node);
  return context_->CheckLease();
}

Result<std::map<std::string, proto::NodeInfo>> NodeAdmin::Nodes() const {
  ASSIGN_OR_RETURN(proto::ClusterMap map, context_->MapOfUsedGroups());
  context_->servers->FillUsage(&map);
  return NodesOf(map);
}

Result<proto::NodeInfo> NodeAdmin::Describe(const std::string& name) const {
  ASSIGN_OR_RETURN(auto nodes, Nodes());
  const auto found = nodes.find(name);
  if (found == nodes.end()) return Status(StatusCode::kInvalidArgument, "there is no node " + name);
  return std::move(found->second);
}

Status NodeAdmin::Submit(proto::Mutation mutation) const {
  if (mutation.op_case() == proto::Mutation::OP_NOT_SET) return Status::Ok();
  return context_->proposer->SubmitAndWait(std::move(mutation)).status();
}

Result<proto::Mutation> NodeAdmin::PlanDrain(const proto::DrainNodeRequest& request) const {
  ASSIGN_OR_RETURN(const proto::NodeInfo node, Describe(request.node()));
  std::vector<uint64_t> leaving;
  for (const proto::Target& target : node.targets()) leaving.push_back(target.id());
  // What drains already takes nothing either.
  const auto map = context_->state->cluster_map();
  for (const proto::Target& target : map->targets()) {
    if (target.state() == proto::TARGET_STATE_DRAINING && NodeOf(target) != request.node()) leaving.push_back(target.id());
  }
  if (!request.force()) RETURN_IF_ERROR(context_->replication->CheckDrain(leaving));
  return SetStates(node, {proto::TARGET_STATE_ONLINE, proto::TARGET_STATE_OFFLINE}, proto::TARGET_STATE_DRAINING);
}

Status NodeAdmin::Drain(const proto::DrainNodeRequest& request, proto::DrainNodeReply* reply) const {
  RETURN_IF_ERROR(context_->CheckLease());
  ASSIGN_OR_RETURN(proto::Mutation mutation, PlanDrain(request));
  RETURN_IF_ERROR(Submit(std::move(mutation)));
  spdlog::info("node drains node={} force={}", request.node(), request.force());
  ASSIGN_OR_RETURN(*reply->mutable_node(), Describe(request.node()));
  return Status::Ok();
}

Result<proto::Mutation> NodeAdmin::PlanUncordon(const proto::UncordonNodeRequest& request) const {
  ASSIGN_OR_RETURN(const proto::NodeInfo node, Describe(request.node()));
  // One that is away is found to be offline within a step of maintenance.
  return SetStates(node, {proto::TARGET_STATE_DRAINING}, proto::TARGET_STATE_ONLINE);
}

Status NodeAdmin::Uncordon(const proto::UncordonNodeRequest& request, proto::UncordonNodeReply* reply) const {
  RETURN_IF_ERROR(context_->CheckLease());
  ASSIGN_OR_RETURN(proto::Mutation mutation, PlanUncordon(request));
  RETURN_IF_ERROR(Submit(std::move(mutation)));
  spdlog::info("node takes copies again node={}", request.node());
  ASSIGN_OR_RETURN(*reply->mutable_node(), Describe(request.node()));
  return Status::Ok();
}

Result<uint32_t> NodeAdmin::CountLastCopies(const std::set<uint64_t>& leaving) const {
  const auto map = context_->state->cluster_map();
  ASSIGN_OR_RETURN(const proto::ClusterMap used, context_->MapOfUsedGroups());
  uint32_t last_of = 0;
  for (const proto::PlacementGroup& group : used.groups()) {
    const bool is_member = std::ranges::any_of(group.targets(), [&](uint64_t each) { return leaving.contains(each); });
    const bool is_elsewhere = std::ranges::any_of(group.targets(), [&](uint64_t each) {
      const proto::Target* other = FindTarget(*map, each);
      return !leaving.contains(each) && other != nullptr && other->state() != proto::TARGET_STATE_RETIRED &&
             other->state() != proto::TARGET_STATE_OFFLINE;
    });
    if (is_member && !is_elsewhere) ++last_of;
  }
  return last_of;
}

Result<proto::Mutation> NodeAdmin::PlanRemove(const proto::RemoveNodeRequest& request) const {
  ASSIGN_OR_RETURN(const proto::NodeInfo node, Describe(request.node()));
  const auto facts = context_->servers->Facts();
  std::set<uint64_t> gone;
  proto::Mutation mutation;
  for (const proto::Target& target : node.targets()) {
    const auto known = facts.find(target.id());
    const bool answers = known != facts.end() && !known->second.lease_over && target.state() != proto::TARGET_STATE_OFFLINE;
    if (answers || target.state() == proto::TARGET_STATE_RETIRED) continue;
    gone.insert(target.id());
    proto::Target* update = mutation.mutable_update_targets()->add_targets();
    update->set_id(target.id());
    update->set_state(proto::TARGET_STATE_RETIRED);
  }
  if (gone.empty()) {
    return Status(StatusCode::kBusy, "all targets of node " + request.node() + " answer, or are retired: to take it out of use, " +
                                         "`tarn node drain` it and stop its chunk server");
  }
  ASSIGN_OR_RETURN(const uint32_t last_of, CountLastCopies(gone));
  if (last_of != 0 && !request.accept_data_loss()) {
    return Status(StatusCode::kBusy, "node " + request.node() + " has the last current copy of " + std::to_string(last_of) +
                                         " placement group(s): start its chunk server again, or see `tarn group list --unhealthy` " +
                                         "for older copies; --accept-data-loss gives up what is only there");
  }
  return mutation;
}

Status NodeAdmin::Remove(const proto::RemoveNodeRequest& request, proto::RemoveNodeReply* reply) const {
  RETURN_IF_ERROR(context_->CheckLease());
  ASSIGN_OR_RETURN(proto::Mutation mutation, PlanRemove(request));
  const int targets = mutation.update_targets().targets_size();
  RETURN_IF_ERROR(Submit(std::move(mutation)));
  spdlog::warn("node is removed: its targets are gone for good node={} targets={} accept_data_loss={}", request.node(), targets, request.accept_data_loss());
  ASSIGN_OR_RETURN(*reply->mutable_node(), Describe(request.node()));
  return Status::Ok();
}

Result<proto::Mutation> NodeAdmin::PlanRetire(const proto::RetireTargetRequest& request) const {
  const auto map = context_->state->cluster_map();
  const proto::Target* target = FindTarget(*map, request.target());
  const std::string name = "target " + std::to_string(request.target());
  if (target == nullptr) return Status(StatusCode::kInvalidArgument, "there is no " + name);
  ASSIGN_OR_RETURN(const uint32_t last_of, CountLastCopies({request.target()}));
  if (last_of != 0) {
    return Status(StatusCode::kBusy, name + " holds the last copy of " + std::to_string(last_of) +
                                         " placement group(s): drain its node first");
  }
  proto::Mutation mutation;
  proto::Target* update = mutation.mutable_update_targets()->add_targets();
  update->set_id(request.target());
  update->set_state(proto::TARGET_STATE_RETIRED);
  return mutation;
}

Status NodeAdmin::Retire(const proto::RetireTargetRequest& request, proto::RetireTargetReply* reply) const {
  RETURN_IF_ERROR(context_->CheckLease());
  ASSIGN_OR_RETURN(proto::Mutation mutation, PlanRetire(request));
  RETURN_IF_ERROR(Submit(std::move(mutation)));
  spdlog::info("target is retired target={}", request.target());
  const proto::ClusterMap live = context_->LiveMap();
  if (const proto::Target* retired = FindTarget(live, request.target())) *reply->mutable_target() = *retired;
  return Status::Ok();
}

Status NodeAdmin::StartScrub(const proto::StartScrubRequest& request) const {
  RETURN_IF_ERROR(context_->CheckLease());
  const auto map = context_->state->cluster_map();
  if (request.target() != 0 && FindTarget(*map, request.target()) == nullptr)
    return Status(StatusCode::kInvalidArgument, "there is no target " + std::to_string(request.target()));
  for (const proto::Target& target : map->targets()) {
    if (request.target() == 0 || request.target() == target.id()) context_->servers->WantScrub(TargetId(target.id()));
  }
  return Status::Ok();
}

Status NodeAdmin::ScrubStatus(proto::ScrubStatusReply* reply) const {
  RETURN_IF_ERROR(context_->CheckLease());
  for (const proto::Target& target : context_->state->cluster_map()->targets()) {
    proto::ScrubStatusReply::Row* row = reply->add_targets();
    row->set_target(target.id());
    row->set_node(NodeOf(target));
    *row->mutable_progress() = context_->servers->LastReport(TargetId(target.id())).scrub();
  }
  return context_->CheckLease();
}

Status NodeAdmin::MakeGroupsFor(uint32_t replicas) const {
  // Groups of one copy are made for every cluster, and a senseless number is refused elsewhere.
  if (replicas < 2 || replicas > kReplicasMax) return Status::Ok();
  Status refused;
  for (int i = 0; i < kPlansMax; ++i) {
    RETURN_IF_ERROR(context_->CheckLease());
    const auto map = context_->state->cluster_map();
    const uint32_t nodes = NodesForCopies(*map);
    if (nodes < replicas) {
      return Status(StatusCode::kNoSpace, std::to_string(replicas) + " copies need as many nodes with durable targets: " +
                                              "there are " + std::to_string(nodes));
    }
    const bool made = std::ranges::any_of(
        map->group_sets(), [&](const proto::GroupSet& set) { return set.replicas() == replicas; });
    if (made) return Status::Ok();
    auto plan = PlanGroups(*map, {.replicas = replicas});
    if (!plan) return Status(StatusCode::kNoSpace, "the nodes have no room for " + std::to_string(replicas) + " copies");
    proto::Mutation mutation;
    *mutation.mutable_add_groups() = std::move(*plan);
    refused = context_->proposer->SubmitAndWait(std::move(mutation)).status();
    if (refused.ok()) return refused;
    if (refused.code() != StatusCode::kInvalidArgument) return refused;
  }
  return refused;
}

}  // namespace tarn::meta
