#include "metaserver/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <iostream>

#include "metaserver/service/memory_budget.h"
#include "metaserver/service/server_registry.h"

namespace tarn::meta {
namespace {

constexpr uint32_t kLoopThreadsMax = 64;
constexpr int64_t kTargetLeaseMsMin = 1'000;
constexpr uint32_t kElectionTimeoutMsMin = 100;
constexpr uint32_t kElectionTimeoutMsMax = 10'000;

// "--session-lease-ms" is TARN_METASERVER_SESSION_LEASE_MS.
template <typename T>
CLI::Option* Add(CLI::App& app, const std::string& name, T& value, const std::string& help) {
  std::string variable = "TARN_METASERVER_" + name;
  std::transform(variable.begin(), variable.end(), variable.begin(),
                 [](unsigned char c) { return c == '-' ? '_' : static_cast<char>(std::toupper(c)); });
  return app.add_option("--" + name, value, help)->envname(variable)->capture_default_str();
}

}  // namespace

ParsedOptions ParseOptions(int argc, char** argv) {
  ParsedOptions parsed;
  Options& options = parsed.options;
  CLI::App app{"The metadata server of TarnFS", "tarn-metaserver"};
  app.set_version_flag("--version", std::string("tarn-metaserver ") + TARN_VERSION);
  app.set_config("--config", "", "Options from a TOML file; the command line wins");
  Add(app, "dir", options.directory, "Directory of the log and the state; an empty one makes a new cluster, or joins one (--join)")
      ->required();
  Add(app, "listen", options.listen, "HOST:PORT for clients and chunk servers");
  Add(app, "grpc-listen", options.grpc_listen, "HOST:PORT for gRPC; default: a free port on the host of --listen");
  Add(app, "advertise", options.advertise,
      "HOST:PORT by which others reach --listen; default: the address it listens on");
  Add(app, "join", options.join,
      "HOST:PORT,... of metadata servers: with an empty directory joins their group; without effect later")
      ->delimiter(',');
  Add(app, "replaces", options.replaces, "With --join: the member (`tarn meta list`) that goes once this one has a vote");
  Add(app, "election-timeout-ms", options.election_timeout_ms,
      "A leader that is silent for so long is replaced; longer where disks or networks pause for longer");
  Add(app, "restore", options.restore, "Makes --dir from this backup (tarn meta backup) and ends");
  Add(app, "restore-incarnation", options.restore_incarnation,
      "Higher than any before: needed if a backup is restored a second time; default: the one after the backup's");
  Add(app, "log-level", options.log_level, "trace, debug, info, warn or error");
  Add(app, "log-file", options.log_file, "Default: stderr");
  Add(app, "memory-limit", options.memory_limit_bytes,
      "Resident memory (suffixes k, m, g); default: half of the container's, or an eighth of the machine's")
      ->transform(CLI::AsSizeValue(false));
  Add(app, "loop-threads", options.loop_threads, "Threads that serve connections");
  Add(app, "session-lease-ms", options.session_lease_ms,
      "A client that is silent for so long has lost its cache, after six times as long its session");
  Add(app, "target-lease-ms", options.target_lease_ms,
      "A chunk server that is silent for so long is passed over: how long writes wait for a primary that is gone");
  Add(app, "reclaim-delay-ms", options.reclaim_delay_ms, "How long the data of deleted files is kept (10 s at most on a disk with less than 5 % left)");
  Add(app, "replace-delay-ms", options.replace_delay_ms,
      "A chunk server that is silent for so long has its copies made elsewhere: longer than a restart of its node takes");
  Add(app, "reconcile-interval-ms", options.reconcile_interval_ms,
      "How often the data ids on chunk servers are compared with the metadata, also some minutes after one registers");
  Add(app, "orphan-quarantine-ms", options.orphan_quarantine_ms,
      "How long data that no file, reservation or deletion knows is kept before it is deleted");
  Add(app, "fault", options.fault, "Fault points for tests, for example meta.drop_reply/rename=once");
  Add(app, "fault-delay-ms", options.fault_delay_ms, "How late replies are, for the fault points that delay or repeat them");
  app.add_flag("--allow-faults", options.allow_faults, "Lets --fault be used");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    parsed.exit_code = app.exit(error, std::cout, std::cerr) == 0 ? 0 : 2;
  }
  return parsed;
}

Status ValidateOptions(const Options& options) {
  const auto refuse = [](const std::string& text) { return Status(StatusCode::kInvalidArgument, text); };
  if (options.directory.empty()) return refuse("--dir is empty");
  for (const auto& [name, value] : {std::pair{"--listen", options.listen},
                                    {"--grpc-listen", options.grpc_listen},
                                    {"--advertise", options.advertise}}) {
    if (!value.empty() && value.find(':') == std::string::npos)
      return refuse(std::string(name) + " " + value + " is not HOST:PORT");
  }
  if (options.listen.empty()) return refuse("--listen is empty");
  if (options.memory_limit_bytes != 0 && options.memory_limit_bytes < kMemoryLimitMin)
    return refuse("--memory-limit is below 64 MiB");
  for (const std::string& address : options.join) {
    if (address.find(':') == std::string::npos) return refuse("--join " + address + " is not HOST:PORT");
  }
  if (options.replaces != 0 && options.join.empty()) return refuse("--replaces is for a server that joins: it needs --join");
  if (options.election_timeout_ms < kElectionTimeoutMsMin || options.election_timeout_ms > kElectionTimeoutMsMax)
    return refuse("--election-timeout-ms is not from 100 to 10000");
  if (options.loop_threads == 0 || options.loop_threads > kLoopThreadsMax)
    return refuse("--loop-threads is not from 1 to 64");
  if (options.session_lease_ms < 1000) return refuse("--session-lease-ms is below 1000");
  if (options.target_lease_ms < kTargetLeaseMsMin || options.target_lease_ms > kTargetLeaseMsMax)
    return refuse("--target-lease-ms is not from 1000 to 5000");
  if (options.reclaim_delay_ms < 0) return refuse("--reclaim-delay-ms is negative");
  if (options.replace_delay_ms < 0) return refuse("--replace-delay-ms is negative");
  if (options.reconcile_interval_ms < 100) return refuse("--reconcile-interval-ms is below 100");
  if (options.orphan_quarantine_ms < 0) return refuse("--orphan-quarantine-ms is negative");
  if (options.fault_delay_ms < 0) return refuse("--fault-delay-ms is negative");
  if (!options.fault.empty() && !options.allow_faults) return refuse("--fault is for tests: it needs --allow-faults");
  return Status::Ok();
}

}  // namespace tarn::meta
