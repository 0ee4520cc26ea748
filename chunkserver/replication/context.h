// What the parts of one target's replication share.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "chunkserver/replication/copy_pacer.h"
#include "chunkserver/replication/environment.h"
#include "chunkserver/replication/target_replication.h"
#include "chunkserver/store/replica_store.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"

namespace tarn::replication {

class Replica;

// The newest map as this target needs it. Immutable after construction; readers take no lock.
struct ReplicaTable {
  uint64_t version = 0;
  std::unordered_map<GroupId, Epoch> epochs;  // of all groups
  std::unordered_map<GroupId, std::shared_ptr<Replica>> replicas;
  std::unordered_set<SessionId> fenced;

  std::shared_ptr<Replica> Find(GroupId group) const {
    const auto found = replicas.find(group);
    return found == replicas.end() ? nullptr : found->second;
  }
};

// What confirmations.h keeps.
struct Confirming {
  Mutex mutex;
  int64_t next_look_ns GUARDED_BY(mutex) = 0;  // 0: none is wanted
  uint64_t look_number GUARDED_BY(mutex) = 0;  // of that one
  std::set<TargetId> asked GUARDED_BY(mutex);  // have a request that is not answered
};

// Chunks and ranges, some 100 bytes each, that a target notes after losses of its groups (lost_writes.h).
inline constexpr int64_t kLostWritesNotesMax = 262'144;

// Thread-safe. Shared with every callback under way, so that late ones find it; what it points to outlives them all.
struct Context {
  Context(const ReplicationOptions& the_options, TargetId the_target, store::ReplicaStore* the_store, PeerNetwork* the_network,
          GroupAuthority* the_authority, Executor* the_executor)
      : options(the_options), target(the_target), store(the_store), network(the_network), authority(the_authority), executor(the_executor),
        pacer(the_options.copy_bytes_per_second), next_copy(static_cast<uint64_t>(the_executor->BoottimeNs()) + 1) {}

  const ReplicationOptions options;
  const TargetId target;
  store::ReplicaStore* const store;
  PeerNetwork* const network;
  GroupAuthority* const authority;
  Executor* const executor;
  CopyPacer pacer;

  Confirming confirming;
  std::atomic<int64_t> lost_writes_room{kLostWritesNotesMax};

  std::atomic<bool> stopped{false};
  std::atomic<int64_t> lease_until_ns{0};
  std::atomic<uint64_t> incarnation{0};
  std::atomic<uint64_t> settled_version{0};  // of the map: no change that was admitted under an older one is still being applied
  // Names attempts of copies and rounds of windows. Rises, also over a restart of the process.
  std::atomic<uint64_t> next_copy;
  std::atomic<std::shared_ptr<const ReplicaTable>> table{std::make_shared<const ReplicaTable>()};

  int64_t NowNs() const { return executor->BoottimeNs(); }
  bool HasLease() const { return NowNs() < lease_until_ns.load(std::memory_order_relaxed); }
  uint64_t map_version() const { return table.load()->version; }
};
using ContextPtr = std::shared_ptr<Context>;

inline constexpr int64_t kNsPerMs = 1'000'000;
// Between two attempts to reach a member.
inline constexpr int64_t kRepeatDelayMs = 100;

}  // namespace tarn::replication
