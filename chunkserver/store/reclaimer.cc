#include "chunkserver/store/reclaimer.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace tarn::store {

void Reclaimer::CheckpointIsDurable(RecordSequence through, std::vector<NamedDeadSpace> dead, std::vector<Tombstone> tombstones) {
  durable_checkpoint_ = through;
  RemoveForgottenSegments();
  owed_ = Owed{};
  if (dead.empty() && tombstones.empty()) return;
  FreeBatch batch{.dead = std::move(dead), .tombstones = std::move(tombstones), .killed_through = {}, .readers = leases_->MakeBarrier()};
  for (const NamedDeadSpace& named : batch.dead) batch.killed_through = std::max(batch.killed_through, named.space.killed_by);
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

Status Reclaimer::Run() {
  // One after another and each durable before the next: a batch may hold what killed the space of an earlier one.
  while (!batches_.empty()) {
    FreeBatch& batch = batches_.front();
    if (batch.killed_through > durable_checkpoint_ || !batch.readers.passed()) break;
    RETURN_IF_ERROR(Free(batch));
    for (const NamedDeadSpace& named : batch.dead) owed_.forgotten_keys.push_back(named.key);
    for (const Tombstone& tombstone : batch.tombstones) {
      owed_.forgotten_tombstones.push_back(tombstone);
      owed_.new_dead.push_back(tombstone.record);
    }
    batches_.pop_front();
  }
  return FindEmptySegments();
}

Status Reclaimer::Free(const FreeBatch& batch) {
  std::set<SegmentNumber> touched;
  for (const NamedDeadSpace& named : batch.dead) {
    for (const DeadRange& range : named.space.ranges) {
      const std::shared_ptr<Segment> segment = segments_->Find(range.segment);
      if (segment == nullptr) continue;  // named before a crash and removed since
      RETURN_IF_ERROR(segment->file->PunchHole(uint64_t{range.first_block} * kBlockBytes, uint64_t{range.block_count} * kBlockBytes));
      metrics_->blocks_punched.fetch_add(range.block_count, std::memory_order_relaxed);
      touched.insert(range.segment);
    }
  }
  for (const SegmentNumber number : touched) {
    log_->SyncNext(segments_->Find(number));
    candidates_.insert(number);
  }
  if (touched.empty()) return Status::Ok();
  return committer_->Commit();
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
