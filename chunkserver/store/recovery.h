// Brings a target back after any stop: reads the index's checkpoint, scans what the log has behind it, and replays that.
//
// What it keeps: every record up to the highest one known to be durable, or it refuses to go on; behind that, for each chunk, the longest
// unbroken sequence of whole records. What it drops is punched before anything new is written, so that it can never come back.
// With `rebuild` the index is empty and all of the log is replayed.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "chunkserver/store/checkpointer.h"
#include "chunkserver/store/chunk_changes.h"
#include "chunkserver/store/chunk_loader.h"
#include "chunkserver/store/index.h"
#include "chunkserver/store/log_scanner.h"
#include "chunkserver/store/reclaimer.h"
#include "chunkserver/store/segment_file.h"
#include "chunkserver/store/segment_table.h"
#include "chunkserver/store/tombstones.h"
#include "common/base/status.h"

namespace tarn::store {

// All outlive it.
struct RecoveryParts {
  SegmentDirectory* directory = nullptr;
  SegmentTable* segments = nullptr;
  ChunkTable* table = nullptr;
  ChunkLoader* loader = nullptr;
  Index* index = nullptr;
  Checkpointer* checkpointer = nullptr;
  Tombstones* tombstones = nullptr;
  StoreMetrics* metrics = nullptr;
};

struct RecoveryOptions {
  std::array<uint8_t, 16> target_uuid{};
  bool rebuild = false;
  // The index was complete at some time: one without a checkpoint is then damage.
  bool index_is_expected = false;
  // Replayed chunks are moved to the index when they take more memory than this (rebuild only).
  uint64_t dirty_bytes_max = 64u << 20;
  // Beyond so many segments they are closed from time to time.
  size_t segment_descriptors_max = 4'096;
};

struct RecoveryResult {
  RecordSequence next_sequence{1};
  SegmentNumber next_segment{1};
  uint64_t next_dead_key = 1;
  RecordSequence checkpoint;            // what the index covered
  std::vector<NamedDeadSpace> dead;     // named before the stop and perhaps not punched
  std::vector<Tombstone> tombstones;    // of the last checkpoint
  std::vector<DeadRange> obsolete;      // checkpoint and void records that were found
  std::vector<SegmentNumber> segments;  // all of them: some may turn out empty
  std::vector<SegmentLog::Position::Tail> tails;  // of those that were scanned: no record lies behind any more
  bool is_as_checkpointed = true;       // nothing but the checkpoint's own record lies behind it
  uint64_t records_replayed = 0;
  uint64_t records_dropped = 0;
};

// One thread, once.
class Recovery {
 public:
  Recovery(const RecoveryParts& parts, const RecoveryOptions& options) : parts_(parts), options_(options) {}
  Result<RecoveryResult> Run();

 private:
  enum class Verdict { kApply, kSkip, kDrop };

  Status LoadCheckpoint();
  Status OpenSegments();
  Status OpenUnknownSegment(SegmentNumber number);
  Status Scan();
  Status CheckNothingDurableIsMissing() const;
  Status VerifyTails();
  Status StoreZeros(const Segment& segment, const ScannedRecord& record);
  Status Replay();
  Status ReplayChange(const ScannedRecord& record);
  Result<Verdict> Judge(const ScannedRecord& record, const ChunkHead& head);
  Status ApplyRecord(const std::shared_ptr<Chunk>& chunk, const ScannedRecord& record);
  Status ApplyPresentBlocks(const std::shared_ptr<Chunk>& chunk, const ScannedRecord& record);
  Status ReplayDeletion(const ScannedRecord& record);
  // Punches everything scanned that no kept record owns, gives back unused ends, and makes all of it durable.
  Status CleanSegments();
  Status CleanSegment(const Segment& segment, uint32_t from_block, std::vector<DeadRange> kept);

  // Nobody else has a descriptor yet, and nothing was written that is not synced.
  void CloseSegmentsIfMany();

  const RecoveryParts parts_;
  const RecoveryOptions options_;
  RecoveryResult result_;
  std::map<SegmentNumber, SegmentValue> named_;  // by the index
  std::map<SegmentNumber, uint32_t> scan_from_;
  std::vector<ScannedRecord> records_;           // above the checkpoint, by sequence
  std::map<SegmentNumber, std::vector<DeadRange>> indexed_;  // records that the scan met but the checkpoint covers
  std::set<RecordSequence> torn_;
  std::set<RecordSequence> dropped_;
  std::unordered_map<DataId, RecordSequence> deleted_by_;  // the last deletion in records_
  std::set<ChunkId> broken_chunks_;              // rebuild: a record of it was torn
  RecordSequence durable_;
};

}  // namespace tarn::store
