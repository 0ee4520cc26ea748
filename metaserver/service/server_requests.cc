#include "metaserver/service/server_requests.h"

#include <algorithm>
#include <string>
#include <utility>

#include "metaserver/service/replication_keeper.h"

namespace tarn::meta {
namespace {

constexpr size_t kDeadDataPerTargetMax = 4096;  // of one heartbeat
constexpr int kReclaimedPerCommandMax = 8192;
// A target with less than this part of its disk left gets what was deleted back after ten seconds: longer than readers go
// on for whom it is not deleted yet (their lease).
constexpr uint64_t kShortOfRoomDivisor = 20;
constexpr int64_t kReclaimDelayMsShort = 10'000;

std::vector<proto::Mutation> ReclaimedBy(const proto::HeartbeatRequest& request) {
  std::vector<proto::Mutation> mutations;
  for (const proto::TargetReport& report : request.targets()) {
    for (int first = 0; first < report.reclaimed_data_ids_size(); first += kReclaimedPerCommandMax) {
      proto::DataReclaimedOp* op = mutations.emplace_back().mutable_data_reclaimed();
      op->set_target(report.id());
      const int end = std::min(first + kReclaimedPerCommandMax, report.reclaimed_data_ids_size());
      for (int i = first; i < end; ++i) op->add_data_ids(report.reclaimed_data_ids(i));
    }
  }
  return mutations;
}

// A target of the server that registers, by its id or that of its directory. Null: it is new.
const proto::Target* FindServer(const proto::ClusterMap& map, const proto::RegisterServerRequest& request) {
  const auto known = std::ranges::find_if(map.targets(), [&](const proto::Target& target) {
    if (request.server_id() != 0) return target.server_id() == request.server_id();
    return std::ranges::any_of(request.targets(), [&](const proto::TargetReport& report) {
      return !report.directory_id().empty() && report.directory_id() == target.directory_id();
    });
  });
  return known != map.targets().end() ? &*known : nullptr;
}

}  // namespace

Result<ServerRequests::Registration> ServerRequests::CheckRegistration(const proto::RegisterServerRequest& request) const {
  RETURN_IF_ERROR(context_->CheckLease());
  Registration checked;
  const auto map = context_->state->cluster_map();
  const proto::Target* known = FindServer(*map, request);
  if (known == nullptr) {
    checked.server = "at " + request.address();
    return checked;
  }
  checked.server = std::to_string(known->server_id());
  checked.replaces = known->incarnation();
  if (known->incarnation() == request.incarnation()) return checked;
  const auto facts = context_->servers->Facts();
  checked.needs_proof = std::ranges::any_of(map->targets(), [&](const proto::Target& target) {
    const auto found = facts.find(target.id());
    return target.server_id() == known->server_id() && found != facts.end() && !found->second.lease_over;
  });
  return checked;
}

Result<proto::Mutation> ServerRequests::BeginRegistration(const proto::RegisterServerRequest& request, const Registration& checked) {
  RETURN_IF_ERROR(context_->CheckLease());
  {
    const auto map = context_->state->cluster_map();
    const proto::Target* known = FindServer(*map, request);
    MutexLock lock(mutex_);
    const uint64_t now = known != nullptr ? known->incarnation() : 0;
    if ((now != checked.replaces && now != request.incarnation()) || !registering_.insert(checked.server).second) {
      return Status(StatusCode::kUnavailable, "another process of the chunk server at " + request.address() + " registers");
    }
  }
  proto::Mutation mutation;
  *mutation.mutable_register_server()->mutable_request() = request;
  return mutation;
}

Status ServerRequests::FinishRegistration(const proto::RegisterServerRequest& request, const Registration& checked,
                                          Result<proto::MutationReply> applied, proto::RegisterServerReply* reply) {
  {
    MutexLock lock(mutex_);
    registering_.erase(checked.server);
  }
  RETURN_IF_ERROR(applied.status());
  *reply = std::move(*applied->mutable_registered());
  std::vector<TargetId> targets;
  for (const uint64_t id : reply->target_ids()) targets.emplace_back(id);
  // Before the map is read: what a decision in flight makes of it comes with the lease, by a heartbeat.
  const uint32_t lease_ms = context_->servers->RecordRegistration(targets, request);
  *reply->mutable_map() = context_->LiveMap();
  reply->set_heartbeat_interval_ms(static_cast<uint32_t>(context_->heartbeat_interval_ms));
  reply->set_lease_ms(lease_ms);
  return Status::Ok();
}

Result<ServerRequests::Heartbeat> ServerRequests::BeginHeartbeat(const proto::HeartbeatRequest& request) const {
  RETURN_IF_ERROR(context_->CheckLease());
  if (request.cluster_id() != context_->self.cluster_id)
    return Status(StatusCode::kInvalidArgument, "a heartbeat of another cluster");
  Heartbeat heartbeat;
  // Before the map is read, likewise.
  ASSIGN_OR_RETURN(heartbeat.lease_ms, context_->servers->RecordHeartbeat(*context_->state->cluster_map(), request));
  heartbeat.mutations = ReclaimedBy(request);
  return heartbeat;
}

Status ServerRequests::FinishHeartbeat(const proto::HeartbeatRequest& request, const Heartbeat& begun,
                                       proto::HeartbeatReply* reply) const {
  RETURN_IF_ERROR(ListDead(request, reply));
  if (context_->state->cluster_map()->version() > request.map_version()) *reply->mutable_map() = context_->LiveMap();
  reply->set_lease_ms(begun.lease_ms);
  reply->set_remove_leftovers(!context_->state->header().reclaim_disabled());
  reply->set_start_scrub(context_->servers->TakeWantedScrub(request));
  return context_->CheckLease();
}

void ServerRequests::BeginReport(const proto::ReportGroupsRequest& request,
                                 std::function<void(const Status&)> decided) const {
  if (const Status leads = context_->CheckLease(); !leads.ok()) return decided(leads);
  if (request.cluster_id() != context_->self.cluster_id)
    return decided(Status(StatusCode::kInvalidArgument, "a report of another cluster"));
  context_->replication->Decide(request, std::move(decided));
}

Status ServerRequests::FinishReport(proto::ReportGroupsReply* reply) const {
  *reply->mutable_map() = context_->LiveMap();
  return context_->CheckLease();
}

int64_t ServerRequests::ReclaimDelayMs(const proto::TargetReport& report) const {
  const bool room_is_short = report.available_bytes() < report.capacity_bytes() / kShortOfRoomDivisor;
  return room_is_short ? std::min(context_->reclaim_delay_ms, kReclaimDelayMsShort) : context_->reclaim_delay_ms;
}

Status ServerRequests::ListDead(const proto::HeartbeatRequest& request, proto::HeartbeatReply* reply) const {
  if (context_->state->header().reclaim_disabled()) return Status::Ok();
  for (const proto::TargetReport& report : request.targets()) {
    const int64_t before_ns = context_->clock->WallNs() - ReclaimDelayMs(report) * 1'000'000;
    std::vector<DataId> data_ids;
    RETURN_IF_ERROR(context_->state->ListDeadData(TargetId(report.id()), before_ns, kDeadDataPerTargetMax, &data_ids));
    if (data_ids.empty()) continue;
    proto::DeadData* dead = reply->add_dead_data();
    dead->set_target(report.id());
    for (const DataId data : data_ids) dead->add_data_ids(data.value());
  }
  return Status::Ok();
}

}  // namespace tarn::meta
