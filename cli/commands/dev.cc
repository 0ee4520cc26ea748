#include "cli/commands/dev.h"

#include <limits.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/commands/mount.h"
#include "cli/dev/cluster_config.h"
#include "cli/dev/mount_table.h"
#include "cli/dev/process.h"
#include "client/admin/admin_client.h"
#include "common/base/clock.h"
#include "common/base/posix_io.h"

namespace tarn::cli {
namespace {

constexpr uint32_t kMetaserversMax = 5;
constexpr uint32_t kChunkserversMax = 64;
constexpr uint32_t kReplicasMax = 3;
constexpr int64_t kStartTimeoutMs = 60'000;
constexpr int64_t kConnectTimeoutMs = 500;
constexpr int64_t kPollMs = 20;
constexpr int64_t kPortWaitMs = 3'000;
constexpr int64_t kStopGraceMs = 15'000;
constexpr const char* kDefaultVolume = "default";

Result<std::string> AbsoluteDirectory(const std::string& directory) {
  if (directory.empty()) return Status(StatusCode::kInvalidArgument, "tarn dev needs --dir D");
  RETURN_IF_ERROR(MakeDirectories(directory));
  char resolved[PATH_MAX];
  if (realpath(directory.c_str(), resolved) == nullptr) return Status::FromErrno(errno, directory);
  return std::string(resolved);
}

std::string Loopback(uint16_t port) { return "127.0.0.1:" + std::to_string(port); }

// Ports are chosen once, here, and never again.
Result<ClusterConfig> NewConfig(const Context& context, const std::string& directory, const DevUpOptions& options) {
  ClusterConfig config;
  config.metaservers = options.metaservers.value_or(1);
  config.chunkservers = options.chunkservers.value_or(3);
  config.elastic_chunkservers = options.elastic_chunkservers.value_or(0);
  config.replicas = options.replicas.value_or(1);
  std::vector<uint16_t> taken;
  const auto next_address = [&taken]() -> Result<std::string> {
    ASSIGN_OR_RETURN(const uint16_t port, FreePort(taken));
    taken.push_back(port);
    return Loopback(port);
  };
  for (uint32_t i = 1; i <= config.metaservers; ++i) {
    ServerConfig server{"metaserver-" + std::to_string(i), "", {}};
    ASSIGN_OR_RETURN(server.address, next_address());
    ASSIGN_OR_RETURN(const std::string grpc_address, next_address());
    server.command = {context.binary_directory + "/tarn-metaserver",
                      "--dir", directory + "/" + server.name,
                      "--listen", server.address,
                      "--grpc-listen", grpc_address,
                      "--log-file", directory + "/log/" + server.name + ".log"};
    config.servers.push_back(server);
  }
  const std::string metaservers = MetaAddress(config);
  // The first one makes the cluster, the others join it; once they belong to it nobody looks at the flag any more.
  for (uint32_t i = 1; i < config.metaservers; ++i) {
    std::vector<std::string>& command = config.servers[i].command;
    command.insert(command.end(), {"--join", metaservers});
  }
  const auto add_chunkserver = [&](const std::string& name, const std::string& node, const std::vector<std::string>& more) -> Status {
    ServerConfig server{name, "", {}};
    ASSIGN_OR_RETURN(server.address, next_address());
    server.command = {context.binary_directory + "/tarn-chunkserver", "--dir",  directory + "/" + name, "--listen",   server.address, "--meta",
                      metaservers,                                    "--node", node,                   "--log-file", directory + "/log/" + name + ".log"};
    server.command.insert(server.command.end(), more.begin(), more.end());
    config.servers.push_back(server);
    return Status::Ok();
  };
  for (uint32_t i = 1; i <= config.chunkservers; ++i) {
    RETURN_IF_ERROR(add_chunkserver("chunkserver-" + std::to_string(i), "dev-" + std::to_string(i), {}));
  }
  for (uint32_t i = 1; i <= config.elastic_chunkservers; ++i) {
    RETURN_IF_ERROR(add_chunkserver("elastic-" + std::to_string(i), "dev-elastic-" + std::to_string(i), {"--class", "elastic"}));
  }
  return config;
}

Status RefuseUnsupported(const DevUpOptions& options) {
  const uint32_t metaservers = options.metaservers.value_or(1);
  if (metaservers == 0 || metaservers > kMetaserversMax) {
    return Status(StatusCode::kInvalidArgument, "--metaservers " + std::to_string(metaservers) + ": 1, 3 or 5");
  }
  if (metaservers % 2 == 0) {
    return Status(StatusCode::kInvalidArgument, "--metaservers " + std::to_string(metaservers) +
                                                    ": a majority must be up, so an even number bears no more failures than one less; 1, 3 or 5");
  }
  if (const uint32_t replicas = options.replicas.value_or(1); replicas < 1 || replicas > kReplicasMax) {
    return Status(StatusCode::kInvalidArgument, "--replicas " + std::to_string(replicas) + ": 1 to " + std::to_string(kReplicasMax));
  }
  if (options.chunkservers && options.replicas && *options.replicas > *options.chunkservers) {
    return Status(StatusCode::kInvalidArgument, "--replicas " + std::to_string(*options.replicas) + " needs as many chunk servers, and --chunkservers is " + std::to_string(*options.chunkservers));
  }
  if (const uint32_t count = options.chunkservers.value_or(1); count < 1 || count > kChunkserversMax) {
    return Status(StatusCode::kInvalidArgument, "--chunkservers " + std::to_string(count) + ": 1 to " + std::to_string(kChunkserversMax));
  }
  if (options.elastic_chunkservers && *options.elastic_chunkservers > kChunkserversMax) {
    return Status(StatusCode::kInvalidArgument, "--elastic-chunkservers " + std::to_string(*options.elastic_chunkservers) + ": 0 to " + std::to_string(kChunkserversMax));
  }
  return Status::Ok();
}

Status RefuseContradictions(const std::string& directory, const ClusterConfig& config, const DevUpOptions& options) {
  const auto differs = [&](const char* flag, std::optional<uint32_t> wanted, uint32_t has) {
    return !wanted || *wanted == has
               ? Status::Ok()
               : Status(StatusCode::kInvalidArgument, std::string(flag) + " " + std::to_string(*wanted) + " contradicts the cluster in " + directory + ", which has " + std::to_string(has));
  };
  RETURN_IF_ERROR(differs("--metaservers", options.metaservers, config.metaservers));
  RETURN_IF_ERROR(differs("--chunkservers", options.chunkservers, config.chunkservers));
  RETURN_IF_ERROR(differs("--elastic-chunkservers", options.elastic_chunkservers, config.elastic_chunkservers));
  return differs("--replicas", options.replicas, config.replicas);
}

// The last line a server wrote: the reason, if it ended at once.
std::string LastLine(const std::string& path) {
  Result<std::string> text = ReadSmallFile(path, 64 << 20);
  if (!text.ok()) return "";
  while (!text->empty() && text->back() == '\n') text->pop_back();
  return text->substr(text->rfind('\n') == std::string::npos ? 0 : text->rfind('\n') + 1);
}

struct Started {
  pid_t pid = 0;
  const ServerConfig* server = nullptr;
  std::string output_path;
};

// A server that was killed a moment ago may still hold its port.
bool WaitForPort(const std::string& address) {
  for (int64_t waited_ms = 0; !PortIsFree(address); waited_ms += kPollMs) {
    if (waited_ms >= kPortWaitMs) return false;
    PauseMs(kPollMs);
  }
  return true;
}

Result<std::vector<Started>> StartServers(const std::string& directory, const ClusterConfig& config) {
  std::vector<Started> started;
  for (const ServerConfig& server : config.servers) {
    if (!FindProcesses(server.command).empty()) continue;
    const std::string output = directory + "/log/" + server.name + ".out";
    Result<pid_t> pid = WaitForPort(server.address) ? StartDaemon(server.command, output)
                                                   : Result<pid_t>(StatusCode::kBusy, server.name + ": address " + server.address + " is in use by another process");
    if (!pid.ok()) {
      for (const Started& other : started) StopProcess(other.pid, other.server->command, kStopGraceMs);
      return pid.status();
    }
    started.push_back({*pid, &server, output});
  }
  return started;
}

Status CheckStillRunning(const std::vector<Started>& started) {
  for (const Started& server : started) {
    if (WaitForExit(server.pid, 0)) {
      const std::string reason = LastLine(server.output_path);
      return Status(StatusCode::kUnavailable, server.server->name + " ended at start: " + (reason.empty() ? "see " + server.output_path : reason));
    }
  }
  return Status::Ok();
}

bool Serves(const Result<client::ClusterStatus>& status, const ClusterConfig& config) {
  if (!status.ok() || status->health == "unavailable" || status->placement_groups == 0) return false;
  uint32_t voters = 0;
  for (const client::MetaserverStatus& server : status->metaservers) voters += server.role == "leader" || server.role == "follower" ? 1 : 0;
  uint32_t online = 0;
  for (const client::ChunkserverStatus& server : status->chunkservers) online += server.state == "online" ? 1 : 0;
  return online >= config.chunkservers + config.elastic_chunkservers && voters >= config.metaservers;
}

Status WaitUntilServing(const ClusterConfig& config, const std::vector<Started>& started) {
  const SystemClock clock;
  const int64_t deadline_ms = clock.MonotonicMs() + kStartTimeoutMs;
  std::string last = "no answer";
  std::unique_ptr<client::AdminClient> admin;
  while (clock.MonotonicMs() < deadline_ms) {
    RETURN_IF_ERROR(CheckStillRunning(started));
    if (admin == nullptr) {
      auto connected = client::AdminClient::Connect(MetaAddresses(config), kConnectTimeoutMs);
      if (connected.ok()) {
        admin = std::move(*connected);
      } else {
        last = connected.status().message();
      }
    } else {
      const Result<client::ClusterStatus> status = admin->GetStatus();
      if (Serves(status, config)) return Status::Ok();
      last = status.ok() ? "health " + status->health + ", " + std::to_string(status->chunkservers.size()) + " chunk servers known" : status.status().message();
    }
    PauseMs(kPollMs);
  }
  return Status(StatusCode::kTimeout, "the cluster does not serve after " + std::to_string(kStartTimeoutMs / 1000) + " s: " + last);
}

Status MakeDefaultVolume(const ClusterConfig& config) {
  ASSIGN_OR_RETURN(const auto admin, client::AdminClient::Connect(MetaAddresses(config)));
  if (admin->GetVolume(kDefaultVolume).ok()) return Status::Ok();
  client::VolumeRequest request;
  request.name = kDefaultVolume;
  request.replicas = config.replicas;
  return admin->CreateVolume(request).status().WithContext("make the volume 'default'");
}

// Stops every server of the cluster that runs: all at once first, since each may need a while.
void StopServers(const ClusterConfig& config) {
  for (auto server = config.servers.rbegin(); server != config.servers.rend(); ++server) {
    for (const pid_t pid : FindProcesses(server->command)) StopProcess(pid, server->command, kStopGraceMs);
  }
}

void PrintUp(const Context& context, const std::string& directory, const ClusterConfig& config) {
  if (context.json) {
    nlohmann::ordered_json json{{"directory", directory}, {"meta", MetaAddress(config)}, {"volume", kDefaultVolume}, {"mount", config.mount_point}};
    for (const ServerConfig& server : config.servers) {
      const std::vector<pid_t> pids = FindProcesses(server.command);
      json["servers"].push_back({{"name", server.name}, {"address", server.address}, {"pid", pids.empty() ? 0 : pids.front()}, {"command", server.command}});
    }
    std::printf("%s\n", json.dump(2).c_str());
    return;
  }
  std::printf("cluster in %s serves: metadata %s, %u chunk servers, volume '%s'%s%s\n", directory.c_str(), MetaAddress(config).c_str(), config.chunkservers,
              kDefaultVolume, config.mount_point.empty() ? "" : " mounted on ", config.mount_point.c_str());
}

Status BringUp(const Context& context, const std::string& directory, ClusterConfig* config, const std::string& mount_point) {
  RETURN_IF_ERROR(MakeDirectories(directory + "/log"));
  ASSIGN_OR_RETURN(const std::vector<Started> started, StartServers(directory, *config));
  Status status = WaitUntilServing(*config, started);
  if (status.ok()) status = MakeDefaultVolume(*config);
  if (status.ok() && !mount_point.empty()) {
    MountOptions mount;
    mount.source = std::string(kDefaultVolume) + "@" + MetaAddress(*config);
    mount.mount_point = mount_point;
    mount.log_file = directory + "/log/mount.log";
    const Result<bool> mounted = IsMounted(context, mount);
    if (!mounted.ok()) {
      status = mounted.status();
    } else if (!*mounted) {
      status = RunMount(context, mount);
    }
  }
  if (!status.ok()) {
    for (const Started& server : started) StopProcess(server.pid, server.server->command, kStopGraceMs);
  }
  return status;
}

}  // namespace

Status RunDevUp(const Context& context, const DevUpOptions& options) {
  RETURN_IF_ERROR(RefuseUnsupported(options));
  ASSIGN_OR_RETURN(const std::string directory, AbsoluteDirectory(context.dev_directory));
  ASSIGN_OR_RETURN(const UniqueFd lock, LockFile(directory + "/cluster.lock"));
  ClusterConfig config;
  if (ClusterConfigExists(directory)) {
    ASSIGN_OR_RETURN(config, LoadClusterConfig(directory));
    RETURN_IF_ERROR(RefuseContradictions(directory, config, options));
  } else {
    ASSIGN_OR_RETURN(config, NewConfig(context, directory, options));
  }
  if (!options.mount_point.empty()) {
    char resolved[PATH_MAX];
    // A mount whose daemon died cannot be resolved; tarn-fuse says what to do about it.
    config.mount_point = realpath(options.mount_point.c_str(), resolved) != nullptr ? resolved : options.mount_point;
  }
  // Before anything starts: an interrupted `up` must leave what `down` needs.
  RETURN_IF_ERROR(SaveClusterConfig(directory, config));
  RETURN_IF_ERROR(BringUp(context, directory, &config, options.mount_point.empty() ? "" : config.mount_point));
  PrintUp(context, directory, config);
  return Status::Ok();
}

Status RunDevDown(const Context& context) {
  if (context.dev_directory.empty()) return Status(StatusCode::kInvalidArgument, "tarn dev needs --dir D");
  ASSIGN_OR_RETURN(const ClusterConfig config, LoadClusterConfig(context.dev_directory));
  const std::vector<std::string> addresses = MetaAddresses(config);
  const auto is_ours = [&](const Mount& mount) {
    const size_t at = mount.source.find('@');
    return mount.mount_point == config.mount_point ||
           (at != std::string::npos && std::any_of(addresses.begin(), addresses.end(), [&](const std::string& address) {
              return (mount.source + ",").find(address + ",", at) != std::string::npos;
            }));
  };
  for (const Mount& mount : TarnMounts()) {
    if (!is_ours(mount)) continue;
    UmountOptions options;
    options.mount_point = mount.mount_point;
    options.force = true;
    if (Status status = RunUmount(context, options); !status.ok()) std::fprintf(stderr, "tarn: %s\n", status.message().c_str());
  }
  StopServers(config);
  if (context.json) std::printf("{\"stopped\": true}\n");
  return Status::Ok();
}

}  // namespace tarn::cli
