// What the leader does by itself, a step at a time: closes expired sessions, notes which targets come and go, plans
// placement groups, removes trees that have lost their name, carries directory sizes upwards.
//
// Every kind of work has at most one command in flight. Step is called on a timer by its owner, from one thread; it
// never blocks.
#pragma once

#include <atomic>
#include <cstdint>
#include <unordered_map>
#include <memory>

#include "metaserver/placement/plan_groups.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "metaserver/service/service_context.h"

namespace tarn::meta {

struct MaintenanceOptions {
  int64_t registration_quiet_ms = 200;  // servers that start together get groups in one plan
  GroupPolicy groups;  // of one copy; those of more have the same
  uint32_t purge_steps = 256;
  int64_t elastic_kept_ms = 600'000;  // an elastic target that is offline for longer leaves the map
  uint32_t propagate_steps = 512;  // directories whose changes one command carries up by a level
};

class Maintenance {
 public:
  // The context outlives the last callback of its proposer, and so does this object.
  Maintenance(ServiceContext* context, const MaintenanceOptions& options) : context_(context), options_(options) {}
  Maintenance(const Maintenance&) = delete;
  Maintenance& operator=(const Maintenance&) = delete;

  // True if there is more work of a kind that goes on in small steps: it should be called again soon.
  bool Step();

 private:
  // In flight until its command is answered.
  using Flag = std::atomic<bool>;

  void CloseExpiredSessions();
  // Chunk servers are to refuse its writes before others may write what it holds.
  void FenceSession(SessionId session);
  // A leader before this one has fenced sessions and not come to closing them: nobody else would, as they are heard of.
  void AdoptFences();
  void CloseFencedSessions();
  void CloseSession(SessionId session);
  void UpdateTargets();
  void PlanPlacement();
  // Nothing waits for what retired targets have not deleted.
  void ForgetRetired();
  void ForgetElastic();
  void PurgeVolumes();
  void PropagateCounters();
  // Submits the leader's own mutation and clears the flag when it is answered.
  void Propose(proto::Mutation mutation, const char* what, Flag* flag);

  ServiceContext* const context_;
  const MaintenanceOptions options_;
  Flag updates_targets_{false};
  Flag plans_{false};
  Flag forgets_{false};
  Flag forgets_elastic_{false};
  Flag purges_{false};
  Flag propagates_{false};
  Mutex mutex_;
  // To be closed when every chunk server has this version of the map.
  std::unordered_map<SessionId, uint64_t> fenced_ GUARDED_BY(mutex_);
  uint64_t planned_map_version_ = 0;  // one thread: the map that needs nothing
  uint64_t adopted_term_ = 0;         // one thread: of the leadership that has looked for fences
};

}  // namespace tarn::meta
