// How targets are shown. Pure functions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "client/admin/admin_client.h"

namespace tarn::cli {

// Adds what the target sent to readers, and for an elastic one "elastic": its counters.
void AddUse(const client::ChunkserverStatus& target, nlohmann::ordered_json* json);
// "1.2 GiB cached, 93 % hits" for an elastic target, "-" for others.
std::string CacheText(const client::ChunkserverStatus& target);

}  // namespace tarn::cli
