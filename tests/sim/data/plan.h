// What a run of the simulator of data replication does, drawn from its seed.
//
// The fault model in prose. Messages between targets, clients and the metadata leader are late by a long tail, overtake each other, are lost
// or come twice, each with the run's own probability. Pairs of nodes are cut off from each other for a while, in one direction or both.
// Processes crash at any event and lose what was not durable, all of it or from some change on; or shut down cleanly; and start again after
// a while, sometimes longer than their lease. The metadata leader is one that never forgets, but for a while may answer nobody, and then treats
// every target as having just renewed. It moves members and primaries about. Sessions are fenced, and clients die with a write under way, sometimes together
// with the primary that has it. Clocks run at rates that differ by as much as leases allow for (2 %). Disks are full for a while, down to the
// reserve or to the brim. A block of one copy of a chunk is damaged: it does not fit its sum, or cannot be read. Chunks are cut.
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

// Bugs that sit in the simulator's wrappers around the engine, never in the engine.
enum class Plant {
  kNone,
  kGrantWaitTooShort,      // a member believes its read grant to last longer than its primary does: as if nobody waited after a removal
  kNoReconcile,            // members list nothing when a new primary asks
  kPromoteWithoutCommit,   // a syncing member's commit is answered before it has synced
  kIgnoreBase,             // a member lays every change on whatever it has
  kNoLease,                // a target believes that its lease never ends
  kPromoteEarly,           // the leader takes a syncing member in before it is reported as equal
  kNoSequences,            // writes carry no sequence: a late copy is applied again
  kAcknowledgeEarly,       // a member acknowledges what never reached it
  kForgetWindows,          // a syncing member takes no session windows at the end
  kSendAgainAsNew,         // clients do not say that what they send again was acknowledged before
};
inline constexpr Plant kPlants[] = {Plant::kGrantWaitTooShort, Plant::kNoReconcile, Plant::kPromoteWithoutCommit, Plant::kIgnoreBase,
                                    Plant::kNoLease, Plant::kPromoteEarly, Plant::kNoSequences, Plant::kAcknowledgeEarly, Plant::kForgetWindows,
                                    Plant::kSendAgainAsNew};
std::string_view PlantName(Plant plant);

struct Plan {
  uint64_t seed = 1;
  Plant plant = Plant::kNone;
  uint32_t targets = 3;
  uint32_t groups = 1;
  uint32_t replicas = 2;
  uint32_t clients = 3;
  uint32_t readers = 1;      // clients that only read, each from one member of one group as long as that answers
  uint32_t chunks = 3;       // of each group
  int64_t think_ms = 60;     // of a client's worker between two operations
  int64_t faulty_ns = 0;     // faults happen for so long, then the cluster has to come to rest
  // Probabilities, each message.
  double lost = 0;
  double twice = 0;
  double very_late = 0;
  int64_t late_ms_max = 3'000;
  // Means between events of a kind; 0: none.
  int64_t crash_every_ms = 0;
  int64_t clean_restart_every_ms = 0;
  int64_t cut_every_ms = 0;
  int64_t move_every_ms = 0;
  int64_t fence_every_ms = 0;
  int64_t outage_every_ms = 0;
  int64_t lonely_every_ms = 0;    // a member reaches clients only, for longer than a lease
  int64_t accident_every_ms = 0;  // a client dies, and the primary that has its write
  int64_t full_every_ms = 0;
  int64_t damage_every_ms = 0;
  double cuts = 0;           // of chunks; of the writes
  bool lazy_acks = false;    // clients do not say which of their writes are done
  double reads = 0.5;        // of the clients' operations
  double durable = 0.2;      // of the writes
  bool sharing = false;      // one cell of each chunk is written by all clients
};

Plan DrawPlan(uint64_t seed);
std::string Describe(const Plan& plan);

}  // namespace tarn::sim_data
