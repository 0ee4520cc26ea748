// The leader's part in the replication of data: collects what is known of targets, plans (placement/plan_replication.h)
// and proposes what becomes of placement groups.
//
// The periodic plan has at most one command in flight; a primary's reports are decided at once, beside it: a command is
// passed over for groups that have changed meanwhile.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "metaserver/placement/plan_replication.h"
#include "metaserver/service/rebalance_meter.h"
#include "metaserver/service/repair_meter.h"
#include "metaserver/service/service_context.h"
#include "proto/admin.pb.h"
#include "proto/cluster.pb.h"

namespace tarn::meta {

// Step is called from one thread and never blocks; the rest is thread-safe.
class ReplicationKeeper {
 public:
  // The context outlives the last callback of its proposer, and so does this object.
  ReplicationKeeper(ServiceContext* context, const ReplicationPolicy& policy) : context_(context), policy_(policy) {}
  ReplicationKeeper(const ReplicationKeeper&) = delete;
  ReplicationKeeper& operator=(const ReplicationKeeper&) = delete;

  void Step();
  // Decides about the reports of a primary's server; `decided` comes when what follows is in the map, or with why it is
  // not: once, at once or on the apply thread, where it must not block. Reports by anybody but the group's primary, or
  // about another epoch than the present one, are passed over.
  void Decide(const proto::ReportGroupsRequest& request, std::function<void(const Status&)> decided);
  // For fsck (copy_repair.h); `group` as it is in the present map. The in-sync member becomes the primary. Waits until that is
  // in the map, or the map has moved on.
  Status HandOver(const proto::PlacementGroup& group, uint64_t to);
  // While the result lives no group moves and no primary changes for the sake of balance.
  std::shared_ptr<void> HoldStill();
  // The in-sync member, not the primary, becomes one that is synced, as if the primary had reported it. kBusy: not possible
  // now, try again.
  Status TakeOut(const proto::PlacementGroup& group, uint64_t target);
  // What is being repaired or moved, how fast of late.
  Result<proto::RepairProgress> Progress() const;
  // Groups that move to where they weigh less.
  proto::RebalanceProgress Rebalancing() const;
  // kNoSpace, saying why: the other targets could not take what is on these.
  Status CheckDrain(const std::vector<uint64_t>& leaving) const;

 private:
  struct EpochSeen {
    uint64_t epoch = 0;
    uint64_t since = 0;  // map version
  };

  // What is known now, for this map; targets whose lease is over stay so as long as the claim lives.
  ReplicationFacts CollectFacts(const proto::ClusterMap& map, std::shared_ptr<LapsedTargets>* claim);
  void Measure(int64_t now_ns, const proto::ClusterMap& map, const ReplicationFacts& facts);

  ServiceContext* const context_;
  const ReplicationPolicy policy_;

  // Step's thread.
  int64_t next_plan_ns_ = 0;
  int64_t next_measure_ns_ = 0;

  std::atomic<bool> in_flight_{false};
  std::atomic<int> holds_{0};
  RepairMeter meter_;
  RebalanceMeter rebalance_meter_;

  Mutex mutex_;
  uint64_t map_version_seen_ GUARDED_BY(mutex_) = 0;
  int64_t unwell_ns_ GUARDED_BY(mutex_) = 0;  // when anything was missing last
  std::unordered_map<uint32_t, EpochSeen> epochs_ GUARDED_BY(mutex_);
};

}  // namespace tarn::meta
