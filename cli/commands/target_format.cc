#include "cli/commands/target_format.h"

#include <nlohmann/json.hpp>

#include "cli/output.h"

namespace tarn::cli {

void AddUse(const client::ChunkserverStatus& target, nlohmann::ordered_json* json) {
  (*json)["bytes_read"] = target.bytes_read;
  if (!target.elastic) return;
  const client::ElasticUse& use = *target.elastic;
  (*json)["elastic"] = {{"cached_bytes", use.cached_bytes}, {"hits", use.hits},
                        {"misses", use.misses},             {"refusals", use.refusals},
                        {"bytes_served", use.bytes_served}, {"bytes_filled", use.bytes_filled},
                        {"bytes_evicted", use.bytes_evicted}, {"bad_units", use.bad_units}};
}

std::string CacheText(const client::ChunkserverStatus& target) {
  if (!target.elastic) return "-";
  const uint64_t reads = target.elastic->hits + target.elastic->misses;
  const std::string cached = HumanBytes(target.elastic->cached_bytes) + " cached";
  return reads == 0 ? cached : cached + ", " + std::to_string(target.elastic->hits * 100 / reads) + " % hits";
}

}  // namespace tarn::cli
