#include "chunkserver/store/recovery.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "common/base/posix_io.h"

namespace tarn::store {
namespace {

constexpr uint64_t kRecordsBetweenClosing = 1'024;

RecordSequence SequenceOf(const ScannedRecord& record) { return RecordSequence(record.header.sequence); }

ChunkId ChunkOf(const ScannedRecord& record) { return ChunkId{DataId(record.header.data_id), record.header.chunk_index}; }

// `present`: its ExistingBlocks.
bool IsWhole(const ScannedRecord& record, const std::vector<Extent>& present) {
  const RecordPlace place = PlaceOf(record.segment, record.header);
  return place.record_blocks == 0 || (present.size() == 1 && present.front().block_count == place.record_blocks);
}

}  // namespace

Result<RecoveryResult> Recovery::Run() {
  RETURN_IF_ERROR(LoadCheckpoint());
  RETURN_IF_ERROR(OpenSegments());
  RETURN_IF_ERROR(Scan());
  if (!options_.rebuild) RETURN_IF_ERROR(CheckNothingDurableIsMissing());
  RETURN_IF_ERROR(VerifyTails());
  RETURN_IF_ERROR(Replay());
  RETURN_IF_ERROR(CleanSegments());
  result_.records_dropped = dropped_.size();
  return std::move(result_);
}

Status Recovery::LoadCheckpoint() {
  ASSIGN_OR_RETURN(const std::optional<std::string> stored, parts_.index->Get(kCheckpointKey));
  if (!stored && options_.index_is_expected && !options_.rebuild) {
    return Status(StatusCode::kCorruption, "the index is incomplete; start once with --rebuild-index");
  }
  if (stored) {
    ASSIGN_OR_RETURN(const CheckpointValue checkpoint, DecodeCheckpoint(*stored));
    result_.checkpoint = checkpoint.sequence;
    result_.next_sequence = checkpoint.next_sequence;
    result_.next_segment = checkpoint.next_segment;
  }
  RETURN_IF_ERROR(parts_.index->ForEach(std::string_view(&kSegmentKeyTag, 1), [&](std::string_view key, std::string_view bytes) -> Status {
    const std::optional<uint64_t> number = DecodeNumberKey(kSegmentKeyTag, key);
    ASSIGN_OR_RETURN(const SegmentValue value, DecodeSegmentValue(bytes));
    if (number) named_[SegmentNumber(static_cast<uint32_t>(*number))] = value;
    return Status::Ok();
  }));
  RETURN_IF_ERROR(parts_.index->ForEach(std::string_view(&kDeadKeyTag, 1), [&](std::string_view key, std::string_view bytes) -> Status {
    const std::optional<uint64_t> number = DecodeNumberKey(kDeadKeyTag, key);
    ASSIGN_OR_RETURN(std::vector<DeadRange> ranges, DecodeDeadRanges(bytes));
    if (!number) return Status::Ok();
    result_.next_dead_key = std::max(result_.next_dead_key, *number + 1);
    result_.dead.push_back(NamedDeadSpace{*number, DeadSpace{std::move(ranges), RecordSequence()}});
    return Status::Ok();
  }));
  return parts_.index->ForEach(std::string_view(&kTombstoneKeyTag, 1), [&](std::string_view key, std::string_view bytes) -> Status {
    const std::optional<uint64_t> sequence = DecodeNumberKey(kTombstoneKeyTag, key);
    ASSIGN_OR_RETURN(const std::vector<DeadRange> ranges, DecodeDeadRanges(bytes));
    if (!sequence) return Status::Ok();
    for (const DeadRange& range : ranges) result_.tombstones.push_back(Tombstone{RecordSequence(*sequence), range});
    return Status::Ok();
  });
}

Status Recovery::OpenSegments() {
  ASSIGN_OR_RETURN(const std::vector<SegmentNumber> found, parts_.directory->List());
  for (const auto& [number, value] : named_) {
    if (!std::binary_search(found.begin(), found.end(), number)) {
      return Status(StatusCode::kCorruption, "segments/" + SegmentFileName(number) + " is missing, the index names it");
    }
  }
  for (const SegmentNumber number : found) {
    result_.next_segment = std::max(result_.next_segment, SegmentNumber(number.value() + 1));
    const auto named = named_.find(number);
    if (named == named_.end()) {
      RETURN_IF_ERROR(OpenUnknownSegment(number));
      continue;
    }
    ASSIGN_OR_RETURN(std::shared_ptr<Segment> segment, OpenSegment(parts_.directory, number, options_.target_uuid));
    if (segment->generation != named->second.generation) {
      return Status(StatusCode::kCorruption, segment->file->path() + ": is not the file that the index names");
    }
    if (found.size() > options_.segment_descriptors_max) segment->file->Detach();
    parts_.segments->Insert(segment);
    scan_from_[number] = named->second.scan_from_block;
  }
  return Status::Ok();
}

Status Recovery::OpenUnknownSegment(SegmentNumber number) {
  // Made after the checkpoint, or given up just before the stop. Nothing durable is in it unless its header is durable.
  {
    ASSIGN_OR_RETURN(const std::unique_ptr<SegmentFile> file, parts_.directory->Open(number));
    ASSIGN_OR_RETURN(const std::optional<SegmentFile::DataRange> data, file->NextData(0));
    bool has_header = false;
    if (data && data->offset == 0) {
      std::vector<uint8_t> block(sizeof(SegmentHeader));
      ASSIGN_OR_RETURN(const int fd, file->Descriptor());
      RETURN_IF_ERROR(PreadFull(fd, block, 0, file->path()));
      has_header = std::any_of(block.begin(), block.end(), [](uint8_t byte) { return byte != 0; });
    }
    ASSIGN_OR_RETURN(const std::optional<SegmentFile::DataRange> records, file->NextData(kBlockBytes));
    if (!has_header && !records) return parts_.directory->Remove(number);
  }
  ASSIGN_OR_RETURN(std::shared_ptr<Segment> segment, OpenSegment(parts_.directory, number, options_.target_uuid));
  // Named before anything in the index points into it.
  Index::Batch batch;
  batch.Put(NumberKey(kSegmentKeyTag, number.value()), EncodeSegmentValue({.generation = segment->generation, .scan_from_block = 1}));
  RETURN_IF_ERROR(parts_.index->Apply(std::move(batch)));
  parts_.segments->Insert(segment);
  scan_from_[number] = 1;
  return Status::Ok();
}

Status Recovery::Scan() {
  for (const auto& [number, from_block] : scan_from_) {
    const std::shared_ptr<Segment> segment = parts_.segments->Find(number);
    RETURN_IF_ERROR(ScanSegment(*segment, from_block, &records_));
    if (scan_from_.size() > options_.segment_descriptors_max) segment->file->Detach();
  }
  durable_ = result_.checkpoint;
  uint64_t sequence_max = result_.next_sequence.value() - 1;
  for (const ScannedRecord& record : records_) {
    durable_ = std::max(durable_, RecordSequence(record.header.durable_through));
    sequence_max = std::max(sequence_max, record.header.sequence);
  }
  result_.next_sequence = RecordSequence(sequence_max + 1);
  std::erase_if(records_, [&](const ScannedRecord& record) {
    if (SequenceOf(record) > result_.checkpoint) return false;
    indexed_[record.segment].push_back(record.Range());
    return true;
  });
  std::sort(records_.begin(), records_.end(),
            [](const ScannedRecord& a, const ScannedRecord& b) { return a.header.sequence < b.header.sequence; });
  for (const ScannedRecord& record : records_) {
    if (record.header.kind != RecordKind::kDeleteData) continue;
    for (const uint64_t id : record.entries) deleted_by_[DataId(id)] = SequenceOf(record);
  }
  return Status::Ok();
}

Status Recovery::CheckNothingDurableIsMissing() const {
  uint64_t expected = result_.checkpoint.value() + 1;
  for (const ScannedRecord& record : records_) {
    if (record.header.sequence != expected) break;
    ++expected;
  }
  if (expected > durable_.value()) return Status::Ok();
  return Status(StatusCode::kCorruption, "segments: record " + std::to_string(expected) + " is damaged or missing, though it was durable (the log is durable through " +
                                             std::to_string(durable_.value()) + "); --rebuild-index would go on without it");
}

Status Recovery::VerifyTails() {
  for (const ScannedRecord& record : records_) {
    const std::shared_ptr<Segment> segment = parts_.segments->Find(record.segment);
    // What was durable is kept even if it is damaged by now: a read of it then says so.
    if (SequenceOf(record) <= durable_) continue;
    ASSIGN_OR_RETURN(const bool is_whole, VerifyData(*segment, record));
    if (!is_whole) {
      torn_.insert(SequenceOf(record));
    } else {
      RETURN_IF_ERROR(StoreZeros(*segment, record));
    }
  }
  return Status::Ok();
}

// Zeros that never reached the disk have the right sum as well, but are a hole: a rebuild of the index would take them for dead.
Status Recovery::StoreZeros(const Segment& segment, const ScannedRecord& record) {
  ASSIGN_OR_RETURN(const std::vector<Extent> present, ExistingBlocks(segment, record));
  if (IsWhole(record, present)) return Status::Ok();
  const RecordPlace place = PlaceOf(record.segment, record.header);
  const uint64_t data_block = uint64_t{place.header_block} + place.header_blocks;
  std::string zeros(kBlockBytes, '\0');
  const iovec part{zeros.data(), zeros.size()};
  for (uint32_t i = 0; i < place.record_blocks; ++i) {
    const uint32_t block = record.header.first_block + i;
    const bool is_present = std::any_of(present.begin(), present.end(), [block](const Extent& extent) {
      return block >= extent.first_block && block < extent.end_block();
    });
    if (!is_present) RETURN_IF_ERROR(segment.file->Write({&part, 1}, (data_block + i) * kBlockBytes));
  }
  return Status::Ok();
}

Status Recovery::Replay() {
  for (const ScannedRecord& record : records_) {
    switch (record.header.kind) {
      case RecordKind::kWrite:
      case RecordKind::kRewrite:
      case RecordKind::kTruncate:
        RETURN_IF_ERROR(ReplayChange(record));
        break;
      case RecordKind::kDeleteData:
        RETURN_IF_ERROR(ReplayDeletion(record));
        break;
      case RecordKind::kCheckpoint:
      case RecordKind::kVoid:
        result_.obsolete.push_back(record.Range());
        break;
    }
    if (++result_.records_replayed % kRecordsBetweenClosing == 0) CloseSegmentsIfMany();
    if (record.header.kind != RecordKind::kCheckpoint) result_.is_as_checkpointed = false;
    if (options_.rebuild && parts_.table->dirty_bytes() > options_.dirty_bytes_max) {
      RETURN_IF_ERROR(parts_.checkpointer->IndexDirtyChunks());
    }
  }
  return Status::Ok();
}

Status Recovery::ReplayChange(const ScannedRecord& record) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Chunk> chunk, parts_.loader->Load(ChunkOf(record)));
  MutexLock order(chunk->write_mutex);
  ChunkHead head;
  {
    MutexLock lock(chunk->map_mutex);
    head = chunk->head;
  }
  ASSIGN_OR_RETURN(const Verdict verdict, Judge(record, head));
  if (verdict == Verdict::kDrop) {
    dropped_.insert(SequenceOf(record));
    return Status::Ok();
  }
  if (verdict == Verdict::kSkip) return Status::Ok();
  return options_.rebuild ? ApplyPresentBlocks(chunk, record) : ApplyRecord(chunk, record);
}

Result<Recovery::Verdict> Recovery::Judge(const ScannedRecord& record, const ChunkHead& head) {
  const bool is_torn = torn_.contains(SequenceOf(record));
  if (options_.rebuild) {
    // Older records may be punched, so gaps mean nothing; but nothing is put on top of a record that is known to be torn.
    if (is_torn) broken_chunks_.insert(ChunkOf(record));
    const bool is_broken = SequenceOf(record) > durable_ && broken_chunks_.contains(ChunkOf(record));
    return is_broken ? Verdict::kDrop : Verdict::kApply;
  }
  const auto deletion = deleted_by_.find(DataId(record.header.data_id));
  if (deletion != deleted_by_.end() && deletion->second > SequenceOf(record)) {
    // A chunk that is deleted later on: the index may have it gone already.
    result_.obsolete.push_back(record.Range());
    return Verdict::kSkip;
  }
  if (record.header.record_number <= head.record_number) return Verdict::kSkip;  // the index is newer than its checkpoint
  if (record.header.record_number == head.record_number + 1) return is_torn ? Verdict::kDrop : Verdict::kApply;
  if (SequenceOf(record) > durable_) return Verdict::kDrop;
  return Status(StatusCode::kCorruption, "chunk " + ToString(ChunkOf(record)) + ": record " + std::to_string(record.header.record_number) +
                                             " follows " + std::to_string(head.record_number) + " in segments/" +
                                             SegmentFileName(record.segment) + "; start once with --rebuild-index");
}

Status Recovery::ApplyRecord(const std::shared_ptr<Chunk>& chunk, const ScannedRecord& record) {
  RETURN_IF_ERROR(PrepareChange(*parts_.loader, chunk, record.header));
  ApplyChange({parts_.table, parts_.tombstones}, chunk, ChunkChange{record.header, PlaceOf(record.segment, record.header), record.entries});
  if (record.header.data_bytes == 0) parts_.tombstones->Add(Tombstone{SequenceOf(record), record.Range()});
  return Status::Ok();
}

Status Recovery::ApplyPresentBlocks(const std::shared_ptr<Chunk>& chunk, const ScannedRecord& record) {
  const std::shared_ptr<Segment> segment = parts_.segments->Find(record.segment);
  ASSIGN_OR_RETURN(const std::vector<Extent> present, ExistingBlocks(*segment, record));
  if (IsWhole(record, present)) return ApplyRecord(chunk, record);
  const RecordPlace place = PlaceOf(record.segment, record.header);
  if (record.header.kind == RecordKind::kTruncate || present.empty()) {
    // All of its data is dead. A cut counts all the same.
    ScannedRecord rest = record;
    rest.header.data_bytes = 0;
    rest.header.flags = 0;
    rest.entries.clear();
    if (record.header.kind != RecordKind::kTruncate) {
      result_.obsolete.push_back(record.Range());
      return Status::Ok();
    }
    // It stays as long as what it cuts off does.
    parts_.tombstones->Add(Tombstone{SequenceOf(record), record.Range()});
    RETURN_IF_ERROR(PrepareChange(*parts_.loader, chunk, rest.header));
    ApplyChange({parts_.table, parts_.tombstones}, chunk, ChunkChange{rest.header, place, rest.entries});
    return Status::Ok();
  }
  for (const Extent& extent : present) {
    RecordHeader part = record.header;
    part.first_block = extent.first_block;
    const uint64_t data_end = uint64_t{record.header.first_block} * kBlockBytes + record.header.data_bytes;
    const uint64_t part_end = std::min(data_end, uint64_t{extent.end_block()} * kBlockBytes);
    part.data_bytes = static_cast<uint32_t>(part_end - uint64_t{extent.first_block} * kBlockBytes);
    if (part.data_bytes % kBlockBytes == 0) part.tail_sum = 0;
    const std::span<const uint64_t> sums(record.entries);
    RETURN_IF_ERROR(PrepareChange(*parts_.loader, chunk, part));
    ApplyChange({parts_.table, parts_.tombstones}, chunk,
                ChunkChange{part, place, sums.subspan(extent.first_block - record.header.first_block, extent.block_count)});
  }
  return Status::Ok();
}

Status Recovery::ReplayDeletion(const ScannedRecord& record) {
  for (const uint64_t id : record.entries) {
    ASSIGN_OR_RETURN(const std::vector<std::shared_ptr<Chunk>> chunks, parts_.loader->LoadAll(DataId(id)));
    for (const auto& chunk : chunks) {
      MutexLock order(chunk->write_mutex);
      RETURN_IF_ERROR(ApplyDeletion(*parts_.loader, {parts_.table, parts_.tombstones}, chunk, SequenceOf(record)));
    }
  }
  parts_.tombstones->Add(Tombstone{SequenceOf(record), record.Range()});
  return Status::Ok();
}

void Recovery::CloseSegmentsIfMany() {
  if (scan_from_.size() <= options_.segment_descriptors_max) return;
  for (const auto& segment : parts_.segments->All()) segment->file->Detach();
}

Status Recovery::CleanSegments() {
  CloseSegmentsIfMany();
  std::map<SegmentNumber, std::vector<DeadRange>> kept = std::move(indexed_);
  for (const ScannedRecord& record : records_) {
    if (!dropped_.contains(SequenceOf(record))) kept[record.segment].push_back(record.Range());
  }
  for (const auto& [number, from_block] : scan_from_) {
    const std::shared_ptr<Segment> segment = parts_.segments->Find(number);
    RETURN_IF_ERROR(CleanSegment(*segment, from_block, std::move(kept[number])));
    if (scan_from_.size() > options_.segment_descriptors_max) segment->file->Detach();
    result_.segments.push_back(number);
  }
  if (!dropped_.empty()) {
    spdlog::info("recovery dropped writes that were never durable dropped={} torn={}", dropped_.size(), torn_.size());
  }
  return Status::Ok();
}

Status Recovery::CleanSegment(const Segment& segment, uint32_t from_block, std::vector<DeadRange> kept) {
  ASSIGN_OR_RETURN(const uint64_t size_bytes, segment.file->SizeBytes());
  uint64_t position = uint64_t{from_block} * kBlockBytes;
  if (kept.empty() && size_bytes <= position) return Status::Ok();  // as it was left by the checkpoint
  std::sort(kept.begin(), kept.end());
  for (const DeadRange& range : kept) {
    const uint64_t begin = uint64_t{range.first_block} * kBlockBytes;
    if (begin > position) RETURN_IF_ERROR(segment.file->PunchHole(position, begin - position));
    position = std::max(position, begin + uint64_t{range.block_count} * kBlockBytes);
  }
  if (size_bytes > position) RETURN_IF_ERROR(segment.file->Truncate(position));
  result_.tails.push_back({segment.number, SegmentValue{segment.generation, static_cast<uint32_t>(position / kBlockBytes)}});
  // After a kill the kept records may not be on the disk yet.
  return segment.file->Sync();
}

}  // namespace tarn::store
