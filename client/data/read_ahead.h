// What to fetch before it is asked for: recognises forward, backward and strided reading of one open file.
//
// A pure decision over the history of the handle. Forward reading starts with the first read at the beginning of the
// file, or with the second of two adjacent reads; the window doubles with each step. Anything unexpected turns it off.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/byte_range.h"

namespace tarn::client {

struct ReadAheadLimits {
  uint64_t window_bytes_min = 256 << 10;
  uint64_t window_bytes_max = 16 << 20;  // 0: never
  uint64_t small_file_bytes = 1 << 20;   // fetched whole when its beginning is read
  uint64_t keep_behind_bytes = 4 << 20;  // reads of one stream may overtake each other by so much
};

// Sequential-access history of one open handle. Thread-compatible: guarded by the inode's data.
struct ReadAheadState {
  enum class Pattern : uint8_t { kNone, kForward, kBackward, kStrided };
  Pattern pattern = Pattern::kNone;
  bool any = false;  // there was a read
  ByteRange last;
  int64_t last_step = 0;         // from the read before to the last one
  uint64_t stream_position = 0;  // forward: the highest end so far; backward: the lowest beginning
  uint64_t window_bytes = 0;
  uint64_t ahead_to =
      0;  // how far was fetched ahead: an end (forward), a beginning (backward), the next record (strided)
};

struct ReadAheadPlan {
  bool use_cache = false;  // otherwise this read fetches just what it needs, for itself
  ByteRange fetch;         // what to fetch for this read: itself, or the whole small file
  std::vector<ByteRange> ahead;
  uint64_t drop_before = 0;  // spans before are not needed any more (0: no such)
};

// `read` is not empty and lies within the file. Updates the history.
ReadAheadPlan PlanRead(ReadAheadState& state, ByteRange read, uint64_t file_size, const ReadAheadLimits& limits);

}  // namespace tarn::client
