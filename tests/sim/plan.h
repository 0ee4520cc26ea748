// What one run is made of: its seed, which faults come how often, and, for tests of the simulator itself, a planted
// bug.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tarn::sim {

// Bugs that only the simulator can have: they sit in its own parts and in wrappers around ours.
enum class Plant {
  kNone,
  kForgetResult,      // results of mutations are not remembered
  kReadWithoutLease,  // whoever takes itself for the leader answers reads
  kNoSecondLook,      // the lease is not checked again after reading
  kServeTooEarly,     // a new leader serves before an entry of its own term is applied
  kAckUnsynced,       // an append to the log is reported as done before it is on the disk
  kForgetVote,        // a vote is not synced
  kCountWrong,        // after a restart one entry is applied a second time
  kVoteAtOnce,        // a restarted member votes without waiting for an election time-out
  kTrimTooEarly,      // the log is trimmed before the state is durable
  kIgnorePush,        // a client acknowledges one push of ten without forgetting what it names
  kCacheBeyondLease,  // a client believes what it remembers when its lease is over
  kCacheAcrossTerms,  // a client goes on believing what an earlier leader granted
  // Of files and write grants.
  kIgnoreRecall,     // a recall is acknowledged before what is buffered is published
  kForgetSize,       // one commit of five does not say how far the file reaches
  kHideOpen,         // a client does not say which files it has open when it is asked
  kHideWritten,      // a client does not tell a new leader what it has to publish
  kNewLeaderRushes,  // a new leader believes that nobody holds anything from before
  kNoFence,          // chunk servers take writes of fenced sessions
  kClaimFence,       // chunk servers say that they have a map which they do not have yet
  kBelieveLonger,    // a client believes its lease to be longer than it is
};
inline constexpr Plant kPlants[] = {Plant::kForgetResult,  Plant::kReadWithoutLease, Plant::kNoSecondLook,
                                    Plant::kServeTooEarly, Plant::kAckUnsynced,      Plant::kForgetVote,
                                    Plant::kCountWrong,    Plant::kVoteAtOnce,       Plant::kTrimTooEarly,
                                    Plant::kIgnorePush,    Plant::kCacheBeyondLease, Plant::kCacheAcrossTerms,
                                    Plant::kIgnoreRecall,  Plant::kForgetSize,       Plant::kHideOpen,
                                    Plant::kHideWritten,   Plant::kNewLeaderRushes,  Plant::kNoFence,
                                    Plant::kClaimFence,    Plant::kBelieveLonger};
// "forget-result" and so on; "none".
std::string_view PlantName(Plant plant);

// Probabilities are per occasion, intervals are means in simulated nanoseconds (0: never).
struct FaultPlan {
  // Network, per message.
  double lose = 0;
  double repeat = 0;
  double delay = 0;    // far beyond the usual time
  double reorder = 0;  // overtakes earlier ones
  int64_t latency_ns = 0;
  int64_t partition_interval_ns = 0;
  int64_t partition_length_ns = 0;
  // Members.
  int64_t crash_interval_ns = 0;
  double crash_at_write = 0;  // per write to a log, a vote or a state store
  double crash_all = 0;       // a crash takes every member at once
  int64_t restart_delay_ns = 0;
  int64_t pause_interval_ns = 0;
  int64_t pause_length_ns = 0;
  double pause_in_read = 0;  // per read of the state while a request is answered
  int64_t stall_interval_ns = 0;  // of a member's Raft thread alone: requests are answered meanwhile
  int64_t stall_length_ns = 0;
  // Clients that write files, and chunk servers.
  int64_t client_stop_interval_ns = 0;
  int64_t client_stop_length_ns = 0;
  int64_t client_kill_interval_ns = 0;
  int64_t chunk_server_stop_interval_ns = 0;
  // Disks.
  int64_t sync_ns = 0;
  double slow_sync = 0;
  // Clocks: a member's clock runs at up to (1 +- rate) times the true rate.
  double clock_rate = 0;
  double wall_jump = 0;  // per restart
};

struct Plan {
  uint64_t seed = 0;
  Plant plant = Plant::kNone;
  uint32_t members = 3;
  uint32_t clients = 4;
  uint32_t slots = 2;           // operations a client has under way at once
  double probe = 0;             // per operation: it goes to any member first, whoever is said to lead
  uint32_t caching_clients = 0;  // the first so many of them remember what they were granted
  uint32_t file_clients = 0;     // that write files
  uint32_t chunk_servers = 0;    // for these
  int64_t target_lease_ms = 10'000;
  int64_t call_timeout_ns = 0;  // after about that long a client asks again
  int64_t faults_until_ns = 0;  // then everything heals, and the run ends when all is quiet
  uint32_t snapshot_entries = 0;
  int64_t session_lease_ms = 0;
  // The group's members change, and their leader is changed (group_operator.h): `members` are machines then, of which
  // the first begins a group.
  bool group_changes = false;
  uint32_t group_size = 0;  // about so many servers an operator wants
  int64_t operate_interval_ns = 0;
  FaultPlan faults;
};

// Adds changes of the group to a seed's plan.
void DrawGroupChanges(Plan* plan);
// Draws the plan of a seed: which kinds of faults are armed at all, and each one's rate.
Plan DrawPlan(uint64_t seed);
// One line.
std::string Describe(const Plan& plan);

}  // namespace tarn::sim
