#include "chunkserver/store/chunk_writer.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "common/base/check.h"

namespace tarn::store {
namespace {

// Versions of a chunk that is being installed lie this high: no stamp of a whole one equals theirs.
constexpr uint64_t kInstallingVersion = uint64_t{1} << 63;

iovec PartOf(std::span<const uint8_t> bytes) { return iovec{const_cast<uint8_t*>(bytes.data()), bytes.size()}; }

uint64_t PaddedSum(std::span<const uint8_t> bytes) {
  std::array<uint8_t, kBlockBytes> block{};
  std::copy(bytes.begin(), bytes.end(), block.begin());
  return Xxh3(block);
}

ChangeOutcome NowOf(const ChunkHead& head) {
  const ChunkStamp stamp{head.epoch, head.version};
  return {.base = stamp, .stamp = stamp, .chunk_bytes = head.bytes};
}

ChunkHead HeadOf(Chunk* chunk) {
  MutexLock lock(chunk->map_mutex);
  return chunk->head;
}

std::string ToString(const ChunkStamp& stamp) { return std::to_string(stamp.epoch.value()) + "." + std::to_string(stamp.version); }

Status CheckGroup(ChunkId chunk, const ChunkHead& head, GroupId group) {
  if (!group.valid() || !head.group.valid() || head.group == group) return Status::Ok();
  return Status(StatusCode::kInvalidArgument, "chunk " + ToString(chunk) + " is one of group " + std::to_string(head.group.value()) + ", not of " +
                                                  std::to_string(group.value()));
}

}  // namespace

Status ValidateWrite(const WriteRequest& request) {
  if (request.payload.empty() || request.payload.size() > kWriteBytesMax ||
      request.offset + request.payload.size() > kChunkBytesMax) {
    return Status(StatusCode::kInvalidArgument, "write " + std::to_string(request.payload.size()) + " bytes at " +
                                                    std::to_string(request.offset) + ": out of bounds");
  }
  const uint64_t pieces = PieceCount(request.offset, request.payload.size());
  if (request.piece_sums.size() != pieces * kSumBytes) {
    return Status(StatusCode::kInvalidArgument, "a write of " + std::to_string(pieces) + " pieces came with " +
                                                    std::to_string(request.piece_sums.size() / kSumBytes) + " sums");
  }
  if (const auto bad = FindBadPiece(request.offset, request.payload, request.piece_sums)) {
    return Status(StatusCode::kCorruption, "piece " + std::to_string(*bad) + " of the payload does not fit its checksum");
  }
  return Status::Ok();
}

Status ValidatePiece(uint64_t offset, std::span<const uint8_t> bytes, std::string_view piece_sums) {
  if (offset % kBlockBytes != 0) {
    return Status(StatusCode::kInvalidArgument, "a piece at " + std::to_string(offset) + ": not a multiple of 4096");
  }
  return ValidateWrite({.chunk = {}, .writer = {}, .offset = offset, .payload = bytes, .piece_sums = piece_sums, .view = {}});
}

// A record being made: its header, its data as a list of parts, and memory for the blocks that had to be merged.
struct ChunkWriter::Draft {
  RecordHeader header;
  std::vector<uint64_t> sums;
  std::vector<iovec> parts;
  std::array<uint8_t, kBlockBytes> first_block;
  std::array<uint8_t, kBlockBytes> last_block;
};

Status ChunkWriter::CheckAllowed(ChunkId chunk) const {
  if (!parts_.dead_data->Contains(chunk.data)) return Status::Ok();
  return Status(StatusCode::kStaleTruncate, "chunk " + ToString(chunk) + " is deleted");
}

Result<ChangeOutcome> ChunkWriter::Begin(const std::shared_ptr<Chunk>& chunk, const WriterIdentity& writer, const ChangeContext& context) {
  RETURN_IF_ERROR(CheckAllowed(chunk->id));
  const ChunkHead head = HeadOf(chunk.get());
  RETURN_IF_ERROR(CheckGroup(chunk->id, head, context.group));
  ChangeOutcome begun = NowOf(head);
  if (context.base) {
    if (*context.base == begun.stamp) return begun;
    return Status(StatusCode::kStaleEpoch, "chunk " + ToString(chunk->id) + " is at " + ToString(begun.stamp) + ", the change is made for " +
                                               ToString(*context.base));
  }
  if (!writer.sequence.valid()) return begun;
  ASSIGN_OR_RETURN(const SessionWindows::Seen seen,
                   parts_.windows->Check({context.group, writer.session, writer.sequence, writer.acked_through}));
  begun.was_applied = seen == SessionWindows::Seen::kApplied;
  return begun;
}

ChangeOutcome ChunkWriter::End(const std::shared_ptr<Chunk>& chunk, const WriterIdentity& writer, const ChangeContext& context,
                               ChangeOutcome begun) {
  ChangeOutcome outcome = NowOf(HeadOf(chunk.get()));
  outcome.base = begun.base;
  if (writer.sequence.valid()) {
    parts_.windows->MarkApplied({context.group, writer.session, writer.sequence, writer.acked_through});
  }
  return outcome;
}

Result<ChangeOutcome> ChunkWriter::Write(const WriteRequest& request, const ChangeContext& context) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Chunk> chunk, parts_.loader->Load(request.chunk));
  MutexLock order(chunk->write_mutex);
  ASSIGN_OR_RETURN(const ChangeOutcome begun, Begin(chunk, request.writer, context));
  if (begun.was_applied) return begun;
  RETURN_IF_ERROR(CutLocked(chunk, request.view, context));
  const auto draft = std::make_unique<Draft>();
  RETURN_IF_ERROR(DraftWrite(chunk, request, draft.get()));
  StampNext(chunk.get(), context, &draft->header);
  RETURN_IF_ERROR(LogAndApply(chunk, draft.get(), context.base ? SpaceClass::kReplica : SpaceClass::kData));
  parts_.metrics->bytes_written.fetch_add(request.payload.size(), std::memory_order_relaxed);
  return End(chunk, request.writer, context, begun);
}

Result<ChangeOutcome> ChunkWriter::Truncate(ChunkId chunk_id, const WriterIdentity& writer, const TruncateView& view,
                                            const ChangeContext& context) {
  if (view.bytes > kChunkBytesMax) {
    return Status(StatusCode::kInvalidArgument, "truncate to " + std::to_string(view.bytes) + " bytes: out of bounds");
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<Chunk> chunk, parts_.loader->Load(chunk_id));
  MutexLock order(chunk->write_mutex);
  ASSIGN_OR_RETURN(const ChangeOutcome begun, Begin(chunk, writer, context));
  if (begun.was_applied) return begun;
  RETURN_IF_ERROR(CutLocked(chunk, view, context));
  return End(chunk, writer, context, begun);
}

Status ChunkWriter::CutLocked(const std::shared_ptr<Chunk>& chunk, const TruncateView& view, const ChangeContext& context) {
  const ChunkHead head = HeadOf(chunk.get());
  if (!head.exists()) return Status::Ok();
  if (view.generation < head.truncate_generation) {
    return Status(StatusCode::kStaleTruncate, "chunk " + ToString(chunk->id) + " is at truncate generation " +
                                                  std::to_string(head.truncate_generation) + ", the request at " +
                                                  std::to_string(view.generation));
  }
  if (view.generation == head.truncate_generation) return Status::Ok();

  const auto draft = std::make_unique<Draft>();
  RecordHeader& header = draft->header;
  header.kind = RecordKind::kTruncate;
  header.cut_bytes = std::min(head.bytes, view.bytes);
  header.truncate_generation = view.generation;
  header.tail_sum = header.cut_bytes == head.bytes ? head.tail_sum : 0;
  StampNext(chunk.get(), context, &header);
  const bool brings_data = header.cut_bytes < head.bytes || header.epoch != 0;
  if (brings_data && header.cut_bytes > 0) RETURN_IF_ERROR(DraftCutEnd(chunk, draft.get()));
  return LogAndApply(chunk, draft.get(), SpaceClass::kReserved);
}

void ChunkWriter::StampNext(Chunk* chunk, const ChangeContext& context, RecordHeader* header) {
  const ChunkHead head = HeadOf(chunk);
  header->chunk_version = head.version + 1;
  header->epoch = context.epoch.value();
  header->group = (head.group.valid() ? head.group : context.group).value();
}

Status ChunkWriter::InstallPiece(ChunkId chunk_id, GroupId group, uint64_t offset, std::span<const uint8_t> bytes, std::string_view piece_sums) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Chunk> chunk, parts_.loader->Load(chunk_id));
  MutexLock order(chunk->write_mutex);
  RETURN_IF_ERROR(CheckAllowed(chunk_id));
  const ChunkHead head = HeadOf(chunk.get());
  RETURN_IF_ERROR(CheckGroup(chunk_id, head, group));
  // Whole blocks only, so that nothing of what is replaced is read: it may be damaged. InstallEnd cuts what is too much.
  std::vector<uint8_t> padded;
  std::string sums(piece_sums);
  if (const size_t tail_bytes = bytes.size() % kBlockBytes; tail_bytes != 0) {
    padded.assign(bytes.begin(), bytes.end());
    padded.resize(size_t{BlocksFor(bytes.size())} * kBlockBytes);
    sums.resize(sums.size() - kSumBytes);
    AppendSum(sums, PaddedSum(bytes.last(tail_bytes)));
    bytes = padded;
  }
  const auto draft = std::make_unique<Draft>();
  const WriteRequest request{.chunk = chunk_id,
                             .writer = {},
                             .offset = offset,
                             .payload = bytes,
                             .piece_sums = sums,
                             .view = {.generation = head.truncate_generation, .bytes = kChunkBytesMax}};
  RETURN_IF_ERROR(DraftWrite(chunk, request, draft.get()));
  StampNext(chunk.get(), {.group = group, .epoch = Epoch(), .base = {}}, &draft->header);
  draft->header.chunk_version |= kInstallingVersion;
  RETURN_IF_ERROR(LogAndApply(chunk, draft.get(), SpaceClass::kData));
  parts_.metrics->bytes_written.fetch_add(bytes.size(), std::memory_order_relaxed);
  return Status::Ok();
}

Status ChunkWriter::InstallEnd(ChunkId chunk_id, const ChunkState& state) {
  if (state.bytes > kChunkBytesMax || state.stamp.version == 0) {
    return Status(StatusCode::kInvalidArgument, "chunk " + ToString(chunk_id) + " cannot become one of " + std::to_string(state.bytes) +
                                                    " bytes at " + ToString(state.stamp));
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<Chunk> chunk, parts_.loader->Load(chunk_id));
  MutexLock order(chunk->write_mutex);
  RETURN_IF_ERROR(CheckAllowed(chunk_id));
  const ChunkHead head = HeadOf(chunk.get());
  RETURN_IF_ERROR(CheckGroup(chunk_id, head, state.group));
  const auto draft = std::make_unique<Draft>();
  RecordHeader& header = draft->header;
  header.kind = RecordKind::kTruncate;
  header.cut_bytes = state.bytes;
  header.truncate_generation = state.truncate_generation;
  StampNext(chunk.get(), {.group = state.group, .epoch = state.stamp.epoch, .base = {}}, &header);
  header.chunk_version = state.stamp.version;
  if (state.bytes > 0) RETURN_IF_ERROR(DraftCutEnd(chunk, draft.get()));
  return LogAndApply(chunk, draft.get(), SpaceClass::kReserved);
}

Status ChunkWriter::Remove(ChunkId chunk_id) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Chunk> chunk, parts_.loader->Load(chunk_id));
  MutexLock order(chunk->write_mutex);
  const ChunkHead head = HeadOf(chunk.get());
  if (!head.exists()) return Status::Ok();
  // A cut to nothing, with the version of a chunk that does not exist.
  const auto draft = std::make_unique<Draft>();
  draft->header.kind = RecordKind::kTruncate;
  draft->header.group = head.group.value();
  return LogAndApply(chunk, draft.get(), SpaceClass::kReserved);
}

Status ChunkWriter::DraftCutEnd(const std::shared_ptr<Chunk>& chunk, Draft* draft) {
  RecordHeader& header = draft->header;
  const uint32_t block = static_cast<uint32_t>((header.cut_bytes - 1) / kBlockBytes);
  const uint32_t kept_bytes = static_cast<uint32_t>(header.cut_bytes - uint64_t{block} * kBlockBytes);
  RETURN_IF_ERROR(ReadOldBlock(chunk, block, draft->last_block));
  // Without an epoch nobody compares stamps, and a whole block may stay where it is.
  if (header.epoch == 0 && kept_bytes == kBlockBytes) {
    MutexLock lock(chunk->map_mutex);
    const bool is_within = header.cut_bytes <= chunk->head.bytes;
    if (is_within && chunk->map.FindBlock(block) != nullptr) return Status::Ok();
  }
  // A block that is cut is stored anew with zeros behind the cut, so that a later write that extends the chunk shows no old bytes. A hole at
  // the end is stored as zeros: the chunk's length is then told by data that lives as long as it does, and so is its stamp, also to a rebuild
  // of the index (which does not see records that have lost their last data).
  const std::span<const uint8_t> kept = std::span<const uint8_t>(draft->last_block).first(kept_bytes);
  if (kept_bytes < kBlockBytes) header.tail_sum = Xxh3(kept);
  header.first_block = block;
  header.data_bytes = kept_bytes;
  draft->sums.push_back(PaddedSum(kept));
  draft->parts.push_back(PartOf(kept));
  return Status::Ok();
}

Status ChunkWriter::DraftWrite(const std::shared_ptr<Chunk>& chunk, const WriteRequest& request, Draft* draft) {
  const uint64_t write_end = request.offset + request.payload.size();
  const uint32_t first = static_cast<uint32_t>(request.offset / kBlockBytes);
  const uint32_t end = BlocksFor(write_end);
  uint64_t chunk_bytes = 0;
  {
    MutexLock lock(chunk->map_mutex);
    chunk_bytes = std::max(chunk->head.bytes, write_end);
  }
  // The last block is stored as far as the chunk reaches in it.
  const uint64_t data_end = std::min(chunk_bytes, uint64_t{end} * kBlockBytes);
  RecordHeader& header = draft->header;
  header.kind = RecordKind::kWrite;
  header.truncate_generation = request.view.generation;
  header.first_block = first;
  header.data_bytes = static_cast<uint32_t>(data_end - uint64_t{first} * kBlockBytes);
  draft->sums.resize(end - first);
  std::memcpy(draft->sums.data(), request.piece_sums.data(), request.piece_sums.size());
  return DraftEdges(chunk, request, draft);
}

Status ChunkWriter::DraftEdges(const std::shared_ptr<Chunk>& chunk, const WriteRequest& request, Draft* draft) {
  RecordHeader& header = draft->header;
  const uint64_t write_end = request.offset + request.payload.size();
  const uint64_t data_end = uint64_t{header.first_block} * kBlockBytes + header.data_bytes;
  const uint32_t last = static_cast<uint32_t>((data_end - 1) / kBlockBytes);
  const uint64_t last_begin = uint64_t{last} * kBlockBytes;
  const uint32_t head_gap = request.offset % kBlockBytes;
  const uint32_t tail_bytes = data_end % kBlockBytes;  // 0: the last block is full
  std::span<const uint8_t> middle = request.payload;

  if (head_gap != 0 && header.first_block != last) {
    RETURN_IF_ERROR(ReadOldBlock(chunk, header.first_block, draft->first_block));
    std::copy_n(middle.begin(), kBlockBytes - head_gap, draft->first_block.begin() + head_gap);
    middle = middle.subspan(kBlockBytes - head_gap);
    draft->sums.front() = Xxh3(draft->first_block);
    draft->parts.push_back(PartOf(draft->first_block));
  }
  const uint64_t middle_begin = write_end - middle.size();
  const bool merges_last = write_end < data_end || (header.first_block == last && head_gap != 0);
  if (!merges_last) {
    if (!middle.empty()) draft->parts.push_back(PartOf(middle));
    if (tail_bytes != 0) {
      header.tail_sum = draft->sums.back();
      draft->sums.back() = PaddedSum(middle.last(tail_bytes));
    }
    return Status::Ok();
  }
  RETURN_IF_ERROR(ReadOldBlock(chunk, last, draft->last_block));
  const uint64_t merged_from = std::max(middle_begin, last_begin);
  const std::span<const uint8_t> merged = middle.last(write_end - merged_from);
  std::copy(merged.begin(), merged.end(), draft->last_block.begin() + static_cast<ptrdiff_t>(merged_from - last_begin));
  const std::span<const uint8_t> before = middle.first(middle.size() - merged.size());
  if (!before.empty()) draft->parts.push_back(PartOf(before));
  const std::span<const uint8_t> stored = std::span<const uint8_t>(draft->last_block).first(data_end - last_begin);
  draft->parts.push_back(PartOf(stored));
  draft->sums.back() = Xxh3(draft->last_block);
  if (tail_bytes != 0) header.tail_sum = Xxh3(stored);
  return Status::Ok();
}

Status ChunkWriter::ReadOldBlock(const std::shared_ptr<Chunk>& chunk, uint32_t block, std::span<uint8_t> bytes) {
  RETURN_IF_ERROR(parts_.loader->LoadUnits(chunk, BlockRange{block, block + 1}));
  std::vector<Extent> extents;
  uint64_t sum = 0;
  {
    MutexLock lock(chunk->map_mutex);
    chunk->map.Find(BlockRange{block, block + 1}, &extents);
    sum = chunk->map.SumOf(block);
  }
  if (!extents.empty()) return parts_.blocks->ReadVerified(chunk->id, extents.front(), {&sum, 1}, bytes);
  std::fill(bytes.begin(), bytes.end(), 0);
  return Status::Ok();
}

Status ChunkWriter::LogAndApply(const std::shared_ptr<Chunk>& chunk, Draft* draft, SpaceClass space) {
  RecordHeader& header = draft->header;
  header.data_id = chunk->id.data.value();
  header.chunk_index = chunk->id.index;
  header.entry_count = static_cast<uint32_t>(draft->sums.size());
  header.header_blocks = static_cast<uint8_t>(HeaderBlocksFor(header.entry_count));
  if (draft->parts.size() == 1 && FitsInline(header.data_bytes)) header.flags |= kRecordInline;
  {
    MutexLock lock(chunk->map_mutex);
    header.record_number = chunk->head.record_number + 1;
  }
  // Everything that can fail comes before the record is in the log.
  RETURN_IF_ERROR(PrepareChange(*parts_.loader, chunk, header));
  ASSIGN_OR_RETURN(const Reservation reservation, parts_.log->Reserve(RecordBlocks(header), space));
  const Status written = parts_.log->WriteRecord(reservation, header, draft->sums, draft->parts);
  if (written.ok()) {
    header.header_block = reservation.header_block;
    header.sequence = reservation.sequence.value();
    ApplyChange({parts_.table, parts_.tombstones}, chunk, ChunkChange{header, PlaceOf(reservation.segment->number, header), draft->sums});
    if (header.data_bytes == 0) {
      parts_.tombstones->Add({reservation.sequence, {reservation.segment->number, reservation.header_block, reservation.blocks}});
    }
    parts_.metrics->records_written.fetch_add(1, std::memory_order_relaxed);
  } else {
    // A void record: it may go like a tombstone.
    parts_.tombstones->Add({reservation.sequence, {reservation.segment->number, reservation.header_block, reservation.blocks}});
  }
  parts_.log->Complete(reservation);
  return written;
}

Result<bool> ChunkWriter::RewriteUnit(ChunkId chunk_id, uint32_t unit) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Chunk> chunk, parts_.loader->Load(chunk_id));
  MutexLock order(chunk->write_mutex);
  const BlockRange blocks{unit * kUnitBlocks, (unit + 1) * kUnitBlocks};
  RETURN_IF_ERROR(parts_.loader->LoadUnits(chunk, blocks));
  std::vector<Extent> extents;
  {
    MutexLock lock(chunk->map_mutex);
    chunk->map.UnitAt(unit).rewrite_queued = false;
    chunk->map.Find(blocks, &extents);
  }
  std::vector<BlockRange> runs;
  for (const Extent& extent : extents) {
    if (runs.empty() || runs.back().end != extent.first_block) {
      runs.push_back(BlockRange{extent.first_block, extent.end_block()});
    } else {
      runs.back().end = extent.end_block();
    }
  }
  // A unit full of holes stays as it is: rewriting it would not make it fewer extents.
  if (!CheckAllowed(chunk_id).ok() || runs.size() * 2 > extents.size()) return false;
  for (const BlockRange& run : runs) RETURN_IF_ERROR(RewriteRun(chunk, run));
  parts_.metrics->units_rewritten.fetch_add(1, std::memory_order_relaxed);
  return true;
}

Status ChunkWriter::RewriteRun(const std::shared_ptr<Chunk>& chunk, BlockRange run) {
  const auto draft = std::make_unique<Draft>();
  std::vector<Extent> extents;
  RecordHeader& header = draft->header;
  {
    MutexLock lock(chunk->map_mutex);
    chunk->map.Find(run, &extents);
    for (uint32_t block = run.first; block < run.end; ++block) draft->sums.push_back(chunk->map.SumOf(block));
    const uint64_t data_end = std::min(chunk->head.bytes, uint64_t{run.end} * kBlockBytes);
    header.data_bytes = static_cast<uint32_t>(data_end - uint64_t{run.first} * kBlockBytes);
    header.tail_sum = data_end % kBlockBytes != 0 ? chunk->head.tail_sum : 0;
    header.truncate_generation = chunk->head.truncate_generation;
    header.chunk_version = chunk->head.version;
    header.epoch = chunk->head.epoch.value();
    header.group = chunk->head.group.value();
  }
  if (extents.size() < 2) return Status::Ok();
  header.kind = RecordKind::kRewrite;
  header.first_block = run.first;
  std::vector<uint8_t> bytes(size_t{run.end - run.first} * kBlockBytes);
  const std::span<uint8_t> all(bytes);
  for (const Extent& extent : extents) {
    const size_t from = extent.first_block - run.first;
    RETURN_IF_ERROR(parts_.blocks->ReadVerified(chunk->id, extent,
                                                std::span<const uint64_t>(draft->sums).subspan(from, extent.block_count),
                                                all.subspan(from * kBlockBytes, size_t{extent.block_count} * kBlockBytes)));
  }
  draft->parts.push_back(PartOf(all.first(header.data_bytes)));
  return LogAndApply(chunk, draft.get(), SpaceClass::kData);
}

}  // namespace tarn::store
