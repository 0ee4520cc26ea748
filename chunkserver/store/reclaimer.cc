#include "chunkserver/store/reclaimer.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace tarn::store {
namespace {

std::vector<DeadRange> JoinRanges(const std::vector<NamedDeadSpace>& dead) {
  std::vector<DeadRange> ranges;
  for (const NamedDeadSpace& named : dead) ranges.insert(ranges.end(), named.space.ranges.begin(), named.space.ranges.end());
  std::sort(ranges.begin(), ranges.end());
  size_t joined = 0;
  for (const DeadRange& range : ranges) {
    if (joined > 0) {
      DeadRange& last = ranges[joined - 1];
      const uint64_t end = uint64_t{last.first_block} + last.block_count;
      if (last.segment == range.segment && range.first_block <= end) {
        const uint64_t new_end = std::max(end, uint64_t{range.first_block} + range.block_count);
        last.block_count = static_cast<uint32_t>(new_end - last.first_block);
        continue;
      }
    }
    ranges[joined++] = range;
  }
  ranges.resize(joined);
  return ranges;
}

}  // namespace

void Reclaimer::CheckpointIsDurable(RecordSequence through, const std::vector<NamedDeadSpace>& dead, std::vector<Tombstone> tombstones) {
  durable_checkpoint_ = through;
  RemoveForgottenSegments();
  owed_ = Owed{};
  if (dead.empty() && tombstones.empty()) return;
  FreeBatch batch{.keys = {},
                  .tombstones = std::move(tombstones),
                  .killed_through = {},
                  .readers = leases_->MakeBarrier(),
                  .holes = JoinRanges(dead)};
  for (const NamedDeadSpace& named : dead) {
    batch.keys.push_back(named.key);
    batch.killed_through = std::max(batch.killed_through, named.space.killed_by);
  }
  holes_waiting_ += batch.holes.size();
  batches_.push_back(std::move(batch));
}

void Reclaimer::RemoveForgottenSegments() {
  for (const SegmentNumber number : owed_.forgotten_segments) {
    segments_->Erase(number);
    if (Status removed = directory_->Remove(number); !removed.ok()) {
      spdlog::warn("an empty segment stays on the disk error=\"{}\"", removed.message());
      continue;
    }
    metrics_->segments_removed.fetch_add(1, std::memory_order_relaxed);
  }
}

bool Reclaimer::MustHurry() const {
  if (holes_waiting_ > kHolesWaitingMax) return true;
  const Result<FileSystemSpace> space = directory_->Space();
  return !space.ok() || space->available_bytes < space->capacity_bytes / kShareFreeMin;
}

Status Reclaimer::Run(size_t holes_max) {
  if (holes_waiting_ > holes_max && MustHurry()) holes_max = SIZE_MAX;
  // One after another and each durable before the next: a batch may hold what killed the space of an earlier one.
  while (!batches_.empty()) {
    FreeBatch& batch = batches_.front();
    if (batch.killed_through > durable_checkpoint_ || !batch.readers.passed()) break;
    ASSIGN_OR_RETURN(const bool freed, Free(batch, &holes_max));
    if (!freed) break;
    owed_.forgotten_keys.insert(owed_.forgotten_keys.end(), batch.keys.begin(), batch.keys.end());
    for (const Tombstone& tombstone : batch.tombstones) {
      owed_.forgotten_tombstones.push_back(tombstone);
      owed_.new_dead.push_back(tombstone.record);
    }
    batches_.pop_front();
  }
  return FindEmptySegments();
}

Result<bool> Reclaimer::Free(FreeBatch& batch, size_t* holes_left) {
  while (batch.punched < batch.holes.size()) {
    if (*holes_left == 0) return false;
    const DeadRange& range = batch.holes[batch.punched];
    // None: named before a crash and removed since.
    if (const std::shared_ptr<Segment> segment = segments_->Find(range.segment)) {
      RETURN_IF_ERROR(segment->file->PunchHole(uint64_t{range.first_block} * kBlockBytes, uint64_t{range.block_count} * kBlockBytes));
      metrics_->blocks_punched.fetch_add(range.block_count, std::memory_order_relaxed);
      --*holes_left;
    }
    ++batch.punched;
    --holes_waiting_;
  }
  std::set<SegmentNumber> touched;
  for (const DeadRange& range : batch.holes) touched.insert(range.segment);
  bool sync = false;
  for (const SegmentNumber number : touched) {
    const std::shared_ptr<Segment> segment = segments_->Find(number);
    if (segment == nullptr) continue;
    log_->SyncNext(segment);
    candidates_.insert(number);
    sync = true;
  }
  if (sync) RETURN_IF_ERROR(committer_->Commit());
  return true;
}

Status Reclaimer::FindEmptySegments() {
  for (auto it = candidates_.begin(); it != candidates_.end();) {
    const std::shared_ptr<Segment> segment = segments_->Find(*it);
    const auto& forgotten = owed_.forgotten_segments;
    if (segment == nullptr || std::find(forgotten.begin(), forgotten.end(), *it) != forgotten.end()) {
      it = candidates_.erase(it);
      continue;
    }
    if (log_->IsWritable(*it)) {
      ++it;  // asked again when it is full
      continue;
    }
    ASSIGN_OR_RETURN(const std::optional<SegmentFile::DataRange> data, segment->file->NextData(kBlockBytes));
    if (!data) owed_.forgotten_segments.push_back(*it);
    it = candidates_.erase(it);
  }
  return Status::Ok();
}

}  // namespace tarn::store
