// The leader's memory of the chunk servers: when each target was last heard of, and its usage. Neither is replicated.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "proto/cluster.pb.h"

namespace tarn::meta {

class ServerRegistry {
 public:
  // A target that was not heard of for `lease_ms` is offline.
  ServerRegistry(Clock* clock, int64_t lease_ms) : clock_(clock), lease_ns_(lease_ms * 1'000'000) {}
  ServerRegistry(const ServerRegistry&) = delete;
  ServerRegistry& operator=(const ServerRegistry&) = delete;

  // A new leader gives every target one lease to be heard of.
  void Reset(const proto::ClusterMap& map);
  void RecordRegistration(const std::vector<TargetId>& targets, const proto::RegisterServerRequest& request);
  // kUnknownSession, so that the server registers again: it or one of its targets is not in `map`; kWrongIncarnation:
  // it restarted since.
  Status RecordHeartbeat(const proto::ClusterMap& map, const proto::HeartbeatRequest& request);

  // Puts the present usage into a copy of the map.
  void FillUsage(proto::ClusterMap* map) const;
  // What of the map's states is not so any more: updates for UpdateTargetsOp.
  std::vector<proto::Target> StateChanges(const proto::ClusterMap& map) const;
  // 0: none since Reset.
  int64_t last_registration_ns() const;
  int64_t lease_ms() const { return lease_ns_ / 1'000'000; }

 private:
  struct Entry {
    int64_t heard_ns = 0;
    bool heard_in_person = false;  // not only given a lease by Reset
    proto::TargetReport usage;
  };

  Clock* const clock_;
  const int64_t lease_ns_;
  mutable Mutex mutex_;
  std::unordered_map<TargetId, Entry> targets_ GUARDED_BY(mutex_);
  int64_t reset_ns_ GUARDED_BY(mutex_) = 0;
  int64_t last_registration_ns_ GUARDED_BY(mutex_) = 0;
};

}  // namespace tarn::meta
