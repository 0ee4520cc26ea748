// The leader's memory of the chunk servers: when each target was last heard of, which map it has, and its usage. None of
// it is replicated.
//
// Whoever decides that a target's lease is over must not see it renewed before the decision is in the log: so it claims
// such targets, and while they are claimed their heartbeats renew nothing (docs/replication.md "Leases").
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "metaserver/placement/cluster_view.h"
#include "proto/admin.pb.h"
#include "proto/cluster.pb.h"

namespace tarn::meta {

class ServerRegistry;

// No metadata server of any version, with any options, tells a longer lease.
inline constexpr int64_t kTargetLeaseMsMax = 5'000;

// Targets whose lease is over stay without one as long as this lives.
class LapsedTargets {
 public:
  LapsedTargets(ServerRegistry* registry, uint64_t leadership, std::vector<TargetId> targets)
      : registry_(registry), leadership_(leadership), targets_(std::move(targets)) {}
  ~LapsedTargets();
  LapsedTargets(const LapsedTargets&) = delete;
  LapsedTargets& operator=(const LapsedTargets&) = delete;

 private:
  ServerRegistry* const registry_;
  const uint64_t leadership_;
  const std::vector<TargetId> targets_;
};

class ServerRegistry {
 public:
  // A target that was not heard of for `lease_ms`, and a margin for clocks that drift, is offline. But not before whatever an earlier leader
  // told is over: at most `former_lease_ms`.
  ServerRegistry(Clock* clock, int64_t lease_ms, int64_t former_lease_ms = kTargetLeaseMsMax)
      : clock_(clock), lease_ns_(lease_ms * 1'000'000), former_lease_ns_(former_lease_ms * 1'000'000) {}
  ServerRegistry(const ServerRegistry&) = delete;
  ServerRegistry& operator=(const ServerRegistry&) = delete;

  // A new leader gives every target one lease to be heard of.
  void Reset(const proto::ClusterMap& map);
  // The lease to tell the server, in ms; 0: it gets none now.
  uint32_t RecordRegistration(const std::vector<TargetId>& targets, const proto::RegisterServerRequest& request);
  // kUnknownSession, so that the server registers again: it or one of its targets is not in `map`; kWrongIncarnation:
  // it restarted since. Else the lease to tell the server, in ms; 0: it gets none now.
  Result<uint32_t> RecordHeartbeat(const proto::ClusterMap& map, const proto::HeartbeatRequest& request);

  // Puts the present usage into a copy of the map.
  void FillUsage(proto::ClusterMap* map) const;
  // What is known of each target.
  std::unordered_map<uint64_t, TargetFacts> Facts() const;
  // The same. Those whose lease is over are claimed for as long as `claim` lives.
  std::unordered_map<uint64_t, TargetFacts> Facts(std::shared_ptr<LapsedTargets>* claim);
  // Every server of the map has this version, or serves nothing: its targets have no lease, and none of them is the only in-sync member of a group
  // of the map, which serves without one.
  bool AllKnow(const proto::ClusterMap& map, uint64_t version) const;
  // What the target's server told last; empty if it is not known.
  proto::TargetReport LastReport(TargetId target) const;
  // What primaries are copying, as they told last.
  std::vector<proto::SyncProgress> Syncs() const;
  // What one copy of a group holds, as measured on some member.
  std::unordered_map<uint32_t, uint64_t> GroupBytes() const;
  // The sums of the map's targets, and how fast their file systems got space back of late.
  void FillSpace(const proto::ClusterMap& map, proto::SpaceProgress* space) const;
  // The target's server is told to begin a round with its next heartbeat.
  void WantScrub(TargetId target);
  // Whether one of these is wanted; they are told now.
  bool TakeWantedScrub(const proto::HeartbeatRequest& request);
  // What of the map's states is not so any more: updates for UpdateTargetsOp.
  std::vector<proto::Target> StateChanges(const proto::ClusterMap& map) const;
  // When the next of the leases that run now ends if it is not renewed; INT64_MAX if none runs.
  int64_t NextLeaseEndNs() const;
  // 0: none since Reset.
  int64_t last_registration_ns() const;
  // The last registration or, if there was none since, Reset.
  int64_t quiet_since_ns() const;
  int64_t lease_ms() const { return lease_ns_ / 1'000'000; }

 private:
  friend class LapsedTargets;
  struct Entry {
    int64_t heard_ns = 0;
    uint64_t map_version = 0;
    uint32_t claims = 0;
    bool wants_scrub = false;
    bool heard_in_person = false;  // not only given a lease by Reset
    proto::TargetReport usage;
    // An earlier report, to tell a rate from.
    int64_t reclaimed_since_ns = 0;
    uint64_t reclaimed_before_bytes = 0;
    double reclaimed_bytes_per_second = 0;
  };

  static void MeasureReclaim(Entry* entry, const proto::TargetReport& report, int64_t now_ns);

  void Release(uint64_t leadership, const std::vector<TargetId>& targets);
  TargetFacts FactsOf(const Entry& entry, int64_t now_ns) const REQUIRES(mutex_);
  int64_t LeaseEndNs(const Entry& entry) const REQUIRES(mutex_);  // it still has it then
  bool HasLease(const Entry& entry, int64_t now_ns) const REQUIRES(mutex_);

  Clock* const clock_;
  const int64_t lease_ns_;
  const int64_t former_lease_ns_;
  mutable Mutex mutex_;
  std::unordered_map<TargetId, Entry> targets_ GUARDED_BY(mutex_);
  uint64_t leadership_ GUARDED_BY(mutex_) = 0;  // counts calls of Reset
  int64_t reset_ns_ GUARDED_BY(mutex_) = 0;
  int64_t last_registration_ns_ GUARDED_BY(mutex_) = 0;
};

}  // namespace tarn::meta
