// tarn-metaserver: the composition root.
#include <malloc.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/posix_io.h"
#include "common/base/random.h"
#include "common/fault/fault_points.h"
#include "common/obs/logging.h"
#include "metaserver/options.h"
#include "metaserver/service/memory_budget.h"
#include "metaserver/service/metadata_server.h"
#include "metaserver/service/reply_faults.h"
#include "metaserver/service/restore.h"

namespace {

// Each arena keeps memory of its own: few of them keep resident memory near what is in use.
constexpr int kMallocArenasMax = 2;

uint64_t MemoryLimit(const tarn::meta::Options& options) {
  if (options.memory_limit_bytes != 0) return options.memory_limit_bytes;
  const uint64_t machine_bytes =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  std::optional<uint64_t> container_bytes;
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    const auto text = tarn::ReadSmallFile(path);
    uint64_t limit = 0;
    if (text.ok() && std::from_chars(text->data(), text->data() + text->size(), limit).ec == std::errc())
      container_bytes = std::min(container_bytes.value_or(limit), limit);
  }
  return tarn::meta::DefaultMemoryLimit(machine_bytes, container_bytes);
}

std::string TimeText(int64_t time_ns) {
  const time_t seconds = time_ns / 1'000'000'000;
  tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  return text;
}

int Complain(const tarn::Status& status) {
  std::fprintf(stderr, "tarn-metaserver: %s\n", status.message().c_str());
  return 1;
}

bool IsLoopback(const std::string& address) {
  return address.starts_with("127.") || address.starts_with("localhost:") || address.starts_with("[::1]:") ||
         address.starts_with("unix:");
}

// Nothing is waited for: what was acknowledged is in the log, and what is in flight must not be answered.
void EndAfterFailure(const tarn::Status& status) {
  spdlog::error("the server stops: {}", status.ToString());
  Complain(status);
  _exit(1);
}

tarn::Status Restore(const tarn::meta::Options& options) {
  tarn::SystemClock clock;
  tarn::SystemRandom random;
  tarn::meta::RestoreOptions restore;
  restore.backup = options.restore;
  restore.directory = options.directory;
  restore.address = options.advertise.empty() ? options.listen : options.advertise;
  restore.incarnation = options.restore_incarnation;
  restore.memory_bytes = tarn::meta::ShareOut(MemoryLimit(options)).store_bytes;
  ASSIGN_OR_RETURN(const auto result, tarn::meta::RestoreBackup(restore, &clock, &random));
  std::printf(
      "restored %s: state of %s UTC, %lu bytes, incarnation %u. Start tarn-metaserver without --restore; dead data "
      "is kept until `tarn meta reclaim on`.\n",
      options.directory.c_str(), TimeText(result.made_ns).c_str(), static_cast<unsigned long>(result.bytes),
      result.incarnation);
  if (!result.noted.ok()) {
    std::printf(
        "Nothing could be noted beside the backup (%s): to restore it once more, give --restore-incarnation %u.\n",
        result.noted.ToString().c_str(), result.incarnation + 1);
  }
  return tarn::Status::Ok();
}

tarn::Status Run(const tarn::meta::Options& options) {
  RETURN_IF_ERROR(tarn::meta::ValidateOptions(options));
  RETURN_IF_ERROR(
      tarn::obs::SetUpLogging({.program = "tarn-metaserver", .level = options.log_level, .file = options.log_file}));
  const std::vector<std::string> fault_names = tarn::meta::ReplyFaults::Names();
  std::vector<tarn::fault::FaultPointName> known_faults;
  for (const std::string& name : fault_names) known_faults.push_back({name});
  ASSIGN_OR_RETURN(const auto faults, tarn::fault::FaultPoints::Parse(options.fault, known_faults));

  if (!options.restore.empty()) return Restore(options);

  // Before the first thread, so that all of them inherit it and the signals come to sigwait.
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  sigprocmask(SIG_BLOCK, &ends, nullptr);
  signal(SIGPIPE, SIG_IGN);
  mallopt(M_ARENA_MAX, kMallocArenasMax);

  tarn::SystemClock clock;
  tarn::SystemRandom random;
  tarn::meta::MetadataServerOptions server_options;
  server_options.directory = options.directory;
  server_options.listen = options.listen;
  server_options.grpc_listen = options.grpc_listen;
  server_options.advertise = options.advertise;
  server_options.join = options.join;
  server_options.replaces_member = options.replaces;
  server_options.election_timeout_ms = options.election_timeout_ms;
  server_options.loop_threads = options.loop_threads;
  server_options.memory_bytes = MemoryLimit(options);
  server_options.session_lease_ms = options.session_lease_ms;
  server_options.target_lease_ms = options.target_lease_ms;
  server_options.reclaim_delay_ms = options.reclaim_delay_ms;
  server_options.replace_delay_ms = options.replace_delay_ms;
  server_options.reconcile_interval_ms = options.reconcile_interval_ms;
  server_options.orphan_quarantine_ms = options.orphan_quarantine_ms;
  server_options.software_version = TARN_VERSION;
  server_options.faults = faults.get();
  server_options.fault_delay_ms = options.fault_delay_ms;
  server_options.on_failure = EndAfterFailure;
  server_options.cancelled = [] {
    // Blocked above, for the sigwait below: a start that takes long looks for itself.
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1;
  };
  spdlog::info(
      "starts version={} dir={} listen={} memory_mib={} loop_threads={} session_lease_ms={} target_lease_ms={} "
      "reclaim_delay_ms={}",
      TARN_VERSION, options.directory, options.listen, server_options.memory_bytes >> 20, options.loop_threads,
      options.session_lease_ms, options.target_lease_ms, options.reclaim_delay_ms);
  if (!IsLoopback(options.listen))
    spdlog::warn("connections are not authenticated, and --listen {} is not loopback", options.listen);
  if (faults->armed()) spdlog::warn("fault points are armed: {}", options.fault);
  auto started = tarn::meta::MetadataServer::Start(server_options, &clock, &random);
  if (!started.ok()) {
    if (!options.log_file.empty()) spdlog::error("cannot start: {}", started.status().ToString());
    return started.status();
  }
  std::unique_ptr<tarn::meta::MetadataServer> server = std::move(*started);
  spdlog::info("serves address={} grpc_address={}", server->address(), server->grpc_address());

  int received = 0;
  sigwait(&ends, &received);
  spdlog::info("stops signal={}", received);
  server.reset();
  spdlog::info("stopped");
  return tarn::Status::Ok();
}

}  // namespace

int main(int argc, char** argv) {
  const tarn::meta::ParsedOptions parsed = tarn::meta::ParseOptions(argc, argv);
  if (parsed.exit_code) return *parsed.exit_code;
  const tarn::Status status = Run(parsed.options);
  return status.ok() ? 0 : Complain(status);
}
