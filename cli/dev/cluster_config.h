// The settings of a dev cluster, kept in D/cluster.json: what `dev up` chose once and uses again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/status.h"

namespace tarn::cli {

struct ServerConfig {
  std::string name;                  // "metaserver-1", "chunkserver-2"
  std::string address;               // lean frames, HOST:PORT
  std::vector<std::string> command;  // absolute paths; run again from anywhere it brings the server back
};

struct ClusterConfig {
  uint32_t metaservers = 1;
  uint32_t chunkservers = 3;  // durable ones
  uint32_t elastic_chunkservers = 0;
  uint32_t replicas = 1;
  std::vector<ServerConfig> servers;  // metadata servers first
  std::string mount_point;            // of the volume `default`; empty: not mounted by `dev up`
};

std::string ClusterConfigPath(const std::string& directory);
bool ClusterConfigExists(const std::string& directory);
// kNotFound if there is no dev cluster in `directory`, kCorruption if cluster.json cannot be understood.
Result<ClusterConfig> LoadClusterConfig(const std::string& directory);
Status SaveClusterConfig(const std::string& directory, const ClusterConfig& config);
// Lean-frame address of the (first) metadata server.
// Of all metadata servers: a list, and as --meta takes it.
std::vector<std::string> MetaAddresses(const ClusterConfig& config);
std::string MetaAddress(const ClusterConfig& config);

}  // namespace tarn::cli
