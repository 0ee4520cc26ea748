#include "cli/commands/status.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/admin.h"
#include "cli/commands/volume_format.h"
#include "cli/commands/target_format.h"
#include "cli/output.h"

namespace tarn::cli {
namespace {

using client::VolumeInfo;

nlohmann::ordered_json RepairJson(const client::RepairProgress& repair) {
  return {{"groups_degraded", repair.groups_degraded}, {"groups_unavailable", repair.groups_unavailable}, {"groups_moving", repair.groups_moving},
          {"bytes_done", repair.bytes_done},           {"bytes_total", repair.bytes_total},               {"bytes_per_second", repair.bytes_per_second},
          {"eta_seconds", repair.eta_seconds}};
}

nlohmann::ordered_json RebalanceJson(const client::RebalanceProgress& rebalance) {
  return {{"moves_left", rebalance.moves_left},   {"moves_done", rebalance.moves_done},
          {"bytes_left", rebalance.bytes_left},   {"bytes_total", rebalance.bytes_total},
          {"bytes_per_second", rebalance.bytes_per_second}, {"eta_seconds", rebalance.eta_seconds}};
}

nlohmann::ordered_json SpaceJson(const client::SpaceProgress& space) {
  return {{"used_bytes", space.used_bytes},
          {"available_bytes", space.available_bytes},
          {"usable_bytes", space.usable_bytes},
          {"reclaimed_bytes_per_second", space.reclaimed_bytes_per_second},
          {"leftover_bytes", space.leftover_bytes},
          {"unknown_data_ids", space.unknown_data_ids},
          {"unknown_bytes", space.unknown_bytes},
          {"unknown_reclaimed_bytes", space.unknown_reclaimed_bytes},
          {"kept_data_ids", space.kept_data_ids},
          {"checked_ns", space.checked_ns},
          {"checking", space.checking}};
}

nlohmann::ordered_json PromotionsJson(const std::vector<client::ForcedPromotion>& promotions) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const client::ForcedPromotion& each : promotions) json.push_back({{"group", each.group}, {"target", each.target}, {"at_ns", each.at_ns}});
  return json;
}

void PrintSpace(const client::ClusterStatus& status) {
  const client::SpaceProgress& space = status.space;
  std::printf("space     %s used, %s available, of all copies together\n", HumanBytes(space.used_bytes).c_str(), HumanBytes(space.available_bytes).c_str());
  if (status.dead_data_ids != 0 || space.reclaimed_bytes_per_second != 0) {
    std::printf("reclaim   %lu deleted files' data waits; %s/s come back\n", static_cast<unsigned long>(status.dead_data_ids), HumanBytes(space.reclaimed_bytes_per_second).c_str());
  }
  if (space.leftover_bytes != 0) std::printf("          %s of copies that have been moved away are being removed\n", HumanBytes(space.leftover_bytes).c_str());
  if (space.unknown_data_ids + space.unknown_reclaimed_bytes + space.kept_data_ids != 0) {
    std::printf("orphans   %lu data ids (%s) that nobody knows are in quarantine, %s have been reclaimed", static_cast<unsigned long>(space.unknown_data_ids),
                HumanBytes(space.unknown_bytes).c_str(), HumanBytes(space.unknown_reclaimed_bytes).c_str());
    if (space.kept_data_ids != 0) std::printf("; %lu from after the restored backup are kept", static_cast<unsigned long>(space.kept_data_ids));
    std::printf("\n");
  }
  std::printf("\n");
}

// Bytes where there are some, else moves.
void PrintRebalance(const client::RebalanceProgress& rebalance) {
  if (rebalance.moves_left == 0) return;
  std::printf("moving    %u placement groups to targets that carry less, %u have been moved\n", rebalance.moves_left, rebalance.moves_done);
  if (rebalance.bytes_total != 0) {
    const uint64_t done = rebalance.bytes_total - std::min(rebalance.bytes_total, rebalance.bytes_left);
    std::printf("          %s\n", CopyProgressLine(done, rebalance.bytes_total, rebalance.bytes_per_second, rebalance.eta_seconds).c_str());
  }
  std::printf("\n");
}

// Nothing to repair, nothing said.
void PrintRepair(const client::RepairProgress& repair) {
  if (repair.groups_degraded + repair.groups_unavailable + repair.groups_moving == 0) return;
  std::printf("copies    %u groups have too few, %u none that answers, %u are moving\n", repair.groups_degraded, repair.groups_unavailable, repair.groups_moving);
  if (repair.bytes_total != 0) std::printf("          %s\n", CopyProgressLine(repair.bytes_done, repair.bytes_total, repair.bytes_per_second, repair.eta_seconds).c_str());
  std::printf("\n");
}

void PrintStatusJson(const client::ClusterStatus& status) {
  nlohmann::ordered_json json{{"health", status.health},
                              {"cluster_id", status.cluster_id},
                              {"metaservers", nlohmann::json::array()},
                              {"chunkservers", nlohmann::json::array()},
                              {"volumes", nlohmann::json::array()},
                              {"placement_groups", status.placement_groups},
                              {"map_version", status.map_version},
                              {"sessions", status.sessions},
                              {"dead_data_ids", status.dead_data_ids},
                              {"removing_inodes", status.removing_inodes},
                              {"unsettled_directories", status.unsettled_directories},
                              {"reclaim_disabled", status.reclaim_disabled},
                              {"repair", RepairJson(status.repair)},
                              {"rebalance", RebalanceJson(status.rebalance)},
                              {"space", SpaceJson(status.space)},
                              {"forced_promotions", PromotionsJson(status.forced_promotions)},
                              {"software_version", status.software_version},
                              {"problems", status.problems}};
  for (const client::MetaserverStatus& server : status.metaservers) {
    json["metaservers"].push_back({{"id", server.id}, {"address", server.address}, {"role", server.role}, {"pid", server.pid}});
  }
  for (const client::ChunkserverStatus& server : status.chunkservers) {
    json["chunkservers"].push_back({{"id", server.server_id},
                                    {"target", server.target_id},
                                    {"address", server.address},
                                    {"node", server.node},
                                    {"zone", server.zone},
                                    {"class", server.target_class},
                                    {"state", server.state},
                                    {"pid", server.pid},
                                    {"capacity_bytes", server.capacity_bytes},
                                    {"used_bytes", server.used_bytes},
                                    {"available_bytes", server.available_bytes},
                                    {"chunks", server.chunk_count}});
    AddUse(server, &json["chunkservers"].back());
  }
  for (const VolumeInfo& volume : status.volumes) json["volumes"].push_back(VolumeJson(volume));
  std::printf("%s\n", json.dump(2).c_str());
}

void PrintStatusText(const client::ClusterStatus& status) {
  std::printf("health    %s\n", status.health.c_str());
  for (const std::string& problem : status.problems) std::printf("          %s\n", problem.c_str());
  std::printf("cluster   %s, %u placement groups, %u sessions\n\n", status.cluster_id.c_str(), status.placement_groups, status.sessions);
  if (status.removing_inodes != 0) std::printf("removing  about %lu inodes in the background\n\n", static_cast<unsigned long>(status.removing_inodes));
  PrintRepair(status.repair);
  PrintRebalance(status.rebalance);
  PrintSpace(status);
  std::vector<std::vector<std::string>> meta{{"METASERVER", "ADDRESS", "ROLE", "PID"}};
  for (const client::MetaserverStatus& server : status.metaservers) {
    meta.push_back({std::to_string(server.id), server.address, server.role, std::to_string(server.pid)});
  }
  std::vector<std::vector<std::string>> chunk{{"CHUNKSERVER", "TARGET", "ADDRESS", "NODE", "CLASS", "STATE", "USED", "AVAILABLE", "CHUNKS", "PID"}};
  for (const client::ChunkserverStatus& server : status.chunkservers) {
    chunk.push_back({std::to_string(server.server_id), std::to_string(server.target_id), server.address, server.node, server.target_class, server.state, HumanBytes(server.used_bytes), HumanBytes(server.available_bytes),
                     std::to_string(server.chunk_count), std::to_string(server.pid)});
  }
  std::printf("%s\n%s\n%s", FormatTable(meta).c_str(), FormatTable(chunk).c_str(), VolumeTable(status.volumes).c_str());
}

}  // namespace

Status RunStatus(const Context& context) {
  Result<std::unique_ptr<client::AdminClient>> admin = ConnectAdmin(context);
  Result<client::ClusterStatus> status = admin.ok() ? (*admin)->GetStatus() : Result<client::ClusterStatus>(admin.status());
  if (!status.ok()) {
    // A script that asks for JSON must be able to read "unavailable" from it; the exit status says it too.
    if (context.json && status.status().code() != StatusCode::kInvalidArgument) {
      client::ClusterStatus nothing;
      nothing.health = "unavailable";
      nothing.problems.push_back(status.status().message());
      PrintStatusJson(nothing);
    }
    return status.status();
  }
  if (context.json) {
    PrintStatusJson(*status);
  } else {
    PrintStatusText(*status);
  }
  return Status::Ok();
}

}  // namespace tarn::cli
