#include "chunkserver/store/segment_table.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "common/base/posix_io.h"

namespace tarn::store {

void SegmentTable::Insert(std::shared_ptr<Segment> segment) {
  const SegmentNumber number = segment->number;
  MutexLock lock(mutex_);
  segments_[number] = std::move(segment);
}

void SegmentTable::Erase(SegmentNumber number) {
  std::shared_ptr<Segment> gone;  // closed without the lock
  MutexLock lock(mutex_);
  const auto it = segments_.find(number);
  if (it == segments_.end()) return;
  gone = std::move(it->second);
  segments_.erase(it);
  lock.Unlock();
}

std::shared_ptr<Segment> SegmentTable::Find(SegmentNumber number) const {
  MutexLock lock(mutex_);
  const auto it = segments_.find(number);
  return it == segments_.end() ? nullptr : it->second;
}

Segment* SegmentTable::FindLeased(SegmentNumber number) const {
  MutexLock lock(mutex_);
  const auto it = segments_.find(number);
  return it == segments_.end() ? nullptr : it->second.get();
}

std::vector<std::shared_ptr<Segment>> SegmentTable::All() const {
  std::vector<std::shared_ptr<Segment>> all;
  {
    MutexLock lock(mutex_);
    all.reserve(segments_.size());
    for (const auto& [number, segment] : segments_) all.push_back(segment);
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a->number < b->number; });
  return all;
}

Result<std::shared_ptr<Segment>> CreateSegment(SegmentDirectory* directory, const SegmentHeader& header) {
  const SegmentNumber number(header.number);
  ASSIGN_OR_RETURN(std::unique_ptr<SegmentFile> file, directory->Create(number, uint64_t{header.blocks} * kBlockBytes));
  std::string block = EncodeSegmentHeader(header);
  const iovec part{block.data(), block.size()};
  Status made = file->Write({&part, 1}, 0);
  if (made.ok()) made = file->Sync();
  if (made.ok()) made = directory->SyncDirectory();
  if (!made.ok()) {
    (void)directory->Remove(number);  // its header names no record: a leftover is recognised and removed at the next start
    return made.WithContext("create a segment");
  }
  auto segment = std::make_shared<Segment>();
  segment->number = number;
  segment->generation = header.generation;
  segment->blocks = header.blocks;
  segment->file = std::move(file);
  return segment;
}

Result<std::shared_ptr<Segment>> OpenSegment(SegmentDirectory* directory, SegmentNumber number, std::span<const uint8_t, 16> target_uuid) {
  ASSIGN_OR_RETURN(std::unique_ptr<SegmentFile> file, directory->Open(number));
  std::array<uint8_t, sizeof(SegmentHeader)> bytes{};
  ASSIGN_OR_RETURN(const int fd, file->Descriptor());
  RETURN_IF_ERROR(PreadFull(fd, bytes, 0, file->path()));
  Result<SegmentHeader> header = DecodeSegmentHeader(bytes);
  if (!header.ok()) return header.status().WithContext(file->path());
  if (std::memcmp(header->target_uuid, target_uuid.data(), target_uuid.size()) != 0) {
    return Status(StatusCode::kCorruption, file->path() + ": belongs to another target");
  }
  if (header->number != number.value()) {
    return Status(StatusCode::kCorruption, file->path() + ": is segment " + std::to_string(header->number));
  }
  auto segment = std::make_shared<Segment>();
  segment->number = number;
  segment->generation = header->generation;
  segment->blocks = header->blocks;
  segment->file = std::move(file);
  return segment;
}

}  // namespace tarn::store
