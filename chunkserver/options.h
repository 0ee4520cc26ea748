// The options of tarn-chunkserver: command line, environment (TARN_CHUNKSERVER_*) and TOML file, under one name each.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"

namespace tarn::chunk {

struct Options {
  std::vector<std::string> directories;
  std::string listen = "127.0.0.1:7410";
  std::string advertise;
  std::string meta = "127.0.0.1:7400";
  std::string node;
  std::string zone;
  std::string target_class = "durable";  // or elastic
  uint64_t elastic_bytes = 0;            // of each directory; 0: computed
  std::string log_level = "info";
  std::string log_file;
  uint64_t reserve_bytes = 0;  // 0: computed
  uint64_t cache_bytes = 256u << 20;
  uint32_t loop_threads = 1;
  std::string disk_reads = "auto";
  uint64_t copy_rate = 200u << 20;  // bytes per second
  uint64_t scrub_rate = 32u << 20;  // bytes per second
  int64_t scrub_interval = 7 * 86'400;  // seconds
  bool rebuild_index = false;
  std::string fault;
  int64_t fault_delay_ms = 0;
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

}  // namespace tarn::chunk
