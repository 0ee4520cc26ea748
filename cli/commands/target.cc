#include "cli/commands/target.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/admin.h"
#include "cli/commands/target_format.h"
#include "cli/output.h"

namespace tarn::cli {
namespace {

nlohmann::ordered_json ToJson(const client::ChunkserverStatus& target) {
  nlohmann::ordered_json json{{"target", target.target_id},
          {"server", target.server_id},
          {"address", target.address},
          {"node", target.node},
          {"zone", target.zone},
          {"class", target.target_class},
          {"state", target.state},
          {"capacity_bytes", target.capacity_bytes},
          {"used_bytes", target.used_bytes},
          {"available_bytes", target.available_bytes},
          {"chunks", target.chunk_count}};
  AddUse(target, &json);
  return json;
}

nlohmann::ordered_json ToJson(const client::ScrubStatus& scrub) {
  return {{"target", scrub.target_id},
          {"node", scrub.node},
          {"running", scrub.running},
          {"bytes_checked", scrub.bytes_checked},
          {"bytes_total", scrub.bytes_total},
          {"errors_found", scrub.errors_found},
          {"errors_repaired", scrub.errors_repaired},
          {"last_round_ended_ns", scrub.last_round_ended_ns},
          {"next_round_ns", scrub.next_round_ns}};
}

}  // namespace

Status RunTargetList(const Context& context) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  ASSIGN_OR_RETURN(const client::ClusterStatus status, admin->GetStatus());
  if (context.json) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const client::ChunkserverStatus& target : status.chunkservers) json.push_back(ToJson(target));
    std::printf("%s\n", json.dump(2).c_str());
    return Status::Ok();
  }
  std::vector<std::vector<std::string>> rows{{"TARGET", "CHUNKSERVER", "NODE", "CLASS", "STATE", "USED", "AVAILABLE", "CHUNKS", "CACHE"}};
  for (const client::ChunkserverStatus& target : status.chunkservers) {
    rows.push_back({std::to_string(target.target_id), std::to_string(target.server_id), target.node, target.target_class, target.state, HumanBytes(target.used_bytes),
                    HumanBytes(target.available_bytes), std::to_string(target.chunk_count), CacheText(target)});
  }
  std::printf("%s", FormatTable(rows).c_str());
  return Status::Ok();
}

Status RunTargetRetire(const Context& context, uint64_t target) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  ASSIGN_OR_RETURN(const client::ChunkserverStatus retired, admin->RetireTarget(target));
  if (context.json) {
    std::printf("%s\n", ToJson(retired).dump(2).c_str());
  } else {
    std::printf("target %lu is retired: its copies are made elsewhere, then it holds nothing (`tarn status`)\n", static_cast<unsigned long>(target));
  }
  return Status::Ok();
}

Status RunScrubStatus(const Context& context) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  ASSIGN_OR_RETURN(const std::vector<client::ScrubStatus> scrubs, admin->GetScrubStatus());
  if (context.json) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const client::ScrubStatus& scrub : scrubs) json.push_back(ToJson(scrub));
    std::printf("%s\n", json.dump(2).c_str());
    return Status::Ok();
  }
  std::vector<std::vector<std::string>> rows{{"TARGET", "NODE", "STATE", "CHECKED", "OF", "LAST ROUND", "NEXT ROUND", "ERRORS", "REPAIRED"}};
  for (const client::ScrubStatus& scrub : scrubs) {
    rows.push_back({std::to_string(scrub.target_id), scrub.node, scrub.running ? "running" : "idle", HumanBytes(scrub.bytes_checked), HumanBytes(scrub.bytes_total),
                    scrub.last_round_ended_ns == 0 ? "never" : HumanTime(scrub.last_round_ended_ns),
                    scrub.running ? "now" : scrub.next_round_ns == 0 ? "on request" : HumanTime(scrub.next_round_ns), std::to_string(scrub.errors_found), std::to_string(scrub.errors_repaired)});
  }
  std::printf("%s", FormatTable(rows).c_str());
  return Status::Ok();
}

Status RunScrubStart(const Context& context, uint64_t target) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  RETURN_IF_ERROR(admin->StartScrub(target));
  if (context.json) {
    std::printf("{\"started\": true}\n");
  } else {
    std::printf("a round begins with the next heartbeat (`tarn scrub status`)\n");
  }
  return Status::Ok();
}

}  // namespace tarn::cli
