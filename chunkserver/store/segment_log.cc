#include "chunkserver/store/segment_log.h"

#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace tarn::store {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kDataSegmentBytesMin = 8 * kMiB;
constexpr uint64_t kReservedSegmentBytesMin = 1 * kMiB;
// The part of the reserve that records of SpaceClass::kReserved leave to the index.
constexpr uint64_t kIndexShareOfReserve = 4;
// And the part that those of SpaceClass::kReplica leave to them.
constexpr uint64_t kReservedShareOfReserve = 2;
// The end of each segment is for records of SpaceClass::kReserved: on a full disk they then need no new segment.
constexpr uint32_t kReservedTailBlocks = 64;
// The kernel is told to write this much at a time: early, so that a sync finds little left to do.
constexpr uint64_t kWritebackStepBytes = 1 * kMiB;

uint64_t KeptFree(uint64_t reserve_bytes, SpaceClass space) {
  switch (space) {
    case SpaceClass::kData:
      return reserve_bytes;
    case SpaceClass::kReplica:
      return reserve_bytes / kReservedShareOfReserve;
    case SpaceClass::kReserved:
      break;
  }
  return reserve_bytes / kIndexShareOfReserve;
}

// Of a segment's end that the largest record does not fit into nothing counts: such a record goes to the next segment, and the end is given back.
uint64_t UnusedIn(uint32_t blocks, uint32_t tail_block) {
  constexpr uint32_t kLargestRecordBlocks = kWriteBytesMax / kBlockBytes + 2;  // its header, and a first block in part
  const uint32_t kept = tail_block + kReservedTailBlocks;
  return blocks >= kept + kLargestRecordBlocks ? uint64_t{blocks - kept} * kBlockBytes : 0;
}

iovec PartOf(const std::string& bytes) { return iovec{const_cast<char*>(bytes.data()), bytes.size()}; }

}  // namespace

SegmentLog::SegmentLog(const SegmentLogOptions& options, SegmentDirectory* directory, SegmentTable* table, Random* random,
                       fault::FaultPoints* faults)
    : options_(options), directory_(directory), table_(table), random_(random), faults_(faults) {}

void SegmentLog::Start(RecordSequence next_sequence, SegmentNumber next_segment, std::vector<Position::Tail> recovered,
                       SegmentCreated created) {
  created_ = std::move(created);
  MutexLock lock(mutex_);
  next_sequence_ = next_sequence;
  next_segment_ = next_segment;
  recovered_ = std::move(recovered);
  durable_through_ = RecordSequence(next_sequence.value() - 1);
}

Result<Reservation> SegmentLog::Reserve(uint32_t blocks, SpaceClass space) {
  MutexLock lock(mutex_);
  while (true) {
    if (!failure_.ok()) return failure_;
    if (active_ && HasRoom(*active_->segment, active_->tail_block, blocks, space)) return TakePlace(blocks);
    if (spare_ && HasRoom(*spare_, 1, blocks, space)) {
      if (active_) {
        full_since_checkpoint_.push_back(*active_);
        to_trim_.push_back(*active_);
      }
      active_ = OpenSegmentState{.segment = std::exchange(spare_, nullptr)};
      writeback_from_ = kBlockBytes;
      continue;
    }
    if (making_segment_) {
      segment_made_.Wait(lock);
      continue;
    }
    making_segment_ = true;
    const SegmentNumber number = next_segment_;
    next_segment_ = SegmentNumber(number.value() + 1);
    lock.Unlock();
    Result<std::shared_ptr<Segment>> made = MakeSegment(blocks, space, number);
    lock.Lock();
    making_segment_ = false;
    bytes_in_making_ = 0;
    segment_made_.NotifyAll();
    if (!made.ok()) return made.status();
    AdoptSpare(std::move(*made));
  }
}

void SegmentLog::AdoptSpare(std::shared_ptr<Segment> segment) {
  // One that was too small for a record is given back unused.
  if (spare_) to_trim_.push_back(OpenSegmentState{.segment = std::move(spare_)});
  spare_ = std::move(segment);
}

bool SegmentLog::HasRoom(const Segment& segment, uint32_t tail_block, uint32_t blocks, SpaceClass space) const {
  const uint32_t end = segment.blocks - (space == SpaceClass::kReserved ? 0 : kReservedTailBlocks);
  return uint64_t{tail_block} + blocks <= end;
}

Reservation SegmentLog::TakePlace(uint32_t blocks) {
  Reservation reservation{.segment = active_->segment,
                          .header_block = active_->tail_block,
                          .blocks = blocks,
                          .sequence = next_sequence_,
                          .durable_through = durable_through_};
  active_->tail_block += blocks;
  next_sequence_ = RecordSequence(next_sequence_.value() + 1);
  in_flight_.emplace(reservation.sequence, InFlight{reservation.segment->number, reservation.header_block});
  return reservation;
}

Result<std::shared_ptr<Segment>> SegmentLog::MakeSegment(uint32_t blocks_needed, SpaceClass space, SegmentNumber number) {
  ASSIGN_OR_RETURN(const FileSystemSpace file_system, directory_->Space());
  const bool is_data = space == SpaceClass::kData;
  const uint64_t kept_free = KeptFree(options_.reserve_bytes, space);
  const uint64_t usable =
      file_system.available_bytes > kept_free ? (file_system.available_bytes - kept_free) / kMiB * kMiB : 0;
  const uint64_t needed = (uint64_t{blocks_needed} + 1 + kReservedTailBlocks) * kBlockBytes;
  const uint64_t smallest =
      std::max(is_data ? std::min(kDataSegmentBytesMin, options_.segment_bytes) : kReservedSegmentBytesMin, needed);
  // Space from the reserve is taken in small portions.
  const uint64_t wanted = std::max(!is_data && file_system.available_bytes <= options_.reserve_bytes + options_.segment_bytes
                                       ? kReservedSegmentBytesMin
                                       : options_.segment_bytes,
                                   needed);
  if (usable < smallest) {
    return Status(StatusCode::kNoSpace, "the target is full: " + std::to_string(file_system.available_bytes) + " bytes are free, " +
                                            std::to_string(kept_free) + " of them are kept in reserve");
  }
  SegmentHeader header;
  header.number = number.value();
  header.blocks = static_cast<uint32_t>(std::min(usable, wanted) / kBlockBytes);
  header.generation = random_->NextNonZero();
  std::copy(options_.target_uuid.begin(), options_.target_uuid.end(), header.target_uuid);
  {
    MutexLock lock(mutex_);
    bytes_in_making_ = UnusedIn(header.blocks, 1);
  }
  ASSIGN_OR_RETURN(std::shared_ptr<Segment> segment, CreateSegment(directory_, header));
  RETURN_IF_ERROR(created_(*segment));
  table_->Insert(segment);
  return segment;
}

Status SegmentLog::WriteRecord(const Reservation& reservation, RecordHeader header, std::span<const uint64_t> entries,
                               std::span<const iovec> data) {
  header.segment_generation = reservation.segment->generation;
  header.header_block = reservation.header_block;
  header.sequence = reservation.sequence.value();
  header.durable_through = reservation.durable_through.value();
  std::span<const uint8_t> inline_data;
  if ((header.flags & kRecordInline) != 0) {
    CHECK(data.size() == 1, "inline data is one piece");
    inline_data = {static_cast<const uint8_t*>(data[0].iov_base), data[0].iov_len};
  }
  const std::string header_bytes = EncodeRecordHeader(header, entries, inline_data);
  std::vector<iovec> parts{PartOf(header_bytes)};
  if (inline_data.empty()) parts.insert(parts.end(), data.begin(), data.end());
  Status written;
  if (faults_->Fires(kFaultWriteError)) {
    written = Status(StatusCode::kIoError, "write " + reservation.segment->file->path() + ": injected fault");
  } else {
    written = reservation.segment->file->Write(parts, uint64_t{reservation.header_block} * kBlockBytes);
  }
  if (!written.ok()) MakeVoid(reservation);
  SyncNext(reservation.segment);
  if (written.ok() && faults_->Fires(kFaultCrashAfterData)) (void)kill(getpid(), SIGKILL);
  return written;
}

void SegmentLog::MakeVoid(const Reservation& reservation) {
  RecordHeader header;
  header.kind = RecordKind::kVoid;
  header.segment_generation = reservation.segment->generation;
  header.header_block = reservation.header_block;
  header.sequence = reservation.sequence.value();
  header.durable_through = reservation.durable_through.value();
  header.data_bytes = (reservation.blocks - 1) * kBlockBytes;
  const std::string bytes = EncodeRecordHeader(header, {}, {});
  const iovec part = PartOf(bytes);
  const Status written = reservation.segment->file->Write({&part, 1}, uint64_t{reservation.header_block} * kBlockBytes);
  if (!written.ok()) Fail(written);
}

void SegmentLog::Complete(const Reservation& reservation) {
  const uint64_t bytes = uint64_t{reservation.blocks} * kBlockBytes;
  const uint64_t end = uint64_t{reservation.header_block} * kBlockBytes + bytes;
  uint64_t writeback_from = 0;
  uint64_t writeback_bytes = 0;
  {
    MutexLock lock(mutex_);
    in_flight_.erase(reservation.sequence);
    const bool is_active = active_ && active_->segment == reservation.segment;
    if (is_active && end >= writeback_from_ + kWritebackStepBytes) {
      writeback_from = writeback_from_;
      writeback_bytes = end - writeback_from_;
      writeback_from_ = end;
    }
  }
  unsynced_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  if (writeback_bytes > 0) reservation.segment->file->StartWriteback(writeback_from, writeback_bytes);
}

void SegmentLog::SyncNext(const std::shared_ptr<Segment>& segment) {
  MutexLock lock(mutex_);
  if (std::find(unsynced_.begin(), unsynced_.end(), segment) == unsynced_.end()) unsynced_.push_back(segment);
}

RecordSequence SegmentLog::CompleteThrough() const {
  const RecordSequence first_open = in_flight_.empty() ? next_sequence_ : in_flight_.begin()->first;
  return RecordSequence(first_open.value() - 1);
}

Status SegmentLog::Sync() {
  std::vector<std::shared_ptr<Segment>> segments;
  RecordSequence through;
  {
    MutexLock lock(mutex_);
    if (!failure_.ok()) return failure_;
    segments.swap(unsynced_);
    syncing_ = segments;
    through = CompleteThrough();
  }
  unsynced_bytes_.store(0, std::memory_order_relaxed);
  for (const auto& segment : segments) {
    if (faults_->Fires(kFaultSkipSync)) continue;
    Status synced = segment->file->Sync();
    if (faults_->Fires(kFaultSyncError)) synced = Status(StatusCode::kIoError, "sync " + segment->file->path() + ": injected fault");
    if (!synced.ok()) {
      Fail(synced);
      return synced;
    }
  }
  MutexLock lock(mutex_);
  durable_through_ = std::max(durable_through_, through);
  syncing_.clear();
  return Status::Ok();
}

RecordSequence SegmentLog::durable_through() const {
  MutexLock lock(mutex_);
  return durable_through_;
}

uint32_t SegmentLog::CompleteTail(const OpenSegmentState& state) const {
  uint32_t tail = state.tail_block;
  for (const auto& [sequence, open] : in_flight_) {
    if (open.segment == state.segment->number) tail = std::min(tail, open.header_block);
  }
  return tail;
}

SegmentLog::Position SegmentLog::CurrentPosition() const {
  MutexLock lock(mutex_);
  Position position{.through = CompleteThrough(), .next_sequence = next_sequence_, .next_segment = next_segment_, .tails = recovered_};
  const auto add = [&](const OpenSegmentState& state) REQUIRES(mutex_) {
    position.tails.push_back({state.segment->number, SegmentValue{state.segment->generation, CompleteTail(state)}});
  };
  for (const OpenSegmentState& state : full_since_checkpoint_) add(state);
  if (active_) add(*active_);
  return position;
}

void SegmentLog::PositionIsDurable(const Position& position) {
  MutexLock lock(mutex_);
  recovered_.clear();
  std::erase_if(full_since_checkpoint_, [&](const OpenSegmentState& state) {
    return std::any_of(position.tails.begin(), position.tails.end(), [&](const Position::Tail& tail) {
      return tail.segment == state.segment->number && tail.value.scan_from_block == state.tail_block;
    });
  });
}

void SegmentLog::PrepareSpare() {
  MutexLock lock(mutex_);
  const bool is_due = active_ && active_->tail_block > active_->segment->blocks / 2;
  if (!failure_.ok() || !is_due || spare_ || making_segment_) return;
  making_segment_ = true;
  const SegmentNumber number = next_segment_;
  next_segment_ = SegmentNumber(number.value() + 1);
  lock.Unlock();
  Result<std::shared_ptr<Segment>> made = MakeSegment(1, SpaceClass::kData, number);
  lock.Lock();
  making_segment_ = false;
  bytes_in_making_ = 0;
  segment_made_.NotifyAll();
  // Whoever needs it will be told why there is none.
  if (made.ok()) AdoptSpare(std::move(*made));
}

uint64_t SegmentLog::UnusedBytes() const {
  MutexLock lock(mutex_);
  uint64_t unused = bytes_in_making_;
  if (active_) unused += UnusedIn(active_->segment->blocks, active_->tail_block);
  if (spare_) unused += UnusedIn(spare_->blocks, 1);
  return unused;
}

std::vector<SegmentNumber> SegmentLog::TrimFullSegments() {
  std::vector<OpenSegmentState> complete;
  {
    MutexLock lock(mutex_);
    std::erase_if(to_trim_, [&](const OpenSegmentState& state) REQUIRES(mutex_) {
      if (CompleteTail(state) != state.tail_block) return false;
      complete.push_back(state);
      return true;
    });
  }
  std::vector<SegmentNumber> trimmed;
  for (const OpenSegmentState& state : complete) {
    // Unused preallocated space only: failing to give it back loses nothing.
    (void)state.segment->file->Truncate(uint64_t{state.tail_block} * kBlockBytes);
    trimmed.push_back(state.segment->number);
  }
  return trimmed;
}

bool SegmentLog::IsWritable(SegmentNumber number) const {
  MutexLock lock(mutex_);
  const auto is = [number](const std::shared_ptr<Segment>& segment) { return segment && segment->number == number; };
  if ((active_ && is(active_->segment)) || is(spare_) || making_segment_) return true;
  return std::any_of(to_trim_.begin(), to_trim_.end(), [&](const OpenSegmentState& state) { return is(state.segment); });
}

bool SegmentLog::IsAtRest(const Segment& segment) const {
  if (IsWritable(segment.number)) return false;
  MutexLock lock(mutex_);
  const auto is = [&segment](const std::shared_ptr<Segment>& other) { return other->number == segment.number; };
  return std::none_of(unsynced_.begin(), unsynced_.end(), is) && std::none_of(syncing_.begin(), syncing_.end(), is);
}

void SegmentLog::Fail(const Status& status) {
  {
    MutexLock lock(mutex_);
    if (!failure_.ok()) return;
    failure_ = status;
  }
  spdlog::error("the disk of the target fails: it takes no writes until its server is started again error=\"{}\"", status.message());
}

Status SegmentLog::failure() const {
  MutexLock lock(mutex_);
  return failure_;
}

}  // namespace tarn::store
