// One metadata server, put together: directory, state, log, services, listening sockets. What main runs, and what tests
// run in their own process.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "common/fault/fault_points.h"

namespace tarn::meta {

struct MetadataServerOptions {
  std::string directory;
  std::string listen = "127.0.0.1:7400";  // lean frames
  std::string grpc_listen;                // empty: a free port on the host of `listen`
  std::string advertise;                  // HOST:PORT by which others reach `listen`; empty: its own address
  // Lean frames of members of a group: an empty directory joins it; then, optionally, in the place of another member.
  // Without: an empty directory makes a new cluster.
  std::vector<std::string> join;
  uint64_t replaces_member = 0;
  int64_t join_timeout_ms = 60'000;
  // How long the members wait for a silent leader, at least; fail-over takes two to three times as long.
  uint32_t election_timeout_ms = 400;
  uint32_t snapshot_entries_max = 16'384;  // of the log; small ones are for tests
  uint32_t loop_threads = 1;
  uint64_t memory_bytes = uint64_t{512} << 20;  // resident memory stays below (memory_budget.h)
  int64_t session_lease_ms = 5'000;  // of what a session caches; it is closed after six of them
  int64_t target_lease_ms = 2'500;   // docs/replication.md, "Leases"; there are five heartbeats in it
  int64_t former_target_lease_ms = 5'000;  // no leader before this one has told a longer one
  int64_t reclaim_delay_ms = 300'000;
  int64_t replace_delay_ms = 300'000;  // a silent target's copies are made elsewhere after that
  int64_t reconcile_interval_ms = 86'400'000;  // data ids of targets are compared with the metadata
  int64_t orphan_quarantine_ms = 86'400'000;   // of data that nobody knows
  std::string software_version = "0";
  fault::FaultPoints* faults = nullptr;  // null: none; outlives the server
  int64_t fault_delay_ms = 1'000;        // fault_names.h
  // Any thread, once: the log or the state failed. The process must end without waiting for anything.
  std::function<void(const Status&)> on_failure;
  // Any thread: Start is to give up (kCancelled). Null: never.
  std::function<bool()> cancelled;
};

// Thread-safe.
class MetadataServer {
 public:
  // With an empty directory makes a cluster or joins one, else goes on as the member that the directory belongs to,
  // whatever `join` says. Listens when it returns; whether it leads already is another matter (milliseconds in a group
  // of one, unless much of the log has to be applied again). kBusy: directory or port are taken; kCorruption: damage,
  // naming the file; kUnavailable: no group took it in. Clock and random outlive it.
  static Result<std::unique_ptr<MetadataServer>> Start(const MetadataServerOptions& options, Clock* clock,
                                                       Random* random);

  // Hands over leadership, stops listening, finishes what is in the log, makes the state durable.
  virtual ~MetadataServer() = default;

  virtual const std::string& address() const = 0;
  virtual const std::string& grpc_address() const = 0;
  virtual const std::string& cluster_id() const = 0;
  virtual bool leads() const = 0;
};

}  // namespace tarn::meta
