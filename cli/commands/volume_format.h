// How volumes are shown. Pure functions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "client/types.h"

namespace tarn::cli {

nlohmann::ordered_json VolumeJson(const client::VolumeInfo& volume);
std::string VolumeTable(const std::vector<client::VolumeInfo>& volumes);
// "-" for none.
std::string QuotaText(uint64_t quota_bytes);

}  // namespace tarn::cli
