// What a run of the simulator of data replication does, drawn from its seed.
//
// The fault model in prose. Messages between targets, clients and the metadata leader are late by a long tail, overtake each other, are lost
// or come twice, each with the run's own probability. In some runs the connections of a client stand still for seconds, and in others registrations
// come again and again. Pairs of nodes are cut off from each other for a while, in one direction or both.
// Processes crash at any event and lose what was not durable, all of it or from some change on; or shut down cleanly; and start again after
// a while, sometimes longer than their lease. The metadata leader stands still for seconds, or another one leads, which knows nothing but the
// replicated state; what was on its way to the log is lost from some entry on. Sessions are fenced, and clients die with a write under way,
// sometimes together with the primary that has it. Clocks run at rates that differ by as much as leases allow for (2 %). Disks are full for a
// while, down to the reserve or to the brim. A block of one copy of a chunk is damaged: it does not fit its sum, or cannot be read. Chunks are cut.
//
// The cluster changes: servers are added, on nodes of their own or beside others; nodes are drained, and taken back or left; targets are retired;
// disks are lost for good, with another server and an empty disk in their place; what groups hold changes, so that they are moved.
//
// Where clients share a cell of each chunk, they keep what they wrote there until a commit has covered it, and send it again when the primary
// is another process or another target by then.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tarn::sim_data {

inline constexpr uint32_t kChunksPerGroupMax = 12;
inline constexpr uint32_t kServersMax = 8;  // at a time

// Bugs that sit in the simulator's wrappers around the engine, never in the engine.
enum class Plant {
  kNone,
  kGrantWaitTooShort,      // a member believes its read grant to last longer than its primary does: as if nobody waited after a removal
  kNoReconcile,            // members list nothing when a new primary asks
  kPromoteWithoutCommit,   // a syncing member's commit is answered before it has synced
  kIgnoreBase,             // a member lays every change on whatever it has
  kNoLease,                // a target believes that its lease never ends
  kPromoteEarly,           // the leader takes a syncing member in before it is reported as equal
  kHastyLeader,            // the leader's clock runs three times too fast, so it does not wait for the ends of leases
  kDropDrained,            // a member that drains leaves as soon as its replacement is begun
  kNoProof,                // the leader takes a registration whoever sent it when
  kOneNode,                // the leader takes every server for a node of its own
  kNoSequences,            // writes carry no sequence: a late copy is applied again
  kAcknowledgeEarly,       // a member acknowledges what never reached it
  kForgetWindows,          // a syncing member takes no session windows at the end
  kSendAgainAsNew,         // clients do not say that what they send again was acknowledged before
};
inline constexpr Plant kPlants[] = {Plant::kGrantWaitTooShort, Plant::kNoReconcile, Plant::kPromoteWithoutCommit, Plant::kIgnoreBase,
                                    Plant::kNoLease, Plant::kPromoteEarly, Plant::kHastyLeader, Plant::kDropDrained, Plant::kNoProof, Plant::kOneNode, Plant::kNoSequences, Plant::kAcknowledgeEarly, Plant::kForgetWindows,
                                    Plant::kSendAgainAsNew};
std::string_view PlantName(Plant plant);

struct Plan {
  uint64_t seed = 1;
  Plant plant = Plant::kNone;
  uint32_t targets = 3;      // at the start
  uint32_t nodes = 3;        // that these are on
  uint32_t zones = 1;
  uint32_t groups = 1;       // of `replicas` copies that clients use; there are more
  uint32_t replicas = 2;
  bool single_copies = false;  // clients use a group of one copy as well
  uint32_t clients = 3;
  uint32_t readers = 1;      // clients that only read, each from one member of one group as long as that answers
  uint32_t chunks = 3;       // of each group
  int64_t think_ms = 60;     // of a client's worker between two operations
  int64_t faulty_ns = 0;     // faults happen for so long, then the cluster has to come to rest
  // Probabilities, each message.
  double lost = 0;
  double twice = 0;
  double very_late = 0;
  double clients_late = 0;   // likewise, of those between clients and targets
  uint32_t registration_copies = 0;  // of each registration, over many seconds, whatever has become of the process
  int64_t late_ms_max = 3'000;
  // Means between events of a kind; 0: none.
  int64_t crash_every_ms = 0;
  int64_t clean_restart_every_ms = 0;
  int64_t cut_every_ms = 0;
  int64_t weigh_every_ms = 0;     // what a group holds changes
  int64_t fence_every_ms = 0;
  int64_t outage_every_ms = 0;         // the leader stands still
  int64_t leader_change_every_ms = 0;
  int64_t add_every_ms = 0;
  int64_t drain_every_ms = 0;
  int64_t drain_ms_max = 8'000;   // then a node may be taken back
  int64_t retire_every_ms = 0;
  int64_t destroy_every_ms = 0;
  int64_t lonely_every_ms = 0;    // a member reaches clients only, for longer than a lease
  int64_t accident_every_ms = 0;  // a client dies, and the primary that has its write
  int64_t full_every_ms = 0;
  int64_t stall_every_ms = 0;     // a client's connections stand still for a while, and what it has sent meanwhile comes after what it is told then
  int64_t damage_every_ms = 0;
  // Of the planner.
  int64_t replace_delay_ms = 5'000;
  int64_t move_pause_ms = 1'000;
  double cuts = 0;           // of chunks; of the writes
  bool lazy_acks = false;    // clients do not say which of their writes are done
  double reads = 0.5;        // of the clients' operations
  double durable = 0.2;      // of the writes
  bool sharing = false;      // one cell of each chunk is written by all clients
};

Plan DrawPlan(uint64_t seed);
std::string Describe(const Plan& plan);

}  // namespace tarn::sim_data
