#include "chunkserver/store/log_scanner.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "common/base/posix_io.h"

namespace tarn::store {
namespace {

// The header at `block` with its entries, if there is one.
Result<std::optional<DecodedRecord>> ReadHeader(const Segment& segment, uint32_t block, uint32_t end_block) {
  ASSIGN_OR_RETURN(const int fd, segment.file->Descriptor());
  std::vector<uint8_t> bytes(kBlockBytes);
  const uint64_t offset = uint64_t{block} * kBlockBytes;
  RETURN_IF_ERROR(PreadFull(fd, bytes, offset, segment.file->path()));
  const std::optional<RecordHeader> peeked = PeekRecordHeader(bytes, segment.generation, block);
  if (!peeked || uint64_t{block} + peeked->header_blocks > end_block) return std::optional<DecodedRecord>();
  if (peeked->header_blocks > 1) {
    bytes.resize(size_t{peeked->header_blocks} * kBlockBytes);
    RETURN_IF_ERROR(PreadFull(fd, bytes, offset, segment.file->path()));
  }
  return DecodeRecordHeader(bytes, segment.generation, block);
}

Result<std::vector<uint8_t>> ReadData(const Segment& segment, const ScannedRecord& record) {
  ASSIGN_OR_RETURN(const int fd, segment.file->Descriptor());
  const RecordPlace place = PlaceOf(record.segment, record.header);
  std::vector<uint8_t> bytes(size_t{place.record_blocks} * kBlockBytes);
  RETURN_IF_ERROR(PreadFull(fd, std::span<uint8_t>(bytes).first(record.header.data_bytes),
                            place.FilePosition(record.header.first_block), segment.file->path()));
  return bytes;
}

}  // namespace

Status ScanSegment(const Segment& segment, uint32_t from_block, std::vector<ScannedRecord>* records) {
  ASSIGN_OR_RETURN(const uint64_t size_bytes, segment.file->SizeBytes());
  const uint32_t end_block = static_cast<uint32_t>(size_bytes / kBlockBytes);
  uint32_t block = from_block;
  uint32_t data_end = from_block;  // no hole before it
  while (block < end_block) {
    if (block >= data_end) {
      ASSIGN_OR_RETURN(const std::optional<SegmentFile::DataRange> data, segment.file->NextData(uint64_t{block} * kBlockBytes));
      if (!data) break;
      block = std::max(block, static_cast<uint32_t>(data->offset / kBlockBytes));
      data_end = BlocksFor(data->end);
      continue;
    }
    ASSIGN_OR_RETURN(std::optional<DecodedRecord> decoded, ReadHeader(segment, block, end_block));
    if (!decoded) {
      ++block;
      continue;
    }
    block += RecordBlocks(decoded->header);
    records->push_back(ScannedRecord{segment.number, decoded->header, std::move(decoded->entries)});
  }
  return Status::Ok();
}

Result<bool> VerifyData(const Segment& segment, const ScannedRecord& record) {
  const bool has_data = record.header.kind == RecordKind::kWrite || record.header.kind == RecordKind::kRewrite ||
                        record.header.kind == RecordKind::kTruncate;
  if (!has_data || record.header.data_bytes == 0) return true;
  Result<std::vector<uint8_t>> bytes = ReadData(segment, record);
  if (!bytes.ok()) {
    // Cut short: torn.
    if (bytes.status().code() == StatusCode::kCorruption) return false;
    return bytes.status();
  }
  for (size_t i = 0; i < record.entries.size(); ++i) {
    if (Xxh3(std::span<const uint8_t>(*bytes).subspan(i * kBlockBytes, kBlockBytes)) != record.entries[i]) return false;
  }
  return true;
}

Result<std::vector<Extent>> ExistingBlocks(const Segment& segment, const ScannedRecord& record) {
  std::vector<Extent> found;
  const RecordPlace place = PlaceOf(record.segment, record.header);
  if (place.record_blocks == 0) return found;
  const uint32_t first = record.header.first_block;
  if (place.is_inline()) {
    found.push_back(Extent{first, 1, place});
    return found;
  }
  const uint32_t data_block = place.header_block + place.header_blocks;
  const uint32_t data_end_block = data_block + place.record_blocks;
  for (uint32_t block = data_block; block < data_end_block;) {
    ASSIGN_OR_RETURN(const std::optional<SegmentFile::DataRange> data, segment.file->NextData(uint64_t{block} * kBlockBytes));
    if (!data) break;
    const uint32_t begin = std::max(block, static_cast<uint32_t>(data->offset / kBlockBytes));
    const uint32_t end = std::min(data_end_block, BlocksFor(data->end));
    if (begin >= end) break;
    found.push_back(Extent{first + (begin - data_block), end - begin, place});
    block = end;
  }
  return found;
}

}  // namespace tarn::store
