// A chunk server announces itself: a new one gets its id and one for each of its targets, a returning one is recognised
// by them.
//
// A directory that asks as new and is in the map already, by the id that it gave itself, is that target: the answer was
// lost. New targets may join a known server. A target that its server did not shut down cleanly leaves the in-sync
// members of its groups, or has had a loss where it is the only one (docs/replication.md); one whose disk fails is FAILED until it is registered as sound. A new
// elastic server replaces the elastic one that was at its address: nothing of that lives any more (docs/elastic.md).
// kUnavailable: the cluster has no id yet; kInvalidArgument: it belongs to another cluster, its server or target ids are
// unknown or another server's, or it has no target; kResourceExhausted: the map is full.
#include <algorithm>
#include <string>
#include <vector>

#include "metaserver/state/group_members.h"
#include "metaserver/state/limits.h"
#include "metaserver/state/ops/ops.h"

namespace tarn::meta::ops {
namespace {

Status Refuse(std::string text) { return Status(StatusCode::kInvalidArgument, std::move(text)); }

Status CheckIdentity(const proto::StateHeader& header, const proto::RegisterServerRequest& request) {
  if (header.cluster_id().empty()) return Status(StatusCode::kUnavailable, "the cluster has no id yet");
  if (!request.cluster_id().empty() && request.cluster_id() != header.cluster_id()) {
    return Refuse("the chunk server at " + request.address() + " belongs to another cluster");
  }
  if (request.cluster_id().empty() && request.server_id() != 0) return Refuse("a server id needs its cluster id");
  if (request.targets().empty()) return Refuse("a chunk server has at least one target");
  return Status::Ok();
}

// A directory that does not know its ids, and has got some: the answer was lost.
Status FindLostAnswers(const proto::ClusterMap& map, proto::RegisterServerRequest* request) {
  for (proto::TargetReport& report : *request->mutable_targets()) {
    if (report.id() != 0 || report.directory_id().empty()) continue;
    const auto known = std::ranges::find(map.targets(), report.directory_id(), &proto::Target::directory_id);
    if (known == map.targets().end()) continue;
    if (request->server_id() == 0) request->set_server_id(known->server_id());
    if (known->server_id() != request->server_id()) {
      return Refuse("the directory of target " + std::to_string(known->id()) + " belongs to chunk server " +
                    std::to_string(known->server_id()));
    }
    report.set_id(known->id());
  }
  return Status::Ok();
}

Status CheckKnown(proto::ClusterMap* map, const proto::RegisterServerRequest& request) {
  const bool known = request.server_id() == 0 || std::ranges::any_of(map->targets(), [&](const proto::Target& target) {
                       return target.server_id() == request.server_id();
                     });
  if (!known) return Refuse("chunk server " + std::to_string(request.server_id()) + " is unknown to this cluster");
  for (const proto::TargetReport& report : request.targets()) {
    if (report.id() == 0) continue;
    const proto::Target* target = FindTarget(map, report.id());
    if (target == nullptr) return Refuse("target " + std::to_string(report.id()) + " is unknown to this cluster");
    if (target->server_id() != request.server_id()) {
      return Refuse("target " + std::to_string(report.id()) + " belongs to chunk server " +
                    std::to_string(target->server_id()));
    }
  }
  return Status::Ok();
}

bool IsElastic(const proto::Target& target) { return target.target_class() == proto::TARGET_CLASS_ELASTIC; }

void ForgetElasticAt(const std::string& address, proto::ClusterMap* map) {
  auto* targets = map->mutable_targets();
  targets->erase(std::remove_if(targets->begin(), targets->end(),
                                [&](const proto::Target& each) { return IsElastic(each) && each.address() == address; }),
                 targets->end());
}

// A target keeps its class: what holds goal copies is no place for extra ones, and the other way round.
Status CheckClasses(proto::ClusterMap* map, const proto::RegisterServerRequest& request) {
  for (const proto::TargetReport& report : request.targets()) {
    if (report.target_class() != request.targets(0).target_class()) return Refuse("the targets of a chunk server are of one class");
    if (report.id() == 0) continue;
    if (FindTarget(map, report.id())->target_class() != report.target_class()) {
      return Refuse("target " + std::to_string(report.id()) + " is of another class");
    }
  }
  return Status::Ok();
}

void Update(const proto::RegisterServerRequest& request, const proto::TargetReport& report, proto::Target* target) {
  target->set_address(request.address());
  target->set_node(request.node());
  target->set_zone(request.zone());
  target->set_target_class(report.target_class());
  target->set_capacity_bytes(report.capacity_bytes());
  target->set_used_bytes(report.used_bytes());
  target->set_available_bytes(report.available_bytes());
  target->set_chunk_count(report.chunk_count());
  target->set_incarnation(request.incarnation());
  target->set_pid(request.pid());
  if (!report.directory_id().empty()) target->set_directory_id(report.directory_id());
  if (target->state() == proto::TARGET_STATE_RETIRED) return;
  if (!report.failure().empty()) {
    target->set_state(proto::TARGET_STATE_FAILED);
  } else if (target->state() != proto::TARGET_STATE_DRAINING) {
    target->set_state(proto::TARGET_STATE_ONLINE);
  }
}

}  // namespace

Status RegisterServer(CommandContext* context, const proto::RegisterServerOp& op, proto::MutationReply* reply) {
  proto::RegisterServerRequest request = op.request();
  proto::StateHeader& header = context->header();
  RETURN_IF_ERROR(CheckIdentity(header, request));
  proto::ClusterMap map = context->map();
  RETURN_IF_ERROR(FindLostAnswers(map, &request));
  RETURN_IF_ERROR(CheckKnown(&map, request));
  RETURN_IF_ERROR(CheckClasses(&map, request));
  const bool elastic = request.targets(0).target_class() == proto::TARGET_CLASS_ELASTIC;
  if (elastic && request.server_id() == 0) ForgetElasticAt(request.address(), &map);
  if (map.targets_size() + request.targets_size() > static_cast<int>(kMapTargetsMax)) {
    return Status(StatusCode::kResourceExhausted,
                  "the cluster map has room for " + std::to_string(kMapTargetsMax) + " targets");
  }
  if (request.server_id() == 0) {
    request.set_server_id(header.next_server());
    header.set_next_server(header.next_server() + 1);
  }
  proto::RegisterServerReply* registered = reply->mutable_registered();
  for (const proto::TargetReport& report : request.targets()) {
    proto::Target* target = report.id() != 0 ? FindTarget(&map, report.id()) : map.add_targets();
    const bool lives_anew = report.id() != 0 && target->incarnation() != request.incarnation();
    if (lives_anew && report.clean_shutdown()) RenewEpochs(&map, target->id());
    if (lives_anew && !report.clean_shutdown()) DistrustTarget(&map, target->id(), request.incarnation());
    if (report.id() == 0) {
      target->set_id(header.next_target());
      target->set_server_id(request.server_id());
      header.set_next_target(header.next_target() + 1);
    }
    Update(request, report, target);
    registered->add_target_ids(target->id());
  }
  context->ReplaceMap(std::move(map));
  registered->set_cluster_id(header.cluster_id());
  registered->set_server_id(request.server_id());
  *registered->mutable_map() = context->map();
  return Status::Ok();
}

}  // namespace tarn::meta::ops
