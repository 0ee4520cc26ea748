// The log: where new records go, in which order, and how far they are durable.
//
// One segment at a time is written; records are dealt out places and sequences in one order, written by their owners in any order, and
// completed. Invariant: `durable_through` never passes a record that is not both complete and synced.
// After a failed sync nothing is known about what is on the disk: the log then refuses everything until the store is opened again.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chunkserver/store/format.h"
#include "chunkserver/store/segment_file.h"
#include "chunkserver/store/segment_table.h"
#include "common/base/mutex.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "common/fault/fault_points.h"

namespace tarn::store {

inline constexpr fault::FaultPointName kFaultSkipSync{"store.skip_sync"};
inline constexpr fault::FaultPointName kFaultSyncError{"store.sync_error"};
inline constexpr fault::FaultPointName kFaultWriteError{"store.write_error"};
inline constexpr fault::FaultPointName kFaultReadError{"store.read_error"};
inline constexpr fault::FaultPointName kFaultCrashAfterData{"store.crash_after_data"};

struct SegmentLogOptions {
  uint64_t segment_bytes = 256u << 20;
  uint64_t reserve_bytes = 0;  // of the file system, kept free of data
  std::array<uint8_t, 16> target_uuid{};
};

// May a record take space that is kept free: deletions, truncations and checkpoints may, or a full target could never be emptied. A member
// takes half of it for writes that its primary has admitted, since a write that fails at one member costs more than it saves.
enum class SpaceClass { kData, kReplica, kReserved };

struct Reservation {
  std::shared_ptr<Segment> segment;
  uint32_t header_block = 0;
  uint32_t blocks = 0;
  RecordSequence sequence;
  RecordSequence durable_through;
};

// Thread-safe.
class SegmentLog {
 public:
  // Told of every new segment before its first record: the index must know it. Called on the thread that reserves.
  using SegmentCreated = std::function<Status(const Segment&)>;

  // All pointers outlive the log.
  SegmentLog(const SegmentLogOptions& options, SegmentDirectory* directory, SegmentTable* table, Random* random, fault::FaultPoints* faults);


  // kNoSpace: the file system is as full as it may get. Each reservation must be completed, or the log's positions stand still.
  Result<Reservation> Reserve(uint32_t blocks, SpaceClass space);
  // Fills in segment generation, place, sequence and durable_through; writes header and data. A failed record is made void: nothing of it will
  // be found again. In either case the next Sync takes care of it: what the caller then does with its place may be stored by a checkpoint.
  Status WriteRecord(const Reservation& reservation, RecordHeader header, std::span<const uint64_t> entries, std::span<const iovec> data);
  // The record is written and the chunk's map knows of it (or it failed).
  void Complete(const Reservation& reservation);

  // Syncs everything completed so far. The committer only: nobody else syncs a segment of the log, for the kernel tells of an error only once,
  // and whoever hears of it must be the one who acknowledges.
  Status Sync();
  // The next Sync syncs this segment, whose holes were punched.
  void SyncNext(const std::shared_ptr<Segment>& segment);
  uint64_t unsynced_bytes() const { return unsynced_bytes_.load(std::memory_order_relaxed); }
  RecordSequence durable_through() const;

  // Where a scan for records above `through` must begin.
  struct Position {
    RecordSequence through;  // every record up to this one is complete
    RecordSequence next_sequence;
    SegmentNumber next_segment;
    struct Tail {
      SegmentNumber segment;
      SegmentValue value;
    };
    std::vector<Tail> tails;  // of the segments written to since the last call of PositionIsDurable
  };
  // Before the first reservation. `recovered` are segments that the index does not yet know the ends of.
  void Start(RecordSequence next_sequence, SegmentNumber next_segment, std::vector<Position::Tail> recovered, SegmentCreated created);
  Position CurrentPosition() const;
  // That position was stored: its full segments need not be mentioned again.
  void PositionIsDurable(const Position& position);

  // Makes the next segment ahead of need, if the current one is more than half full. For the maintenance thread.
  void PrepareSpare();
  // Gives the unused ends of full segments back to the file system and says of which. For the maintenance thread.
  std::vector<SegmentNumber> TrimFullSegments();
  // Of the segments that exist: space that is taken from the file system and free for records of SpaceClass::kData, the largest ones included.
  // What a segment that is being made will have counts from the beginning.
  uint64_t UnusedBytes() const;
  // Only a segment that no record will be added to may be removed.
  bool IsWritable(SegmentNumber number) const;
  // No record will be added and nothing is left to be synced.
  bool IsAtRest(const Segment& segment) const;

  const SegmentLogOptions& options() const { return options_; }
  // The error that stopped the log, or ok.
  Status failure() const;

 private:
  struct OpenSegmentState {
    std::shared_ptr<Segment> segment;
    uint32_t tail_block = 1;
  };
  struct InFlight {
    SegmentNumber segment;
    uint32_t header_block = 0;
  };

  Result<std::shared_ptr<Segment>> MakeSegment(uint32_t blocks_needed, SpaceClass space, SegmentNumber number);
  Reservation TakePlace(uint32_t blocks) REQUIRES(mutex_);
  void AdoptSpare(std::shared_ptr<Segment> segment) REQUIRES(mutex_);
  RecordSequence CompleteThrough() const REQUIRES(mutex_);
  // The first block of `segment` that is not complete.
  uint32_t CompleteTail(const OpenSegmentState& state) const REQUIRES(mutex_);
  void MakeVoid(const Reservation& reservation);
  // Stops the log: what is on the disk is not known any more.
  void Fail(const Status& status);
  bool HasRoom(const Segment& segment, uint32_t tail_block, uint32_t blocks, SpaceClass space) const;

  // Immutable after Start.
  const SegmentLogOptions options_;
  SegmentDirectory* const directory_;
  SegmentTable* const table_;
  Random* const random_;
  fault::FaultPoints* const faults_;
  SegmentCreated created_;

  std::atomic<uint64_t> unsynced_bytes_{0};

  mutable Mutex mutex_;
  CondVar segment_made_;
  bool making_segment_ GUARDED_BY(mutex_) = false;
  uint64_t bytes_in_making_ GUARDED_BY(mutex_) = 0;
  std::optional<OpenSegmentState> active_ GUARDED_BY(mutex_);
  std::shared_ptr<Segment> spare_ GUARDED_BY(mutex_);
  std::vector<OpenSegmentState> full_since_checkpoint_ GUARDED_BY(mutex_);
  std::vector<Position::Tail> recovered_ GUARDED_BY(mutex_);
  std::vector<OpenSegmentState> to_trim_ GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Segment>> unsynced_ GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Segment>> syncing_ GUARDED_BY(mutex_);  // of the sync that runs, or of the one that failed
  std::map<RecordSequence, InFlight> in_flight_ GUARDED_BY(mutex_);
  RecordSequence next_sequence_ GUARDED_BY(mutex_) = RecordSequence(1);
  SegmentNumber next_segment_ GUARDED_BY(mutex_) = SegmentNumber(1);
  RecordSequence durable_through_ GUARDED_BY(mutex_);
  uint64_t writeback_from_ GUARDED_BY(mutex_) = 0;  // byte of the active segment up to which writing to disk was begun
  Status failure_ GUARDED_BY(mutex_);
};

}  // namespace tarn::store
