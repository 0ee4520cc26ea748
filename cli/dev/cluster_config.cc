#include "cli/dev/cluster_config.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/base/posix_io.h"

namespace tarn::cli {
namespace {

constexpr int kConfigVersion = 1;

ClusterConfig FromJson(const nlohmann::json& json) {
  ClusterConfig config;
  config.metaservers = json.at("metaservers").get<uint32_t>();
  config.chunkservers = json.at("chunkservers").get<uint32_t>();
  config.elastic_chunkservers = json.value("elastic_chunkservers", 0u);
  config.replicas = json.at("replicas").get<uint32_t>();
  config.mount_point = json.value("mount_point", "");
  for (const nlohmann::json& entry : json.at("servers")) {
    config.servers.push_back({entry.at("name").get<std::string>(), entry.at("address").get<std::string>(),
                              entry.at("command").get<std::vector<std::string>>()});
  }
  return config;
}

}  // namespace

std::string ClusterConfigPath(const std::string& directory) { return directory + "/cluster.json"; }

bool ClusterConfigExists(const std::string& directory) { return access(ClusterConfigPath(directory).c_str(), F_OK) == 0; }

Result<ClusterConfig> LoadClusterConfig(const std::string& directory) {
  const std::string path = ClusterConfigPath(directory);
  Result<std::string> text = ReadSmallFile(path);
  if (!text.ok()) {
    if (text.status().code() == StatusCode::kNotFound) return Status(StatusCode::kNotFound, "no dev cluster in " + directory + " (no cluster.json)");
    return text.status();
  }
  try {
    const nlohmann::json json = nlohmann::json::parse(*text);
    if (json.at("version").get<int>() != kConfigVersion) return Status(StatusCode::kNotSupported, path + ": written by another version of tarn");
    ClusterConfig config = FromJson(json);
    if (config.servers.empty()) return Status(StatusCode::kCorruption, path + ": names no servers");
    return config;
  } catch (const nlohmann::json::exception& error) {
    return Status(StatusCode::kCorruption, path + ": " + error.what());
  }
}

Status SaveClusterConfig(const std::string& directory, const ClusterConfig& config) {
  nlohmann::ordered_json json;
  json["version"] = kConfigVersion;
  json["metaservers"] = config.metaservers;
  json["chunkservers"] = config.chunkservers;
  if (config.elastic_chunkservers != 0) json["elastic_chunkservers"] = config.elastic_chunkservers;
  json["replicas"] = config.replicas;
  if (!config.mount_point.empty()) json["mount_point"] = config.mount_point;
  for (const ServerConfig& server : config.servers) {
    json["servers"].push_back({{"name", server.name}, {"address", server.address}, {"command", server.command}});
  }
  return WriteSmallFileDurably(ClusterConfigPath(directory), json.dump(2) + "\n");
}

std::vector<std::string> MetaAddresses(const ClusterConfig& config) {
  std::vector<std::string> addresses;
  for (const ServerConfig& server : config.servers) {
    if (server.name.starts_with("metaserver-")) addresses.push_back(server.address);
  }
  return addresses;
}

std::string MetaAddress(const ClusterConfig& config) {
  std::string text;
  for (const std::string& address : MetaAddresses(config)) text += (text.empty() ? "" : ",") + address;
  return text;
}

}  // namespace tarn::cli
