#include "chunkserver/elastic/unit_log.h"

#include <fcntl.h>
#include <stdlib.h>

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/base/posix_io.h"
#include "common/checksum/block_sums.h"

namespace tarn::elastic {
namespace {

constexpr uint64_t kPageBytes = 4096;
// A segment is an eighth of the budget, so that what goes at once is little of it; large enough to be worth a file.
constexpr uint64_t kSegmentsMin = 8;

constexpr uint64_t RoundUp(uint64_t bytes) { return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes; }

uint64_t SegmentBytes(uint64_t budget_bytes) { return std::min(UnitLog::kSegmentBytesMax, budget_bytes / kSegmentsMin / kPageBytes * kPageBytes); }

std::span<const uint8_t> BytesOf(std::string_view text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

}  // namespace

UnitLog::UnitLog(std::string directory, uint64_t budget_bytes)
    : directory_(std::move(directory)), budget_bytes_(budget_bytes), segment_bytes_(SegmentBytes(budget_bytes)) {}

Result<std::unique_ptr<UnitLog>> UnitLog::Open(const std::string& directory, uint64_t budget_bytes) {
  CHECK(budget_bytes >= kBudgetBytesMin, "a budget that holds some segments");
  std::unique_ptr<UnitLog> log(new UnitLog(directory, budget_bytes));
  ASSIGN_OR_RETURN(SegmentPtr first, log->MakeSegment());
  MutexLock lock(log->mutex_);
  log->segments_.push_back(std::move(first));
  return log;
}

Result<SegmentPtr> UnitLog::MakeSegment() {
  std::string path = directory_ + "/segment.XXXXXX";
  UniqueFd file(mkostemp(path.data(), O_CLOEXEC));
  if (!file.valid()) return Status::FromErrno(errno, "make a segment in " + directory_);
  if (unlink(path.c_str()) != 0) return Status::FromErrno(errno, path);
  return std::make_shared<Segment>(std::move(file), segment_bytes_, open_bytes_);
}

Result<UnitPlace> UnitLog::Reserve(uint64_t record_bytes, std::vector<SegmentPtr>* evicted) {
  MutexLock lock(mutex_);
  SegmentPtr current = segments_.back();
  if (current->used_bytes + record_bytes > current->bytes_max) {
    // One less than fit: what is evicted stays open until what was read of it lately has been written anew.
    const size_t kept_max = budget_bytes_ / segment_bytes_ - 1;
    while (segments_.size() >= kept_max) {
      evicted->push_back(std::move(segments_.front()));
      segments_.pop_front();
    }
    if (*open_bytes_ + segment_bytes_ > budget_bytes_) return Status(StatusCode::kNoSpace, "readers hold what was evicted");
    ASSIGN_OR_RETURN(current, MakeSegment());
    segments_.push_back(current);
  }
  UnitPlace place{.segment = current, .offset = current->used_bytes, .bytes = 0};
  current->used_bytes += record_bytes;
  return place;
}

Result<UnitPlace> UnitLog::Append(std::span<const uint8_t> bytes, std::string_view sums, std::vector<SegmentPtr>* evicted) {
  CHECK(bytes.size() <= kUnitBytes && sums.size() == PieceCount(0, bytes.size()) * kSumBytes, "a unit and its sums");
  ASSIGN_OR_RETURN(UnitPlace place, Reserve(RoundUp(bytes.size()) + RoundUp(sums.size()), evicted));
  place.bytes = static_cast<uint32_t>(bytes.size());
  if (bytes.empty()) return place;
  RETURN_IF_ERROR(PwriteFull(place.segment->file.get(), bytes, place.offset, "write a unit"));
  RETURN_IF_ERROR(PwriteFull(place.segment->file.get(), BytesOf(sums), place.sums_offset(), "write a unit"));
  return place;
}

Status UnitLog::Read(const UnitPlace& place, std::span<uint8_t> bytes, std::string* sums) {
  CHECK(bytes.size() == place.bytes, "room for the unit");
  sums->resize(PieceCount(0, place.bytes) * kSumBytes);
  if (bytes.empty()) return Status::Ok();
  RETURN_IF_ERROR(PreadFull(place.segment->file.get(), bytes, place.offset, "read a unit"));
  return PreadFull(place.segment->file.get(), {reinterpret_cast<uint8_t*>(sums->data()), sums->size()}, place.sums_offset(), "read a unit");
}

}  // namespace tarn::elastic
