// The files of an elastic target: units are written one behind the other into segments; the oldest segment makes room for a
// new one. Nothing is synced, and a segment has no name: what the process leaves behind, however it ends, is an empty
// directory.
//
// A record is a unit's bytes, padded to 4096, and behind them the sums of its blocks, 8 bytes each.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chunkserver/elastic/unit.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace tarn::elastic {

// Its file is gone with the last reference. Immutable but for what is said.
struct Segment {
  Segment(UniqueFd opened, uint64_t size, std::shared_ptr<std::atomic<uint64_t>> all)
      : file(std::move(opened)), bytes_max(size), bytes_of_all(std::move(all)) {
    *bytes_of_all += bytes_max;
  }
  ~Segment() { *bytes_of_all -= bytes_max; }
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  const UniqueFd file;
  const uint64_t bytes_max;
  const std::shared_ptr<std::atomic<uint64_t>> bytes_of_all;  // of all segments that are open; may outlive the log, as this may

  // The log's, under its lock.
  uint64_t used_bytes = 0;
  // The cache's, under its lock.
  std::vector<UnitKey> units;  // that were written here
  bool evicted = false;
};
using SegmentPtr = std::shared_ptr<Segment>;

// Where a unit lies.
struct UnitPlace {
  SegmentPtr segment;
  uint64_t offset = 0;
  uint32_t bytes = 0;  // shorter than a unit: the chunk ends here

  uint64_t sums_offset() const { return offset + (bytes + 4095) / 4096 * 4096; }
};

// Thread-safe.
class UnitLog {
 public:
  static constexpr uint64_t kBudgetBytesMin = 16u << 20;
  static constexpr uint64_t kSegmentBytesMax = 64u << 20;

  // `budget_bytes` >= kBudgetBytesMin: all that is open never takes more. kIoError etc. if no file can be made in the directory.
  static Result<std::unique_ptr<UnitLog>> Open(const std::string& directory, uint64_t budget_bytes);
  UnitLog(const UnitLog&) = delete;
  UnitLog& operator=(const UnitLog&) = delete;

  // Blocks on the disk. `evicted`: segments that make room for it, to be taken out of the index; what is to stay of them is
  // written anew. kNoSpace: readers still hold what was evicted.
  Result<UnitPlace> Append(std::span<const uint8_t> bytes, std::string_view sums, std::vector<SegmentPtr>* evicted);
  static Status Read(const UnitPlace& place, std::span<uint8_t> bytes, std::string* sums);

  uint64_t segment_bytes() const { return segment_bytes_; }
  uint64_t budget_bytes() const { return budget_bytes_; }
  uint64_t open_bytes() const { return *open_bytes_; }

 private:
  UnitLog(std::string directory, uint64_t budget_bytes);
  Result<SegmentPtr> MakeSegment();
  // Room for a record, in the segment that is written now.
  Result<UnitPlace> Reserve(uint64_t record_bytes, std::vector<SegmentPtr>* evicted);

  const std::string directory_;
  const uint64_t budget_bytes_;
  const uint64_t segment_bytes_;
  const std::shared_ptr<std::atomic<uint64_t>> open_bytes_ = std::make_shared<std::atomic<uint64_t>>(0);

  Mutex mutex_;
  std::deque<SegmentPtr> segments_ GUARDED_BY(mutex_);  // the oldest first
};

}  // namespace tarn::elastic
