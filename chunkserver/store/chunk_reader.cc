#include "chunkserver/store/chunk_reader.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "chunkserver/store/page_residency.h"
#include "chunkserver/store/segment_log.h"

namespace tarn::store {
namespace {

BlockRange BlocksOf(const ReadRequest& request, uint32_t length) {
  const uint32_t first = static_cast<uint32_t>(request.offset / kBlockBytes);
  return BlockRange{first, first + BlocksFor(length)};
}

void AppendPiece(const ReadPiece& piece, ReadPlan* plan) {
  if (piece.length == 0) return;
  if (!plan->pieces.empty()) {
    ReadPiece& last = plan->pieces.back();
    const bool continues = last.fd == piece.fd && (piece.fd < 0 || last.file_offset + last.length == piece.file_offset);
    if (continues) {
      last.length += piece.length;
      return;
    }
  }
  plan->pieces.push_back(piece);
}

// The whole piece, or as much as the kernel gives at once; false on anything short of it.
bool PreadCached(const ReadPiece& piece, std::span<uint8_t> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const iovec part{bytes.data() + done, bytes.size() - done};
    const ssize_t got = preadv2(piece.fd, &part, 1, static_cast<off_t>(piece.file_offset + done), RWF_NOWAIT);
    if (got <= 0) return false;
    done += static_cast<size_t>(got);
  }
  return true;
}

Status PreadWaiting(const ReadPiece& piece, std::span<uint8_t> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = pread(piece.fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(piece.file_offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Status::FromErrno(errno, "read a segment at " + std::to_string(piece.file_offset + done));
    if (got == 0) return Status(StatusCode::kCorruption, "a segment ends at byte " + std::to_string(piece.file_offset + done));
    done += static_cast<size_t>(got);
  }
  return Status::Ok();
}

}  // namespace

Status ValidateRead(const ReadRequest& request) {
  const bool is_aligned = request.offset % kBlockBytes == 0 && request.length % kBlockBytes == 0;
  if (!is_aligned || request.length == 0 || request.length > kWriteBytesMax || request.offset + request.length > kChunkBytesMax) {
    return Status(StatusCode::kInvalidArgument, "read " + std::to_string(request.length) + " bytes at " + std::to_string(request.offset) +
                                                    ": not multiples of 4096, or out of bounds");
  }
  return Status::Ok();
}

ChunkReader::Shape ChunkReader::ShapeOf(const ChunkHead& head, const ReadRequest& request) {
  Shape shape{.chunk_bytes = head.bytes, .version = head.version};
  if (request.view.generation > head.truncate_generation && request.view.bytes < head.bytes) shape.chunk_bytes = request.view.bytes;
  if (request.offset < shape.chunk_bytes) {
    shape.length = static_cast<uint32_t>(std::min<uint64_t>(request.length, shape.chunk_bytes - request.offset));
  }
  shape.cut_by_view = shape.chunk_bytes != head.bytes && shape.length % kBlockBytes != 0;
  return shape;
}

std::optional<Result<ReadPlan>> ChunkReader::PlanLoaded(Chunk* chunk, const ReadRequest& request, MayOpen may_open, Shape* shape) const {
  // Before the map is looked at: whatever it shows then stays in place.
  ReadPlan plan{.lease = leases_->Take(), .sums = {}, .pieces = {}};
  std::vector<Extent> extents;
  uint64_t tail_sum = 0;
  {
    MutexLock lock(chunk->map_mutex);
    if (!chunk->loaded) return std::nullopt;
    *shape = ShapeOf(chunk->head, request);
    const BlockRange blocks = BlocksOf(request, shape->length);
    if (!blocks.empty()) {
      const uint32_t end_unit = UnitOfBlock(blocks.end - 1) + 1;
      if (chunk->map.FirstMissingUnit(UnitOfBlock(blocks.first), end_unit) != end_unit) return std::nullopt;
      chunk->map.Find(blocks, &extents);
      plan.sums.reserve(size_t{blocks.end - blocks.first} * kSumBytes);
      chunk->map.AppendSums(blocks, &plan.sums);
    }
    tail_sum = chunk->head.tail_sum;
  }
  plan.chunk_bytes = shape->chunk_bytes;
  plan.version = shape->version;
  plan.length = shape->length;
  if (shape->length % kBlockBytes != 0) {
    plan.sums.resize(plan.sums.size() - kSumBytes);
    AppendSum(plan.sums, tail_sum);
  }
  const Result<bool> added = AddPieces(extents, request, may_open, &plan);
  if (!added.ok()) return Result<ReadPlan>(added.status());
  if (!*added) return std::nullopt;
  return Result<ReadPlan>(std::move(plan));
}

Result<bool> ChunkReader::AddPieces(const std::vector<Extent>& extents, const ReadRequest& request, MayOpen may_open, ReadPlan* plan) const {
  const uint64_t end = request.offset + plan->length;
  uint64_t position = request.offset;
  for (const Extent& extent : extents) {
    const uint64_t begin = uint64_t{extent.first_block} * kBlockBytes;
    const uint64_t extent_end = std::min(uint64_t{extent.end_block()} * kBlockBytes, end);
    AppendPiece(ReadPiece{.length = static_cast<uint32_t>(begin - position)}, plan);
    Segment* const segment = segments_->FindLeased(extent.place.segment);
    if (segment == nullptr) {
      return Status(StatusCode::kCorruption, "segment " + SegmentFileName(extent.place.segment) + " is missing");
    }
    int fd = segment->file->OpenDescriptor();
    if (fd < 0 && may_open == MayOpen::kNo) return false;
    if (fd < 0) {
      ASSIGN_OR_RETURN(fd, segment->file->Descriptor());
    }
    uint32_t stored = static_cast<uint32_t>(extent_end - begin);
    if (extent.place.is_inline()) stored = std::min(stored, kInlineDataBytesMax);
    AppendPiece(ReadPiece{fd, extent.place.FilePosition(extent.first_block), stored}, plan);
    AppendPiece(ReadPiece{.length = static_cast<uint32_t>(extent_end - begin) - stored}, plan);
    position = extent_end;
  }
  AppendPiece(ReadPiece{.length = static_cast<uint32_t>(end - position)}, plan);
  return true;
}

std::optional<Result<ReadPlan>> ChunkReader::PlanInMemory(const ReadRequest& request) const {
  if (Status valid = ValidateRead(request); !valid.ok()) return Result<ReadPlan>(valid);
  const std::shared_ptr<Chunk> chunk = table_->Find(request.chunk);
  if (chunk == nullptr) return std::nullopt;
  Shape shape;
  std::optional<Result<ReadPlan>> plan = PlanLoaded(chunk.get(), request, MayOpen::kNo, &shape);
  if (!plan || shape.cut_by_view) return std::nullopt;
  return plan;
}

Result<ReadPlan> ChunkReader::Plan(const ReadRequest& request) const {
  RETURN_IF_ERROR(ValidateRead(request));
  ASSIGN_OR_RETURN(const std::shared_ptr<Chunk> chunk, loader_->Load(request.chunk));
  RETURN_IF_ERROR(loader_->LoadUnits(chunk, BlocksOf(request, request.length)));
  Shape shape;
  std::optional<Result<ReadPlan>> planned = PlanLoaded(chunk.get(), request, MayOpen::kYes, &shape);
  if (!planned) return Status(StatusCode::kUnavailable, "the map of chunk " + ToString(request.chunk) + " was put out of memory");
  if (!planned->ok()) return planned->status().WithContext("chunk " + ToString(request.chunk));
  ReadPlan plan = std::move(**planned);
  if (shape.cut_by_view) RETURN_IF_ERROR(FixTailSum(chunk.get(), request, &plan));
  return plan;
}

Status ChunkReader::FixTailSum(Chunk* chunk, const ReadRequest& request, ReadPlan* plan) const {
  const uint32_t block = static_cast<uint32_t>((request.offset + plan->length) / kBlockBytes);
  std::vector<uint8_t> bytes(kBlockBytes);
  std::vector<Extent> extents;
  uint64_t sum = 0;
  {
    // A change since the plan was made shows newer bytes here than the plan's; the client's check then fails and it asks again.
    MutexLock lock(chunk->map_mutex);
    chunk->map.Find(BlockRange{block, block + 1}, &extents);
    sum = chunk->map.SumOf(block);
  }
  if (!extents.empty()) RETURN_IF_ERROR(blocks_->ReadVerified(chunk->id, extents.front(), {&sum, 1}, bytes));
  const uint64_t cut_sum = Xxh3(std::span<const uint8_t>(bytes).first(plan->length % kBlockBytes));
  plan->sums.resize(plan->sums.size() - kSumBytes);
  AppendSum(plan->sums, cut_sum);
  return Status::Ok();
}

bool ChunkReader::IsCached(const ReadPlan& plan) {
  return std::all_of(plan.pieces.begin(), plan.pieces.end(), [](const ReadPiece& piece) {
    return piece.fd < 0 || IsInPageCache(piece.fd, piece.file_offset, piece.length);
  });
}

bool ChunkReader::ReadCached(const ReadPlan& plan, std::span<uint8_t> bytes) {
  for (const ReadPiece& piece : plan.pieces) {
    const std::span<uint8_t> part = bytes.first(piece.length);
    bytes = bytes.subspan(piece.length);
    if (piece.fd < 0) {
      std::fill(part.begin(), part.end(), 0);
    } else if (!PreadCached(piece, part)) {
      return false;
    }
  }
  return true;
}

Status ChunkReader::Read(const ReadPlan& plan, std::span<uint8_t> bytes) const {
  if (faults_->Fires(kFaultReadError)) return Status(StatusCode::kIoError, "read a segment: injected fault");
  // All of it is asked for at once, so that the disk sees the pieces together.
  if (plan.pieces.size() > 1) {
    for (const ReadPiece& piece : plan.pieces) {
      if (piece.fd >= 0) {
        (void)posix_fadvise(piece.fd, static_cast<off_t>(piece.file_offset), piece.length, POSIX_FADV_WILLNEED);
      }
    }
  }
  for (const ReadPiece& piece : plan.pieces) {
    const std::span<uint8_t> part = bytes.first(piece.length);
    bytes = bytes.subspan(piece.length);
    if (piece.fd < 0) {
      std::fill(part.begin(), part.end(), 0);
    } else {
      RETURN_IF_ERROR(PreadWaiting(piece, part));
    }
  }
  return Status::Ok();
}

Result<ReadPlan> ChunkReader::ReadVerified(const ReadRequest& request, std::vector<uint8_t>* bytes) const {
  ASSIGN_OR_RETURN(ReadPlan plan, Plan(request));
  const std::shared_ptr<Chunk> chunk = table_->FindOrMake(request.chunk);
  const BlockRange blocks = BlocksOf(request, plan.length);
  bytes->assign(size_t{blocks.end - blocks.first} * kBlockBytes, 0);
  std::vector<Extent> extents;
  std::vector<uint64_t> sums;
  {
    MutexLock lock(chunk->map_mutex);
    chunk->map.Find(blocks, &extents);
    for (uint32_t block = blocks.first; block < blocks.end; ++block) sums.push_back(chunk->map.SumOf(block));
  }
  const std::span<uint8_t> all(*bytes);
  for (const Extent& extent : extents) {
    const size_t from = extent.first_block - blocks.first;
    RETURN_IF_ERROR(blocks_->ReadFromDisk(request.chunk, extent, std::span<const uint64_t>(sums).subspan(from, extent.block_count),
                                          all.subspan(from * kBlockBytes, size_t{extent.block_count} * kBlockBytes)));
  }
  bytes->resize(plan.length);
  // Of the bytes just verified: a write since the plan was made may have changed both.
  plan.sums = ComputePieceSums(request.offset, *bytes);
  plan.pieces.clear();
  return plan;
}

Result<ChunkSums> ChunkReader::Sums(ChunkId chunk_id) const {
  ASSIGN_OR_RETURN(const std::shared_ptr<Chunk> chunk, loader_->Load(chunk_id));
  uint32_t unit_end = 0;
  {
    MutexLock lock(chunk->map_mutex);
    unit_end = chunk->head.unit_end;
  }
  RETURN_IF_ERROR(loader_->LoadUnits(chunk, BlockRange{0, unit_end * kUnitBlocks}));
  ChunkSums sums;
  MutexLock lock(chunk->map_mutex);
  sums.state = StateOf(chunk->head);
  const uint32_t blocks = BlocksFor(chunk->head.bytes);
  sums.blocks.reserve(blocks);
  for (uint32_t block = 0; block < blocks; ++block) sums.blocks.push_back(chunk->map.SumOf(block));
  return sums;
}

Result<ChunkSums> ChunkReader::SumsOfIntact(ChunkId chunk) const {
  ASSIGN_OR_RETURN(ChunkSums sums, Sums(chunk));
  constexpr uint64_t kStrideBlocks = 256;
  for (uint64_t begin = 0; begin < sums.blocks.size(); begin += kStrideBlocks) {
    const uint64_t end = std::min<uint64_t>(begin + kStrideBlocks, sums.blocks.size());
    if (ReadForCopy(chunk, begin * kBlockBytes, (end - begin) * kBlockBytes, /*from_disk=*/true).ok()) continue;
    for (uint64_t block = begin; block < end; ++block) {
      if (!ReadForCopy(chunk, block * kBlockBytes, kBlockBytes, /*from_disk=*/true).ok()) sums.blocks[block] = ~sums.blocks[block];
    }
  }
  return sums;
}

Result<std::vector<uint8_t>> ChunkReader::ReadForCopy(ChunkId chunk_id, uint64_t offset, uint64_t length, bool from_disk) const {
  if (offset % kBlockBytes != 0 || length == 0 || length > kWriteBytesMax || offset > kChunkBytesMax - length) {
    return Status(StatusCode::kInvalidArgument, "copy " + std::to_string(length) + " bytes at " + std::to_string(offset) + ": out of bounds");
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<Chunk> chunk, loader_->Load(chunk_id));
  const BlockRange range{static_cast<uint32_t>(offset / kBlockBytes), BlocksFor(offset + length)};
  RETURN_IF_ERROR(loader_->LoadUnits(chunk, range));
  // Before the map is looked at: whatever it shows then stays in place.
  const ReadLeases::Lease lease = leases_->Take();
  std::vector<Extent> extents;
  std::vector<uint64_t> sums;
  uint64_t chunk_bytes = 0;
  {
    MutexLock lock(chunk->map_mutex);
    chunk_bytes = chunk->head.bytes;
    chunk->map.Find(range, &extents);
    for (uint32_t block = range.first; block < range.end; ++block) sums.push_back(chunk->map.SumOf(block));
  }
  std::vector<uint8_t> bytes(size_t{range.end - range.first} * kBlockBytes);
  const std::span<uint8_t> all(bytes);
  for (const Extent& extent : extents) {
    const size_t from = extent.first_block - range.first;
    const std::span<const uint64_t> extent_sums = std::span<const uint64_t>(sums).subspan(from, extent.block_count);
    const std::span<uint8_t> extent_bytes = all.subspan(from * kBlockBytes, size_t{extent.block_count} * kBlockBytes);
    const Status read = from_disk ? blocks_->ReadFromDisk(chunk_id, extent, extent_sums, extent_bytes)
                                  : blocks_->ReadVerified(chunk_id, extent, extent_sums, extent_bytes);
    if (from_disk && read.code() == StatusCode::kIoError) return Status(StatusCode::kCorruption, read.message());
    RETURN_IF_ERROR(read);
  }
  bytes.resize(offset < chunk_bytes ? std::min(length, chunk_bytes - offset) : 0);
  return bytes;
}

}  // namespace tarn::store
