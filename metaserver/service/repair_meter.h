// How fast copies are made, from what the primaries report with their heartbeats.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "common/base/mutex.h"
#include "proto/admin.pb.h"
#include "proto/cluster.pb.h"

namespace tarn::meta {

class RepairMeter {
 public:
  RepairMeter() = default;
  RepairMeter(const RepairMeter&) = delete;
  RepairMeter& operator=(const RepairMeter&) = delete;

  // What is being copied at that time; called from time to time.
  void Update(int64_t now_ns, const std::vector<proto::SyncProgress>& syncs);
  // Bytes per second of late, and when what is known to be left would be done at that rate.
  void FillRate(proto::RepairProgress* repair) const;

 private:
  struct Step {
    int64_t at_ns = 0;
    uint64_t bytes = 0;  // done since the step before
  };

  mutable Mutex mutex_;
  std::map<std::pair<uint32_t, uint64_t>, uint64_t> done_ GUARDED_BY(mutex_);  // by group and target
  std::deque<Step> steps_ GUARDED_BY(mutex_);
};

}  // namespace tarn::meta
