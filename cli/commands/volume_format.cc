#include "cli/commands/volume_format.h"

#include <nlohmann/json.hpp>

#include "cli/output.h"

namespace tarn::cli {

using client::VolumeInfo;

nlohmann::ordered_json VolumeJson(const VolumeInfo& volume) {
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

std::string VolumeTable(const std::vector<VolumeInfo>& volumes) {
  std::vector<std::vector<std::string>> rows{{"VOLUME", "USED", "INODES", "QUOTA", "REPLICAS"}};
  for (const VolumeInfo& volume : volumes) {
    rows.push_back({volume.name, HumanBytes(volume.used_bytes), std::to_string(volume.used_inodes), QuotaText(volume.quota_bytes), std::to_string(volume.replicas)});
  }
  return FormatTable(rows);
}

}  // namespace tarn::cli
