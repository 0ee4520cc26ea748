// Room that the log leaves on its disk, so that a full disk is noticed before a write fails half-way. The state, and on small clusters the data,
// are on the same disk.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/status.h"

namespace tarn::meta {

// Free bytes of a disk below which something is no longer done.
struct DiskLimits {
  uint64_t growth = 0;  // nothing that makes the state grow: what frees space goes on
  uint64_t member = 0;  // a member of several falls silent: the others go on
  uint64_t alone = 0;   // and one that has nobody to leave the work to
};

// `reserve_bytes` is the limit `member`; 0: 64 MiB, less on a disk smaller than 2 GiB.
DiskLimits DiskLimitsFor(uint64_t capacity_bytes, uint64_t reserve_bytes);

// Of the disk that the directory is on. Does not block.
class DiskReserve {
 public:
  DiskReserve(std::string directory, uint64_t reserve_bytes) : directory_(std::move(directory)), reserve_bytes_(reserve_bytes) {}

  // kNoSpace, naming the directory, if a member has to stop. Ok if the disk cannot be asked.
  Status Check(bool alone) const;
  bool AllowsGrowth() const;

 private:
  const std::string directory_;
  const uint64_t reserve_bytes_;
};

}  // namespace tarn::meta
