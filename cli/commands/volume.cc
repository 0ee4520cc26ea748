#include "cli/commands/volume.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/output.h"
#include "client/admin/admin_client.h"

namespace tarn::cli {
namespace {

using client::VolumeInfo;

Result<std::unique_ptr<client::AdminClient>> Connect(const Context& context) {
  ASSIGN_OR_RETURN(const std::vector<std::string> addresses, MetaserverAddresses(context));
  return client::AdminClient::Connect(addresses);
}

Result<uint64_t> ParseSize(const char* flag, const std::string& text) {
  uint64_t bytes = 0;
  if (!ParseBytes(text, &bytes)) {
    return Status(StatusCode::kInvalidArgument, std::string(flag) + ": '" + text + "' is not a size (for example 64M, 10G)");
  }
  return bytes;
}

nlohmann::ordered_json ToJson(const VolumeInfo& volume) {
  return {{"name", volume.name},
          {"id", volume.id.value()},
          {"root_inode", volume.root.value()},
          {"used_bytes", volume.used_bytes},
          {"used_inodes", volume.used_inodes},
          {"quota_bytes", volume.quota_bytes},
          {"quota_inodes", volume.quota_inodes},
          {"replicas", volume.replicas},
          {"stripe_unit_bytes", volume.stripe_unit_bytes},
          {"stripe_width", volume.stripe_width},
          {"chunk_size_bytes", volume.chunk_size_bytes},
          {"created_ns", volume.created_ns}};
}

std::string QuotaText(uint64_t quota_bytes) { return quota_bytes == 0 ? "-" : HumanBytes(quota_bytes); }

void PrintVolume(const Context& context, const VolumeInfo& volume) {
  if (context.json) {
    std::printf("%s\n", ToJson(volume).dump(2).c_str());
    return;
  }
  std::printf("volume        %s (id %u)\n", volume.name.c_str(), volume.id.value());
  std::printf("used          %s in %lu inodes\n", HumanBytes(volume.used_bytes).c_str(), static_cast<unsigned long>(volume.used_inodes));
  std::printf("quota         %s, %s inodes\n", QuotaText(volume.quota_bytes).c_str(), volume.quota_inodes == 0 ? "-" : std::to_string(volume.quota_inodes).c_str());
  std::printf("replicas      %u\n", volume.replicas);
  std::printf("layout        stripe unit %s, width %u, chunk size %s\n", HumanBytes(volume.stripe_unit_bytes).c_str(), volume.stripe_width,
              HumanBytes(volume.chunk_size_bytes).c_str());
  std::printf("created       %s UTC\n", HumanTime(volume.created_ns).c_str());
}

std::string VolumeTable(const std::vector<VolumeInfo>& volumes) {
  std::vector<std::vector<std::string>> rows{{"VOLUME", "USED", "INODES", "QUOTA", "REPLICAS"}};
  for (const VolumeInfo& volume : volumes) {
    rows.push_back({volume.name, HumanBytes(volume.used_bytes), std::to_string(volume.used_inodes), QuotaText(volume.quota_bytes), std::to_string(volume.replicas)});
  }
  return FormatTable(rows);
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
                                    {"state", server.state},
                                    {"pid", server.pid},
                                    {"capacity_bytes", server.capacity_bytes},
                                    {"used_bytes", server.used_bytes},
                                    {"available_bytes", server.available_bytes},
                                    {"chunks", server.chunk_count}});
  }
  for (const VolumeInfo& volume : status.volumes) json["volumes"].push_back(ToJson(volume));
  std::printf("%s\n", json.dump(2).c_str());
}

void PrintStatusText(const client::ClusterStatus& status) {
  std::printf("health    %s\n", status.health.c_str());
  for (const std::string& problem : status.problems) std::printf("          %s\n", problem.c_str());
  std::printf("cluster   %s, %u placement groups, %u sessions\n\n", status.cluster_id.c_str(), status.placement_groups, status.sessions);
  if (status.removing_inodes != 0) std::printf("removing  about %lu inodes in the background\n\n", static_cast<unsigned long>(status.removing_inodes));
  std::vector<std::vector<std::string>> meta{{"METASERVER", "ADDRESS", "ROLE", "PID"}};
  for (const client::MetaserverStatus& server : status.metaservers) {
    meta.push_back({std::to_string(server.id), server.address, server.role, std::to_string(server.pid)});
  }
  std::vector<std::vector<std::string>> chunk{{"CHUNKSERVER", "ADDRESS", "NODE", "STATE", "USED", "AVAILABLE", "CHUNKS", "PID"}};
  for (const client::ChunkserverStatus& server : status.chunkservers) {
    chunk.push_back({std::to_string(server.server_id), server.address, server.node, server.state, HumanBytes(server.used_bytes), HumanBytes(server.available_bytes),
                     std::to_string(server.chunk_count), std::to_string(server.pid)});
  }
  std::printf("%s\n%s\n%s", FormatTable(meta).c_str(), FormatTable(chunk).c_str(), VolumeTable(status.volumes).c_str());
}

}  // namespace

Status RunVolumeCreate(const Context& context, const VolumeCreateOptions& options) {
  client::VolumeRequest request;
  request.name = options.name;
  request.quota_inodes = options.quota_inodes;
  request.replicas = options.replicas;
  if (options.replicas != 1) return Status(StatusCode::kNotSupported, "--replicas " + std::to_string(options.replicas) + ": not supported yet (1 is)");
  if (!options.quota.empty()) {
    ASSIGN_OR_RETURN(request.quota_bytes, ParseSize("--quota", options.quota));
  }
  if (!options.stripe_unit.empty()) {
    ASSIGN_OR_RETURN(const uint64_t bytes, ParseSize("--stripe-unit", options.stripe_unit));
    if (bytes > UINT32_MAX) return Status(StatusCode::kInvalidArgument, "--stripe-unit: '" + options.stripe_unit + "' is too large");
    request.stripe_unit_bytes = static_cast<uint32_t>(bytes);
  }
  if (options.stripe_width != 0) request.stripe_width = options.stripe_width;
  if (!options.chunk_size.empty()) {
    ASSIGN_OR_RETURN(request.chunk_size_bytes, ParseSize("--chunk-size", options.chunk_size));
  }
  ASSIGN_OR_RETURN(const auto admin, Connect(context));
  ASSIGN_OR_RETURN(const VolumeInfo volume, admin->CreateVolume(request));
  PrintVolume(context, volume);
  return Status::Ok();
}

Status RunVolumeList(const Context& context) {
  ASSIGN_OR_RETURN(const auto admin, Connect(context));
  ASSIGN_OR_RETURN(const std::vector<VolumeInfo> volumes, admin->ListVolumes());
  if (context.json) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const VolumeInfo& volume : volumes) json.push_back(ToJson(volume));
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    std::printf("%s", VolumeTable(volumes).c_str());
  }
  return Status::Ok();
}

Status RunVolumeInfo(const Context& context, const std::string& name) {
  ASSIGN_OR_RETURN(const auto admin, Connect(context));
  ASSIGN_OR_RETURN(const VolumeInfo volume, admin->GetVolume(name));
  PrintVolume(context, volume);
  return Status::Ok();
}

Status RunVolumeResize(const Context& context, const VolumeResizeOptions& options) {
  std::optional<uint64_t> quota_bytes;
  if (!options.quota.empty()) {
    ASSIGN_OR_RETURN(quota_bytes, ParseSize("--quota", options.quota));
  }
  if (!quota_bytes && !options.quota_inodes) return Status(StatusCode::kInvalidArgument, "nothing to change: give --quota or --quota-inodes");
  ASSIGN_OR_RETURN(const auto admin, Connect(context));
  ASSIGN_OR_RETURN(const VolumeInfo volume, admin->ResizeVolume(options.name, quota_bytes, options.quota_inodes));
  PrintVolume(context, volume);
  return Status::Ok();
}

Status RunVolumeDelete(const Context& context, const VolumeDeleteOptions& options) {
  ASSIGN_OR_RETURN(const auto admin, Connect(context));
  Status status = admin->DeleteVolume(options.name, options.recursive);
  if (status.code() == StatusCode::kNotEmpty) {
    return Status(StatusCode::kNotEmpty, "volume '" + options.name + "' is not empty; --recursive deletes it with everything in it");
  }
  RETURN_IF_ERROR(status);
  if (context.json) std::printf("{\"deleted\": true}\n");
  return Status::Ok();
}

Status RunStatus(const Context& context) {
  Result<std::unique_ptr<client::AdminClient>> admin = Connect(context);
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
