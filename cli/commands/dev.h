// tarn dev up | down: a cluster of real processes on loopback, kept in one directory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/context.h"

namespace tarn::cli {

struct DevUpOptions {
  std::optional<uint32_t> metaservers;   // absent: 1, or what the cluster has
  std::optional<uint32_t> chunkservers;  // absent: 3, or what the cluster has
  std::optional<uint32_t> elastic_chunkservers;  // absent: none, or what the cluster has
  std::optional<uint32_t> replicas;      // absent: 1, or what the cluster has
  std::string mount_point;
};

// Returns when the cluster serves and the volume `default` exists (and is mounted, if asked). On failure what this call started is stopped again.
Status RunDevUp(const Context& context, const DevUpOptions& options);
// Unmounts and stops; always ends. The data stays.
Status RunDevDown(const Context& context);

}  // namespace tarn::cli
