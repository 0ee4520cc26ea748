// How far the moving of groups is (placement/rebalance.h), since it began: for `tarn status`.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "metaserver/placement/rebalance.h"
#include "proto/admin.pb.h"
#include "proto/cluster.pb.h"

namespace tarn::meta {

class RebalanceMeter {
 public:
  RebalanceMeter() = default;
  RebalanceMeter(const RebalanceMeter&) = delete;
  RebalanceMeter& operator=(const RebalanceMeter&) = delete;

  // What is under way and still to come at that time, and what primaries report of their copying.
  void Update(int64_t now_ns, const RebalancePlan& plan, const std::vector<proto::SyncProgress>& syncs);
  // `bytes_per_second`: of copies, of late.
  proto::RebalanceProgress Progress(uint64_t bytes_per_second) const;

 private:
  mutable Mutex mutex_;
  std::map<std::pair<uint32_t, uint64_t>, uint64_t> under_way_ GUARDED_BY(mutex_);  // group and new member: bytes
  uint32_t moves_left_ GUARDED_BY(mutex_) = 0;
  uint32_t moves_done_ GUARDED_BY(mutex_) = 0;
  uint64_t bytes_left_ GUARDED_BY(mutex_) = 0;
  uint64_t bytes_done_ GUARDED_BY(mutex_) = 0;  // of moves that are over
  uint64_t bytes_copied_ GUARDED_BY(mutex_) = 0;  // of those under way
  int64_t began_ns_ GUARDED_BY(mutex_) = 0;
  int64_t updated_ns_ GUARDED_BY(mutex_) = 0;
};

}  // namespace tarn::meta
