// Writing and sending (client/data/inode_data_impl.h).
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "client/data/inode_data_impl.h"

namespace tarn::client {
namespace {

// A file that has no room at its servers refuses writes at once; after this time one may try whether that still holds.
constexpr int64_t kNoSpacePauseNs = 1'000'000'000;
// A server may find an extent outdated a few times while attributes change; more means that server and metadata
// contradict each other.
constexpr uint32_t kRefusalsMax = 8;
// A sync of so little asks for durable answers straight away, which saves the separate commit.
constexpr uint64_t kDurableSendBytesMax = 1 << 20;

// Bytes [begin, end) of the file, which lie in the piece.
ChunkPiece PartOf(const ChunkPiece& piece, uint64_t begin, uint64_t end) {
  ChunkPiece part = piece;
  part.chunk_offset += begin - piece.file_offset;
  part.file_offset = begin;
  part.length = end - begin;
  return part;
}

// The parts of the piece that none of these ranges of its chunk covers. They are in order.
std::vector<ChunkPiece> PartsLeft(const ChunkPiece& piece, const std::vector<ByteRange>& superseded) {
  std::vector<ChunkPiece> left;
  const uint64_t to_file = piece.file_offset - piece.chunk_offset;
  const uint64_t end = piece.file_offset + piece.length;
  uint64_t begin = piece.file_offset;
  for (const ByteRange& range : superseded) {
    const uint64_t covered = std::min(range.offset + to_file, end);
    if (covered > begin) left.push_back(PartOf(piece, begin, covered));
    begin = std::max(begin, range.end() + to_file);
  }
  if (begin < end) left.push_back(PartOf(piece, begin, end));
  return left;
}

}  // namespace

void InodeDataImpl::Write(uint64_t offset, std::span<const uint8_t> bytes, StatusCallback done) {
  WriteAt(offset, bytes, std::move(done));
}

void InodeDataImpl::Append(std::span<const uint8_t> bytes, StatusCallback done) {
  uint64_t offset = 0;
  {
    MutexLock lock(mutex_);
    offset = SizeForAppend();
    ++queued_writes_;  // the place is taken until the write is over
    queued_end_ = offset + bytes.size();
  }
  WriteAt(offset, bytes, [self = shared_from_this(), done = std::move(done)](const Status& status) {
    self->OnQueuedWriteOver();
    done(status);
  });
}

void InodeDataImpl::WriteAt(uint64_t offset, std::span<const uint8_t> bytes, StatusCallback done) {
  if (bytes.empty()) return done(Status::Ok());
  Status allowed;
  {
    MutexLock lock(mutex_);
    allowed = CheckWritable(offset, bytes.size());
  }
  if (!allowed.ok()) return done(allowed);
  const size_t buffered = core_->HasWaitingWrites() ? 0 : BufferSome(offset, bytes);
  core_->CheckPressure();
  if (buffered == bytes.size()) return done(Status::Ok());
  OnWriteQueued(offset + bytes.size());
  core_->QueueWrite(shared_from_this(), offset + buffered, bytes.subspan(buffered),
                    [self = shared_from_this(), done = std::move(done)](const Status& status) {
                      self->OnQueuedWriteOver();
                      done(status);
                    });
}

void InodeDataImpl::OnWriteQueued(uint64_t end) {
  MutexLock lock(mutex_);
  queued_end_ = queued_writes_ > 0 ? std::max(queued_end_, end) : end;
  ++queued_writes_;
}

void InodeDataImpl::OnQueuedWriteOver() {
  MutexLock lock(mutex_);
  --queued_writes_;
}

Status InodeDataImpl::CheckWritable(uint64_t offset, uint64_t length) {
  if (!view_status_.ok()) return view_status_;
  const uint64_t size_max = view_.data.valid() ? FileSizeMaxOf(view_.layout) : kFileSizeMax;
  if (length > size_max || offset > size_max - length) {
    return Status(StatusCode::kFileTooLarge, "write up to " + std::to_string(offset) + "+" + std::to_string(length) +
                                                 " of a file of at most " + std::to_string(size_max) + " bytes");
  }
  if (!no_space_) return Status::Ok();
  const int64_t now_ns = core_->clock->MonotonicNs();
  if (now_ns < no_space_until_ns_) return Status(StatusCode::kNoSpace, "the chunk servers of this file are full");
  no_space_until_ns_ = now_ns + kNoSpacePauseNs;
  return Status::Ok();
}

size_t InodeDataImpl::BufferSome(uint64_t offset, std::span<const uint8_t> bytes) {
  const ExtentMap::Stamp now{core_->clock->MonotonicNs(), core_->clock->WallNs()};
  size_t buffered = 0;
  {
    MutexLock lock(mutex_);
    while (buffered < bytes.size()) {
      const uint64_t position = offset + buffered;
      const size_t length = extents_.LengthInSegment(position, bytes.size() - buffered);
      if (!extents_.Write(position, bytes.subspan(buffered, length), now)) break;
      buffered += length;
      if (extents_.FillsSegment(position) || extents_.IsCrowded(position)) extents_.WantSendSegment(position);
    }
    if (buffered > 0) NoteWritten(offset + buffered, now.monotonic_ns, now.wall_ns);
    core_->NoteBuffered(buffered);
    Account();
  }
  if (buffered > 0) Advance();
  return buffered;
}

void InodeDataImpl::NoteWritten(uint64_t end, int64_t now_ns, int64_t mtime_ns) {
  if (uncommitted_.empty() || uncommitted_.back().closed) uncommitted_.push_back(UncommittedWrites{.since_ns = now_ns});
  UncommittedWrites& writes = uncommitted_.back();
  writes.age = extents_.last_age();
  writes.end = std::max(writes.end, end);
  writes.mtime_ns = mtime_ns;
  if (active_) return;
  active_ = true;
  core_->Activate(shared_from_this());
}

// ---- Sending ----

// The extent is kSending. False if it can go nowhere (it was given up).
bool InodeDataImpl::PrepareSend(const ExtentPtr& extent, Send* send) {
  if (extent->range.end() > FileSizeMaxOf(view_.layout)) {
    LoseExtent(extent, Status(StatusCode::kFileTooLarge, "write beyond the largest file of this layout"));
    return false;
  }
  send->extent = extent;
  send->offset = extent->range.offset;
  send->bytes = extent->bytes();
  extent->sending_term = SoleTerm();
  send->parts = PartsOf(view_.layout, *extent, extent->sending_term != 0 && extent->sending_term == extent->sole_term);
  send->view = view_;
  extent->pieces_in_flight = static_cast<uint32_t>(send->parts.size());
  if (send->parts.empty()) {  // all of it has been replaced by others
    OnSendOver(extent);
    return false;
  }
  if (extents_.unacknowledged_bytes() <= kDurableSendBytesMax) {
    send->durable = std::any_of(requests_.begin(), requests_.end(), [&](const FlushRequest& request) {
      return request.sync && request.age >= extent->oldest_age;
    });
  }
  return true;
}

uint64_t InodeDataImpl::SoleTerm() {
  MetadataGate::Use use(*core_->metadata);
  return use ? use->SoleWriterTerm(inode_) : 0;
}

std::vector<InodeDataImpl::SendPart> InodeDataImpl::PartsOf(const FileLayout& layout, const Extent& extent, bool sole) {
  std::vector<SendPart> parts;
  for (const ChunkPiece& piece : SplitRange(layout, extent.range)) {
    if (!extent.stamps) {
      parts.push_back({piece, {}, false});
      continue;
    }
    for (const PieceStamp& acknowledged : *extent.stamps) {
      const ByteRange range = Intersect(acknowledged.range, {piece.file_offset, piece.length});
      if (!range.empty()) parts.push_back({PartOf(piece, range.offset, range.end()), acknowledged.stamp, !sole && !acknowledged.fresh});
    }
  }
  return parts;
}

void InodeDataImpl::StartSend(const Send& send) {
  const auto shared = std::make_shared<const Send>(send);
  for (const SendPart& part : shared->parts) SendOne(shared, part);
}

void InodeDataImpl::SendOne(const std::shared_ptr<const Send>& send, const SendPart& part) {
  const ChunkPiece& piece = part.piece;
  WriteOptions options{.durable = send->durable};
  if (part.was_acknowledged) options.acknowledged = part.acknowledged;
  core_->chunks.Write(ChunkOf(send->view, piece.chunk_index), piece.chunk_offset,
                      send->bytes.subspan(piece.file_offset - send->offset, piece.length), options,
                      [self = shared_from_this(), send, part](const Result<WriteAck>& ack) {
                        self->OnPartSent(send, part, ack);
                      });
}

void InodeDataImpl::OnPartSent(const std::shared_ptr<const Send>& send, const SendPart& part,
                               const Result<WriteAck>& ack) {
  const ExtentPtr& extent = send->extent;
  std::vector<SendPart> left;
  {
    MutexLock lock(mutex_);
    if (!ack.ok()) {
      if (extent->failure.ok()) extent->failure = ack.status();
    } else if (!ack->superseded.empty()) {
      for (const ChunkPiece& piece : PartsLeft(part.piece, ack->superseded)) {
        left.push_back({piece, part.acknowledged, part.was_acknowledged});
      }
      extent->pieces_in_flight += static_cast<uint32_t>(left.size());
    } else {
      extent->new_stamps.push_back({{part.piece.file_offset, part.piece.length}, ack->stamp});
      if (!ack->durable) {
        extent->all_durable = false;
        extent->acks.push_back(PieceAck{ack->group, ack->target, ack->incarnation, core_->commits->NextStamp()});
      }
    }
    if (--extent->pieces_in_flight == 0) OnSendOver(extent);
    Account();
  }
  for (const SendPart& more : left) SendOne(send, more);
  if (!left.empty()) return;
  Advance();
  core_->OnRoom();
  core_->CheckPressure();
}

void InodeDataImpl::OnSendOver(const ExtentPtr& extent) {
  if (!extent->in_map) return;  // truncated away meanwhile
  const StatusCode code = extent->failure.code();
  if (code == StatusCode::kStaleTruncate) {
    if (++extent->refusals > kRefusalsMax)
      return LoseExtent(extent, Status(StatusCode::kIoError, extent->failure.message()));
    // If attributes came meanwhile they explain it; otherwise fetch them.
    if (!extent->send_again) refresh_wanted_ = true;
    return extents_.SendAgain(extent);
  }
  if (!extent->failure.ok()) return LoseExtent(extent, extent->failure);
  no_space_ = false;
  if (extent->send_again) return extents_.SendAgain(extent);
  extent->stamps = std::exchange(extent->new_stamps, {});
  extent->sole_term = extent->sending_term == SoleTerm() ? extent->sending_term : 0;
  acknowledged_end_ = std::max(acknowledged_end_, extent->range.end());
  // First the listener, then the state that a sync request looks at: its commit must not end unheard.
  for (const PieceAck& ack : extent->acks) core_->commits->Add(ack.target, ack.group, shared_from_this());
  extents_.Acknowledge(extent);
  if (!extent->acks.empty()) return;
  // Answered as durable: no commit will look at it. A newer write may have parted it.
  for (const ExtentPtr& part : extents_.Unstable()) RemoveIfSettled(part);
}

// Stable and published: the client need not keep it. What is stable but not published may still have to go elsewhere,
// when it turns out that the file has got other data.
void InodeDataImpl::RemoveIfSettled(const ExtentPtr& extent) {
  if (extent->acks.empty() && extent->age <= committed_age_) RemoveExtent(extent);
}

void InodeDataImpl::RemoveExtent(const ExtentPtr& extent) {
  // From now on readers see the servers' bytes: what was fetched before must not be used any more.
  core_->spans.Invalidate(cache_key_, extent->range);
  extents_.Remove(extent);
}

void InodeDataImpl::LoseExtent(const ExtentPtr& extent, const Status& status) {
  spdlog::error("written data lost: inode={} offset={} bytes={} error={}", inode_.value(), extent->range.offset,
                extent->range.length, status.ToString());
  SetError(status);
  if (status.code() == StatusCode::kNoSpace || status.code() == StatusCode::kQuota) {
    no_space_ = true;
    no_space_until_ns_ = core_->clock->MonotonicNs() + kNoSpacePauseNs;
  }
  RemoveExtent(extent);
  CapUncommitted(std::max(acknowledged_end_, extents_.UnacknowledgedEnd()));
}

void InodeDataImpl::LoseUnsent(const Status& status) {
  for (const ExtentPtr& extent : extents_.Unacknowledged()) {
    if (extent->state == SlabState::kDirty) LoseExtent(extent, status);
  }
  SetError(status);
  uncommitted_.clear();
}

void InodeDataImpl::Abandon(const Status& status) {
  {
    MutexLock lock(mutex_);
    if (uncommitted_.empty() && extents_.unacknowledged_bytes() == 0) return;
    LoseUnsent(status);
    Account();
  }
  Advance();
  core_->OnRoom();
}

void InodeDataImpl::SetError(const Status& status) {
  error_ = status;
  ++error_count_;
}

}  // namespace tarn::client
