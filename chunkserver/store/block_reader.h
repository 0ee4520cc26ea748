// Reads stored blocks of chunks, with or without verifying their sums.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "chunkserver/store/format.h"
#include "chunkserver/store/segment_table.h"
#include "chunkserver/store/read_leases.h"
#include "chunkserver/store/store_metrics.h"
#include "common/base/status.h"
#include "common/fault/fault_points.h"

namespace tarn::store {

// Thread-safe. The caller holds a read lease or the chunk's write_mutex, so that what it reads stays in place.
class BlockReader {
 public:
  // All outlive it.
  BlockReader(SegmentTable* segments, ReadLeases* leases, fault::FaultPoints* faults, StoreMetrics* metrics)
      : segments_(segments), leases_(leases), faults_(faults), metrics_(metrics) {}

  // Whole blocks: `bytes` is extent.block_count * kBlockBytes long; inline data is padded with zeros.
  Status Read(const Extent& extent, std::span<uint8_t> bytes) const;
  // Blocks whose sum does not hold are read again past the page cache. kCorruption, naming chunk, file and position, if it still does not.
  Status ReadVerified(ChunkId chunk, const Extent& extent, std::span<const uint64_t> sums, std::span<uint8_t> bytes) const;
  // As ReadVerified, but never trusts the page cache.
  Status ReadFromDisk(ChunkId chunk, const Extent& extent, std::span<const uint64_t> sums, std::span<uint8_t> bytes) const;
  // Whether what lies on the disk is intact. What others have in the page cache stays there. kIoError: it cannot be read.
  Status Check(ChunkId chunk, const Extent& extent, std::span<const uint64_t> sums) const;

 private:
  Result<Segment*> SegmentOf(const Extent& extent) const;
  enum class Pages { kDrop, kKeep };
  Status ReadDirect(const Extent& extent, Pages pages, std::span<uint8_t> bytes) const;
  Status Verify(ChunkId chunk, const Extent& extent, std::span<const uint64_t> sums, std::span<const uint8_t> bytes) const;

  SegmentTable* const segments_;
  ReadLeases* const leases_;
  fault::FaultPoints* const faults_;
  StoreMetrics* const metrics_;
};

}  // namespace tarn::store
