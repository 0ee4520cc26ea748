// Gives dead space back to the file system, when and only when nothing needs it any more.
//
// The order that keeps every crash harmless:
//   1. a change makes space dead; the index batch that stores the change names that space (checkpoint k)
//   2. once checkpoint k covers the killing record, a checkpoint record in the log says so, and all reads from before are over: punched, synced
//   3. checkpoint k+1 forgets the names; the tombstones of checkpoint k have nothing left to kill and become dead space themselves
//   4. a segment without any data is named for removal: checkpoint k+2 forgets it, then its file is unlinked
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <vector>

#include "chunkserver/store/chunk.h"
#include "chunkserver/store/committer.h"
#include "chunkserver/store/format.h"
#include "chunkserver/store/read_leases.h"
#include "chunkserver/store/segment_log.h"
#include "chunkserver/store/segment_table.h"
#include "chunkserver/store/store_metrics.h"
#include "chunkserver/store/tombstones.h"
#include "common/base/mutex.h"
#include "common/base/status.h"

namespace tarn::store {

// Dead space that the index names under `key`.
struct NamedDeadSpace {
  uint64_t key = 0;
  DeadSpace space;
};

// One thread at a time (the maintenance thread), but for the constructor's.
class Reclaimer {
 public:
  // From then on holes are punched as fast as possible: so many wait (12 bytes each), or less than this part of the
  // space is free.
  static constexpr size_t kHolesWaitingMax = 2'000'000;
  static constexpr uint64_t kShareFreeMin = 10;

  // All outlive it.
  Reclaimer(SegmentDirectory* directory, SegmentTable* segments, SegmentLog* log, Committer* committer, ReadLeases* leases,
            StoreMetrics* metrics)
      : directory_(directory), segments_(segments), log_(log), committer_(committer), leases_(leases), metrics_(metrics) {}

  // What the next checkpoint has to store for it.
  struct Owed {
    std::vector<uint64_t> forgotten_keys;
    std::vector<Tombstone> forgotten_tombstones;
    std::vector<DeadRange> new_dead;  // to be named, killed by nothing: may go as soon as they are named
    std::vector<SegmentNumber> forgotten_segments;
  };
  const Owed& owed() const { return owed_; }
  // Whether another checkpoint would get anything on.
  bool needs_checkpoint() const {
    const bool is_held_up = !batches_.empty() && batches_.front().killed_through > durable_checkpoint_;
    return is_held_up || !owed_.forgotten_tombstones.empty() || !owed_.forgotten_segments.empty();
  }

  // A checkpoint through `through` is durable, with all that was owed, `dead` and `tombstones` in it.
  void CheckpointIsDurable(RecordSequence through, const std::vector<NamedDeadSpace>& dead, std::vector<Tombstone> tombstones);
  // A record that no rebuild needs any more; dead with the next checkpoint.
  void AddDead(const DeadRange& range) { owed_.new_dead.push_back(range); }
  // Segments that may be empty.
  void NoteSegments(const std::vector<SegmentNumber>& numbers) { candidates_.insert(numbers.begin(), numbers.end()); }

  // Punches what may go by now, but no more than `holes_max` holes unless space is short or too much waits, and looks
  // which segments are empty. Never waits for readers.
  //
  // A hole costs the file system a transaction and writers of the segment a wait, however small it is: punched as fast
  // as they come, the holes of scattered overwrites take more time than the overwrites.
  Status Run(size_t holes_max = SIZE_MAX);
  bool idle() const { return batches_.empty(); }

 private:
  struct FreeBatch {
    std::vector<uint64_t> keys;  // that name the dead space
    std::vector<Tombstone> tombstones;
    RecordSequence killed_through;
    ReadLeases::Barrier readers;
    std::vector<DeadRange> holes;  // in order, neighbours joined
    size_t punched = 0;            // of the holes
  };
  // Goes on with the batch. False: it was not finished, since `*holes_left` is 0.
  Result<bool> Free(FreeBatch& batch, size_t* holes_left);
  bool MustHurry() const;
  Status FindEmptySegments();
  void RemoveForgottenSegments();

  SegmentDirectory* const directory_;
  SegmentTable* const segments_;
  SegmentLog* const log_;
  Committer* const committer_;
  ReadLeases* const leases_;
  StoreMetrics* const metrics_;

  Owed owed_;
  std::deque<FreeBatch> batches_;
  size_t holes_waiting_ = 0;  // in batches_
  std::set<SegmentNumber> candidates_;
  RecordSequence durable_checkpoint_;
};

}  // namespace tarn::store
