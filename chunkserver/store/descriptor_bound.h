// Keeps the number of open segment files within a bound: the least recently used ones are closed and opened again when they are needed.
//
// A descriptor is taken from a file only when no record will be added to that file and all of it is synced, and closed only when every
// reader that may have got it has given back its lease (ReadLeases). Approximates LRU by asking each file whether it was used since last asked.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <vector>

#include "chunkserver/store/read_leases.h"
#include "chunkserver/store/segment_log.h"
#include "chunkserver/store/segment_table.h"
#include "common/base/unique_fd.h"

namespace tarn::store {

// One thread at a time: the one that punches holes (the maintenance thread), since only readers hold leases.
class DescriptorBound {
 public:
  // All outlive it.
  DescriptorBound(size_t descriptors_max, SegmentTable* segments, SegmentLog* log, ReadLeases* leases)
      : descriptors_max_(descriptors_max), segments_(segments), log_(log), leases_(leases) {}

  // Never waits for readers: what they may still use is closed by a later call.
  void Run();

 private:
  struct Leaving {
    std::vector<UniqueFd> descriptors;
    ReadLeases::Barrier readers;
  };

  const size_t descriptors_max_;
  SegmentTable* const segments_;
  SegmentLog* const log_;
  ReadLeases* const leases_;
  std::deque<Leaving> leaving_;
};

}  // namespace tarn::store
