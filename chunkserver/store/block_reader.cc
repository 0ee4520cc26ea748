#include "chunkserver/store/block_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "chunkserver/store/page_residency.h"
#include "chunkserver/store/segment_log.h"
#include "common/base/buffer.h"

namespace tarn::store {
namespace {

std::optional<uint32_t> FirstBadBlock(std::span<const uint64_t> sums, std::span<const uint8_t> bytes) {
  for (size_t i = 0; i < sums.size(); ++i) {
    if (Xxh3(bytes.subspan(i * kBlockBytes, kBlockBytes)) != sums[i]) return static_cast<uint32_t>(i);
  }
  return std::nullopt;
}

// The file range that holds the extent, in whole blocks.
struct FileRange {
  uint64_t offset = 0;
  uint64_t length = 0;
};

FileRange BlocksOnDisk(const Extent& extent) {
  if (extent.place.is_inline()) return {uint64_t{extent.place.header_block} * kBlockBytes, kBlockBytes};
  return {extent.place.FilePosition(extent.first_block), uint64_t{extent.block_count} * kBlockBytes};
}

// What lies behind the end of the file was never written: a segment's last record may end within a block.
Status PreadZeroFilled(int fd, std::span<uint8_t> bytes, uint64_t offset, const std::string& path) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Status::FromErrno(errno, "read " + path + " at " + std::to_string(offset + done));
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  std::fill(bytes.begin() + static_cast<ptrdiff_t>(done), bytes.end(), 0);
  return Status::Ok();
}

}  // namespace

Result<Segment*> BlockReader::SegmentOf(const Extent& extent) const {
  Segment* segment = segments_->FindLeased(extent.place.segment);
  if (segment == nullptr) {
    return Status(StatusCode::kCorruption, "segment " + SegmentFileName(extent.place.segment) + " is missing");
  }
  return segment;
}

Status BlockReader::Read(const Extent& extent, std::span<uint8_t> bytes) const {
  CHECK(bytes.size() == size_t{extent.block_count} * kBlockBytes, "whole blocks are read");
  const ReadLeases::Lease lease = leases_->Take();  // for the descriptor
  ASSIGN_OR_RETURN(Segment* const segment, SegmentOf(extent));
  ASSIGN_OR_RETURN(const int fd, segment->file->Descriptor());
  if (faults_->Fires(kFaultReadError)) return Status(StatusCode::kIoError, "read " + segment->file->path() + ": injected fault");
  const uint64_t position = extent.place.FilePosition(extent.first_block);
  if (extent.place.is_inline()) {
    RETURN_IF_ERROR(PreadZeroFilled(fd, bytes.first(kInlineDataBytesMax), position, segment->file->path()));
    std::fill(bytes.begin() + kInlineDataBytesMax, bytes.end(), 0);
    return Status::Ok();
  }
  return PreadZeroFilled(fd, bytes, position, segment->file->path());
}

Status BlockReader::ReadVerified(ChunkId chunk, const Extent& extent, std::span<const uint64_t> sums, std::span<uint8_t> bytes) const {
  RETURN_IF_ERROR(Read(extent, bytes));
  if (!FirstBadBlock(sums, bytes)) return Status::Ok();
  RETURN_IF_ERROR(ReadFromDisk(chunk, extent, sums, bytes));
  metrics_->page_cache_errors.fetch_add(1, std::memory_order_relaxed);
  return Status::Ok();
}

Status BlockReader::ReadFromDisk(ChunkId chunk, const Extent& extent, std::span<const uint64_t> sums, std::span<uint8_t> bytes) const {
  RETURN_IF_ERROR(ReadDirect(extent, Pages::kDrop, bytes));
  Status verified = Verify(chunk, extent, sums, bytes);
  if (!verified.ok()) metrics_->checksum_errors.fetch_add(1, std::memory_order_relaxed);
  return verified;
}

Status BlockReader::Check(ChunkId chunk, const Extent& extent, std::span<const uint64_t> sums) const {
  Buffer bytes(size_t{extent.block_count} * kBlockBytes);
  RETURN_IF_ERROR(ReadDirect(extent, Pages::kKeep, bytes.span()));
  return Verify(chunk, extent, sums, bytes.span());
}

Status BlockReader::Verify(ChunkId chunk, const Extent& extent, std::span<const uint64_t> sums, std::span<const uint8_t> bytes) const {
  const std::optional<uint32_t> bad = FirstBadBlock(sums, bytes);
  if (!bad) return Status::Ok();
  ASSIGN_OR_RETURN(Segment* const segment, SegmentOf(extent));
  const uint32_t block = extent.first_block + *bad;
  return Status(StatusCode::kCorruption, "chunk " + ToString(chunk) + " block " + std::to_string(block) + ": the checksum does not hold, " +
                                             segment->file->path() + " at byte " +
                                             std::to_string(extent.place.FilePosition(block)));
}

Status BlockReader::ReadDirect(const Extent& extent, Pages pages, std::span<uint8_t> bytes) const {
  const ReadLeases::Lease lease = leases_->Take();  // for the descriptor
  ASSIGN_OR_RETURN(Segment* const segment, SegmentOf(extent));
  ASSIGN_OR_RETURN(const int cached, segment->file->Descriptor());
  const FileRange range = BlocksOnDisk(extent);
  // A direct read first writes out what is dirty in its range. (No fdatasync here: it would swallow an error that the log must see.)
  // The clean pages are dropped for the sake of later readers, and where the file system has no direct reads.
  const auto drop_pages = [&] {
    (void)posix_fadvise(cached, static_cast<off_t>(range.offset), static_cast<off_t>(range.length), POSIX_FADV_DONTNEED);
  };
  if (pages == Pages::kDrop) drop_pages();
  Buffer blocks(range.length);
  const Result<UniqueFd> direct = segment->file->OpenDirect();
  const int fd = direct.ok() ? direct->get() : cached;
  if (faults_->Fires(kFaultReadError)) return Status(StatusCode::kIoError, "read " + segment->file->path() + ": injected fault");
  // Without direct reads, pages that nobody else had wanted go again.
  const bool leaves_pages = !direct.ok() && pages == Pages::kKeep && !IsInPageCache(cached, range.offset, range.length);
  RETURN_IF_ERROR(PreadZeroFilled(fd, blocks.span(), range.offset, segment->file->path()));
  if (leaves_pages) drop_pages();
  if (extent.place.is_inline()) {
    std::copy_n(blocks.data() + kInlineDataOffset, kInlineDataBytesMax, bytes.begin());
    std::fill(bytes.begin() + kInlineDataBytesMax, bytes.end(), 0);
  } else {
    std::copy_n(blocks.data(), bytes.size(), bytes.begin());
  }
  return Status::Ok();
}

}  // namespace tarn::store
