// Reads everything that a target stores, round after round, and finds what has been damaged since it was written.
//
// A round walks the index in the order of chunks and reads each extent past the page cache, at a bounded rate. What the index says is always
// intact on the disk, even where memory knows of something newer: space is given back only when the index does not name it any more and every
// read lease from before is gone (reclaimer.h). So the walk asks no chunk in memory and loads none, and disturbs no reader.
// Where a round is, and what was counted, is kept in the index; it is durable with a later checkpoint.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <thread>

#include "chunkserver/store/block_reader.h"
#include "chunkserver/store/chunk_loader.h"
#include "chunkserver/store/damaged_chunks.h"
#include "chunkserver/store/format.h"
#include "chunkserver/store/index.h"
#include "chunkserver/store/read_leases.h"
#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/base/status.h"

namespace tarn::store {

struct ScrubberOptions {
  // 0: no rounds but those that RunRound makes.
  uint64_t bytes_per_second = 32u << 20;
  // From the end of a round to the beginning of the next. A new target waits as long for its first.
  int64_t interval_ms = int64_t{7} * 24 * 3'600'000;
  bool with_thread = true;
};

struct ScrubProgress {
  uint64_t bytes_checked = 0;  // in this round, or the last one
  uint64_t bytes_total = 0;    // about
  uint64_t errors_found = 0;   // damaged chunks, since the target was made
  uint64_t errors_repaired = 0;
  int64_t last_round_ended_ns = 0;  // since the epoch; 0: none yet
  int64_t next_round_ns = 0;        // since the epoch; 0: one is under way, or only on request
  bool running = false;
};

// All outlive it.
struct ScrubberParts {
  Index* index = nullptr;
  ChunkLoader* loader = nullptr;
  const BlockReader* blocks = nullptr;
  DamagedChunks* damaged = nullptr;
  const ReadLeases* leases = nullptr;
  const Clock* clock = nullptr;
  std::function<uint64_t()> stored_bytes;  // an estimate for bytes_total
};

// Thread-safe.
class Scrubber {
 public:
  Scrubber(ScrubberParts parts, const ScrubberOptions& options) : parts_(std::move(parts)), options_(options) {}
  // Joins.
  ~Scrubber();
  Scrubber(const Scrubber&) = delete;
  Scrubber& operator=(const Scrubber&) = delete;

  // Takes over what the index remembers, and begins.
  Status Load();
  // Ends the thread; what it has done is in the index.
  void Stop();

  // A round as soon as may be. One that is under way goes on.
  void StartRound();
  ScrubProgress progress() const;
  // Told of every damaged chunk, on the scrubber's thread: when it is found, once more for each process, and once more in each round that
  // finds it still damaged. It must not block. When this returns, the listener before it is not running any more.
  using DamageListener = std::function<void(ChunkId, GroupId)>;
  void SetListener(DamageListener listener);
  // Looks at the chunk soon: somebody met damage in it, or mended it. Dropped if too many wait.
  void Suspect(ChunkId chunk);

  // Without a thread only: a whole round, or the rest of one, and all suspects; or one batch of it (true: the round is over). Without rate.
  Status RunRound();
  Result<bool> RunBatch();
  // All that wait now, on the caller's thread.
  Status RunSuspects();
  // Reads the chunk now, and counts what becomes of it.
  Status Judge(ChunkId chunk);

 private:
  // What a batch costs against the rate: its bytes and, for the disk's sake, something for each read.
  struct Batch {
    uint64_t bytes = 0;
    uint64_t cost = 0;
    bool is_end = false;
    std::set<ChunkId> suspects;
    std::string position;
  };

  void Run();
  // What is due now; how long to wait after it. Without mutex_.
  Result<int64_t> RunDue();
  void BeginRound();
  Result<bool> Advance(uint64_t* cost);
  Status CheckBatch(const std::string& position, Batch* batch) const;
  // False: something of the unit is damaged or cannot be read.
  bool IsIntact(ChunkId chunk, const UnitValue& unit, Batch* batch) const;
  Result<bool> IsIntactNow(ChunkId chunk, GroupId* group, bool* exists) const;
  Status EndRound();
  void Report();
  bool is_due() const REQUIRES(mutex_);
  Status Store();

  const ScrubberParts parts_;
  const ScrubberOptions options_;
  bool failure_is_logged_ = false;  // of the thread that runs

  mutable Mutex mutex_;
  CondVar wake_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool round_is_wanted_ GUARDED_BY(mutex_) = false;
  ScrubValue state_ GUARDED_BY(mutex_);
  std::set<ChunkId> suspects_ GUARDED_BY(mutex_);
  bool has_new_listener_ GUARDED_BY(mutex_) = false;

  Mutex listener_mutex_;  // held while the listener runs
  DamageListener listener_ GUARDED_BY(listener_mutex_);

  std::thread thread_;
};

}  // namespace tarn::store
