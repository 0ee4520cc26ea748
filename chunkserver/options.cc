#include "chunkserver/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <iostream>
#include <map>

namespace tarn::chunk {
namespace {

constexpr uint64_t kCacheBytesMin = 8u << 20;
constexpr uint64_t kElasticBytesMin = 16u << 20;
constexpr uint32_t kLoopThreadsMax = 64;
constexpr size_t kDirectoriesMax = 64;

// "--reserve-bytes" is TARN_CHUNKSERVER_RESERVE_BYTES.
template <typename T>
CLI::Option* Add(CLI::App& app, const std::string& name, T& value, const std::string& help) {
  std::string variable = "TARN_CHUNKSERVER_" + name;
  std::transform(variable.begin(), variable.end(), variable.begin(),
                 [](unsigned char c) { return c == '-' ? '_' : static_cast<char>(std::toupper(c)); });
  return app.add_option("--" + name, value, help)->envname(variable)->capture_default_str();
}

}  // namespace

ParsedOptions ParseOptions(int argc, char** argv) {
  ParsedOptions parsed;
  Options& options = parsed.options;
  CLI::App app{"The chunk server of TarnFS", "tarn-chunkserver"};
  app.set_version_flag("--version", std::string("tarn-chunkserver ") + TARN_VERSION);
  app.set_config("--config", "", "Options from a TOML file; the command line wins");
  Add(app, "dir", options.directories, "Directory of a target, best a disk of its own; an empty one becomes a new target; may be given several times")
      ->required()
      ->expected(1)
      ->take_all();
  Add(app, "listen", options.listen, "HOST:PORT for clients");
  Add(app, "advertise", options.advertise, "HOST:PORT by which clients reach --listen; default: the address it listens on");
  Add(app, "meta", options.meta, "Metadata servers, HOST:PORT[,HOST:PORT...]");
  Add(app, "node", options.node, "Name of the node; default: the host's name");
  Add(app, "zone", options.zone, "Name of the failure zone");
  Add(app, "class", options.target_class, "durable: copies that count; elastic: extra copies for readers, nothing outlives the process (for nodes that come and go)");
  Add(app, "elastic-bytes", options.elastic_bytes, "What an elastic target may use of each --dir (suffixes k, m, g); default: nine tenths of what is free")
      ->transform(CLI::AsSizeValue(false));
  Add(app, "log-level", options.log_level, "trace, debug, info, warn or error");
  Add(app, "log-file", options.log_file, "Default: stderr");
  Add(app, "reserve-bytes", options.reserve_bytes, "Free space below which writes get ENOSPC (suffixes k, m, g); default: from the disk's size")
      ->transform(CLI::AsSizeValue(false));
  Add(app, "cache-bytes", options.cache_bytes, "Memory for the index, of all directories together (suffixes k, m, g)")->transform(CLI::AsSizeValue(false));
  Add(app, "loop-threads", options.loop_threads, "Threads that serve connections");
  Add(app, "disk-reads", options.disk_reads, "auto: io_uring where the kernel allows it; threads: never");
  Add(app, "copy-rate", options.copy_rate, "Bytes per second that each target sends to bring other copies up to date (suffixes k, m, g); 0: no bound")
      ->transform(CLI::AsSizeValue(false));
  Add(app, "scrub-rate", options.scrub_rate, "Bytes per second that each target reads to find damage (suffixes k, m, g); 0: only in rounds that are asked for")
      ->transform(CLI::AsSizeValue(false));
  Add(app, "scrub-interval", options.scrub_interval, "Seconds from the end of one such round to the next (suffixes m, h, d)")
      ->transform(CLI::AsNumberWithUnit(std::map<std::string, int64_t>{{"s", 1}, {"m", 60}, {"h", 3'600}, {"d", 86'400}}));
  app.add_flag("--rebuild-index", options.rebuild_index, "Make the index anew from the segments");
  Add(app, "fault", options.fault, "Fault points for tests, for example store.write_error=once");
  Add(app, "fault-delay-ms", options.fault_delay_ms, "How late service.delay_answer makes an answer");
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
  for (size_t i = 0; i < options.directories.size(); ++i) {
    const std::string& directory = options.directories[i];
    if (directory.empty()) return refuse("--dir is empty");
    const auto end = options.directories.begin() + static_cast<ptrdiff_t>(i);
    if (std::find(options.directories.begin(), end, directory) != end) return refuse("--dir " + directory + " is given twice");
  }
  if (options.directories.size() > kDirectoriesMax) return refuse("there are more than 64 --dir");
  if (options.listen.find(':') == std::string::npos) return refuse("--listen " + options.listen + " is not HOST:PORT");
  if (!options.advertise.empty() && options.advertise.find(':') == std::string::npos) return refuse("--advertise " + options.advertise + " is not HOST:PORT");
  if (options.meta.find(':') == std::string::npos) return refuse("--meta " + options.meta + " is not HOST:PORT[,HOST:PORT...]");
  if (options.target_class != "durable" && options.target_class != "elastic") return refuse("--class " + options.target_class + " is neither durable nor elastic");
  if (options.elastic_bytes != 0 && options.target_class != "elastic") return refuse("--elastic-bytes is for --class elastic");
  if (options.elastic_bytes != 0 && options.elastic_bytes < kElasticBytesMin) return refuse("--elastic-bytes is below 16 MiB");
  if (options.cache_bytes < kCacheBytesMin) return refuse("--cache-bytes is below 8 MiB");
  if (options.loop_threads == 0 || options.loop_threads > kLoopThreadsMax) return refuse("--loop-threads is not from 1 to 64");
  if (options.scrub_interval < 1) return refuse("--scrub-interval is below one second");
  if (options.disk_reads != "auto" && options.disk_reads != "threads") return refuse("--disk-reads is neither auto nor threads");
  if (!options.fault.empty() && !options.allow_faults) return refuse("--fault is for tests: it needs --allow-faults");
  return Status::Ok();
}

}  // namespace tarn::chunk
