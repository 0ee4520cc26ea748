// Finds the records of a segment, for recovery.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "chunkserver/store/format.h"
#include "chunkserver/store/segment_table.h"
#include "common/base/status.h"

namespace tarn::store {

struct ScannedRecord {
  SegmentNumber segment;
  RecordHeader header;
  std::vector<uint64_t> entries;

  DeadRange Range() const { return {segment, header.header_block, RecordBlocks(header)}; }
};

// Appends every record with an intact header from `from_block` on. Bytes that are none are stepped over: they were never acknowledged as durable,
// or the caller misses their sequence. Holes are skipped without reading.
Status ScanSegment(const Segment& segment, uint32_t from_block, std::vector<ScannedRecord>* records);

// Whether the record's data is all there; kIoError if it cannot be read.
Result<bool> VerifyData(const Segment& segment, const ScannedRecord& record);

// The data blocks of the record that are not holes, as chunk blocks. What was punched is dead.
Result<std::vector<Extent>> ExistingBlocks(const Segment& segment, const ScannedRecord& record);

}  // namespace tarn::store
