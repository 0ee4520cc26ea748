// The options of tarn-metaserver: command line, environment (TARN_METASERVER_*) and TOML file, under one name each.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"

namespace tarn::meta {

struct Options {
  std::string directory;
  std::string listen = "127.0.0.1:7400";
  std::string grpc_listen;
  std::string advertise;
  std::string log_level = "info";
  std::string log_file;
  std::string restore;               // a backup to make the directory from; then the program ends
  uint32_t restore_incarnation = 0;  // 0: the one after the backup's
  uint64_t memory_limit_bytes = 0;  // 0: computed (service/memory_budget.h)
  std::vector<std::string> join;
  uint64_t replaces = 0;
  uint32_t election_timeout_ms = 400;
  uint32_t loop_threads = 1;
  int64_t session_lease_ms = 5'000;
  int64_t target_lease_ms = 2'500;
  int64_t reclaim_delay_ms = 300'000;
  int64_t replace_delay_ms = 300'000;
  int64_t reconcile_interval_ms = 86'400'000;
  int64_t orphan_quarantine_ms = 86'400'000;
  std::string fault;
  int64_t fault_delay_ms = 1'000;
  bool allow_faults = false;
};

struct ParsedOptions {
  Options options;
  // Set if there is nothing to run: --help, --version (0) or a mistake, already printed (2).
  std::optional<int> exit_code;
};

ParsedOptions ParseOptions(int argc, char** argv);
// kInvalidArgument, naming the option.
Status ValidateOptions(const Options& options);

}  // namespace tarn::meta
