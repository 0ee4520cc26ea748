#include "cli/commands/volume.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/admin.h"
#include "cli/commands/volume_format.h"
#include "cli/output.h"

namespace tarn::cli {
namespace {

using client::VolumeInfo;

Result<uint64_t> ParseSize(const char* flag, const std::string& text) {
  uint64_t bytes = 0;
  if (!ParseBytes(text, &bytes)) {
    return Status(StatusCode::kInvalidArgument, std::string(flag) + ": '" + text + "' is not a size (for example 64M, 10G)");
  }
  return bytes;
}

void PrintVolume(const Context& context, const VolumeInfo& volume) {
  if (context.json) {
    std::printf("%s\n", VolumeJson(volume).dump(2).c_str());
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

}  // namespace

Status RunVolumeCreate(const Context& context, const VolumeCreateOptions& options) {
  client::VolumeRequest request;
  request.name = options.name;
  request.quota_inodes = options.quota_inodes;
  request.replicas = options.replicas;
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
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  ASSIGN_OR_RETURN(const VolumeInfo volume, admin->CreateVolume(request));
  PrintVolume(context, volume);
  return Status::Ok();
}

Status RunVolumeList(const Context& context) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  ASSIGN_OR_RETURN(const std::vector<VolumeInfo> volumes, admin->ListVolumes());
  if (context.json) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    for (const VolumeInfo& volume : volumes) json.push_back(VolumeJson(volume));
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    std::printf("%s", VolumeTable(volumes).c_str());
  }
  return Status::Ok();
}

Status RunVolumeInfo(const Context& context, const std::string& name) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
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
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  ASSIGN_OR_RETURN(const VolumeInfo volume, admin->ResizeVolume(options.name, quota_bytes, options.quota_inodes));
  PrintVolume(context, volume);
  return Status::Ok();
}

Status RunVolumeDelete(const Context& context, const VolumeDeleteOptions& options) {
  ASSIGN_OR_RETURN(const auto admin, ConnectAdmin(context));
  Status status = admin->DeleteVolume(options.name, options.recursive);
  if (status.code() == StatusCode::kNotEmpty) {
    return Status(StatusCode::kNotEmpty, "volume '" + options.name + "' is not empty; --recursive deletes it with everything in it");
  }
  RETURN_IF_ERROR(status);
  if (context.json) std::printf("{\"deleted\": true}\n");
  return Status::Ok();
}

}  // namespace tarn::cli
