// tarn-chunkserver: the composition root.
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "chunkserver/options.h"
#include "chunkserver/service/chunk_server.h"
#include "chunkserver/service/delayed_responder.h"
#include "chunkserver/service/peer_service.h"
#include "chunkserver/store/segment_log.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/fault/fault_points.h"
#include "common/obs/logging.h"

namespace {

constexpr std::array kFaultNames = {tarn::store::kFaultSkipSync,  tarn::store::kFaultSyncError,       tarn::store::kFaultWriteError,
                                    tarn::store::kFaultReadError, tarn::store::kFaultCrashAfterData,  tarn::chunk::kFaultDelayAnswer,
                                    tarn::chunk::kFaultDropReplicateAck, tarn::chunk::kFaultForgetFirstChange, tarn::chunk::kFaultForgetLaterChange};

int Complain(const tarn::Status& status) {
  std::fprintf(stderr, "tarn-chunkserver: %s\n", status.message().c_str());
  return 1;
}

// Nothing is waited for: what was acknowledged as durable is, and the rest the clients send again.
void EndAfterFailure(const tarn::Status& status) {
  spdlog::error("the server stops: {}", status.ToString());
  Complain(status);
  _exit(1);
}

bool IsLoopback(const std::string& address) {
  return address.starts_with("127.") || address.starts_with("localhost:") || address.starts_with("[::1]:") || address.starts_with("unix:");
}

std::string HostName() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

std::vector<std::string> SplitList(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream words(text);
  for (std::string part; std::getline(words, part, ',');) {
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

std::string JoinList(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ",") + part;
  return text;
}

// Every connection and segment is a descriptor.
void RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

tarn::Status Run(const tarn::chunk::Options& options) {
  RETURN_IF_ERROR(tarn::chunk::ValidateOptions(options));
  RETURN_IF_ERROR(tarn::obs::SetUpLogging({.program = "tarn-chunkserver", .level = options.log_level, .file = options.log_file}));
  ASSIGN_OR_RETURN(const auto faults, tarn::fault::FaultPoints::Parse(options.fault, kFaultNames));
  RaiseDescriptorLimit();
  // Before the first thread, so that all of them inherit it and the signals come to sigwait.
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  sigprocmask(SIG_BLOCK, &ends, nullptr);
  signal(SIGPIPE, SIG_IGN);

  tarn::SystemClock clock;
  tarn::SystemRandom random;
  tarn::chunk::ChunkServerOptions server_options;
  server_options.targets.directories = options.directories;
  server_options.targets.elastic = options.target_class == "elastic";
  server_options.targets.elastic_bytes = options.elastic_bytes;
  server_options.targets.store.reserve_bytes = options.reserve_bytes;
  server_options.targets.store.cache_bytes = options.cache_bytes;
  server_options.targets.store.scrub_bytes_per_second = options.scrub_rate;
  server_options.targets.store.scrub_interval_ms = options.scrub_interval * 1'000;
  server_options.targets.store.rebuild_index = options.rebuild_index;
  server_options.listen = options.listen;
  server_options.advertise = options.advertise;
  server_options.metaservers = SplitList(options.meta);
  server_options.node = options.node.empty() ? HostName() : options.node;
  server_options.zone = options.zone;
  server_options.loop_threads = options.loop_threads;
  server_options.may_use_io_uring = options.disk_reads == "auto";
  server_options.replication.copy_bytes_per_second = options.copy_rate;
  server_options.fault_delay_ms = options.fault_delay_ms;
  server_options.software_version = TARN_VERSION;
  server_options.on_failure = EndAfterFailure;
  spdlog::info("starts version={} class={} dir={} listen={} meta={} node={} zone={} cache_mib={}", TARN_VERSION, options.target_class, JoinList(options.directories), options.listen, options.meta,
               server_options.node, options.zone, options.cache_bytes >> 20);
  if (!IsLoopback(options.listen)) spdlog::warn("connections are not authenticated, and --listen {} is not loopback", options.listen);
  if (faults->armed()) spdlog::warn("fault points are armed: {}", options.fault);
  ASSIGN_OR_RETURN(auto server, tarn::chunk::ChunkServer::Start(server_options, {.random = &random, .clock = &clock, .faults = faults.get(), .open_segments = {}}));
  spdlog::info("serves address={}", server->address());

  int received = 0;
  sigwait(&ends, &received);
  spdlog::info("stops signal={}", received);
  const tarn::Status status = server->Stop();
  server.reset();
  spdlog::info("stopped");
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  const tarn::chunk::ParsedOptions parsed = tarn::chunk::ParseOptions(argc, argv);
  if (parsed.exit_code) return *parsed.exit_code;
  const tarn::Status status = Run(parsed.options);
  return status.ok() ? 0 : Complain(status);
}
