// The segments of a target, by number.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "chunkserver/store/format.h"
#include "chunkserver/store/segment_file.h"
#include "common/base/mutex.h"
#include "common/base/status.h"

namespace tarn::store {

// Immutable; the file is thread-safe.
struct Segment {
  SegmentNumber number;
  uint64_t generation = 0;
  uint32_t blocks = 0;  // preallocated
  std::unique_ptr<SegmentFile> file;
};

// Thread-safe.
class SegmentTable {
 public:
  void Insert(std::shared_ptr<Segment> segment);
  void Erase(SegmentNumber number);
  std::shared_ptr<Segment> Find(SegmentNumber number) const;
  // For readers that hold a read lease: the segment lives as long as that. nullptr: no such segment.
  Segment* FindLeased(SegmentNumber number) const;
  std::vector<std::shared_ptr<Segment>> All() const;

 private:
  mutable Mutex mutex_;
  std::unordered_map<SegmentNumber, std::shared_ptr<Segment>> segments_ GUARDED_BY(mutex_);
};

// Makes the file, writes its header and waits until both are durable. Nothing is left behind on failure.
Result<std::shared_ptr<Segment>> CreateSegment(SegmentDirectory* directory, const SegmentHeader& header);
// kCorruption, naming the file, if the header is damaged or belongs to another target.
Result<std::shared_ptr<Segment>> OpenSegment(SegmentDirectory* directory, SegmentNumber number, std::span<const uint8_t, 16> target_uuid);

}  // namespace tarn::store
