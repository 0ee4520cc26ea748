// The chunk store of one target: a directory on ext4 or XFS that keeps chunks in log-structured segments (docs/formats.md, "Chunk store").
//
// Promises: a write is readable when it returns and on stable storage after the next commit; after any crash each write is whole or absent,
// each durable one is there, and the writes of a chunk survive in their order. Space of what is deleted or overwritten goes back to the file
// system. Data that fails its checksum is never passed off as good.
//
//   <directory>/TARGET      whose directory this is
//   <directory>/LOCK        held while a server uses it
//   <directory>/CLEAN       there only after a clean shutdown
//   <directory>/segments/   the log
//   <directory>/index/      where chunks lie in it (RocksDB); can be rebuilt from the log
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chunkserver/store/chunk_lister.h"
#include "chunkserver/store/chunk_reader.h"
#include "chunkserver/store/chunk_writer.h"
#include "chunkserver/store/replica_store.h"
#include "chunkserver/store/scrubber.h"
#include "chunkserver/store/segment_file.h"
#include "chunkserver/store/store_metrics.h"
#include "chunkserver/store/target_identity.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "common/fault/fault_points.h"

namespace tarn::store {

struct StoreOptions {
  std::string directory;
  uint64_t reserve_bytes = 0;  // 0: computed from the file system's size
  uint64_t segment_bytes = 0;  // 0: likewise
  uint64_t cache_bytes = 256u << 20;  // chunk maps and the index's blocks
  bool rebuild_index = false;
  // Off in tests that call Maintain() themselves. Commits have their thread in any case.
  bool background_maintenance = true;
  int64_t commit_interval_ms = 1'000;
  int64_t checkpoint_interval_ms = 10'000;
  uint64_t dirty_bytes_max = 64u << 20;
  size_t segment_descriptors_max = 4'096;
  uint64_t scrub_bytes_per_second = 32u << 20;  // 0: only rounds that are asked for
  int64_t scrub_interval_ms = int64_t{7} * 24 * 3'600'000;
};

// All outlive the store.
struct StoreEnvironment {
  Random* random = nullptr;
  const Clock* clock = nullptr;
  fault::FaultPoints* faults = nullptr;
  // Empty: OpenPosixSegmentDirectory.
  std::function<Result<std::unique_ptr<SegmentDirectory>>(const std::string& path)> open_segments;
};

struct SpaceReport {
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;       // by this target
  uint64_t available_bytes = 0;  // for data: the reserve deducted
  uint64_t chunk_count = 0;      // as of the last checkpoint
};

struct ChunkInfo {
  uint32_t index = 0;
  uint64_t bytes = 0;
  ChunkStamp stamp;
};

struct WriteOutcome {
  uint64_t version = 0;
  uint64_t chunk_bytes = 0;
};

// Thread-safe. What replication needs of it is ReplicaStore.
class ChunkStore : public ReplicaStore {
 public:
  // Makes a new target in a directory that is missing or empty. Refuses, with one line that names the file: a directory in use (kBusy), one
  // that is no target's or is damaged (kCorruption).
  static Result<std::unique_ptr<ChunkStore>> Open(const StoreOptions& options, const StoreEnvironment& environment);
  // Without Close: as after a crash; what was not committed may be lost.
  ~ChunkStore() override = default;
  ChunkStore(const ChunkStore&) = delete;
  ChunkStore& operator=(const ChunkStore&) = delete;
  // Makes everything durable and indexed. No other call may be running or follow.
  virtual Status Close() = 0;

  virtual TargetIdentity identity() const = 0;
  // At the registration. kPermission if the target belongs to another cluster or has other ids.
  virtual Status Adopt(const std::string& cluster_id, ServerId server, TargetId target) = 0;
  // Whether the last stop was a clean one (a new directory: true).
  virtual bool was_clean() const = 0;

  // See ChunkWriter and ChunkReader. All but PlanReadInMemory may block. Write: kCorruption if the payload does not fit its sums.
  // Of a single copy: changes of no epoch and no group.
  Result<WriteOutcome> Write(const WriteRequest& request);
  Status Truncate(ChunkId chunk, const WriterIdentity& writer, const TruncateView& view);
  virtual std::optional<Result<ReadPlan>> PlanReadInMemory(const ReadRequest& request) = 0;
  virtual Result<ReadPlan> PlanRead(const ReadRequest& request) = 0;
  virtual Status ReadPlanned(const ReadRequest& request, const ReadPlan& plan, std::span<uint8_t> bytes) = 0;
  virtual Result<ReadPlan> ReadVerified(const ReadRequest& request, std::vector<uint8_t>* bytes) = 0;
  // kOk: gone for readers; durably with the next commit.
  virtual Status DeleteData(std::span<const DataId> data) = 0;
  virtual Result<std::vector<ChunkInfo>> StatData(DataId data) = 0;

  // Everything that returned before this call is on stable storage when `callback` runs (on the commit thread: it must not block).
  void WhenDurable(std::function<void(Status)> callback) override = 0;
  virtual Status Commit() = 0;

  // Not ok: the disk has failed writes and nothing is taken any more until the target is opened again (or, if it is the index that cannot be
  // written, until it can). What can be read is read.
  virtual Status health() const = 0;
  virtual Result<SpaceReport> Space() = 0;
  virtual const StoreMetrics& metrics() const = 0;

  // See ChunkLister.
  virtual Result<DataIdPage> ListDataIds(std::optional<DataId> after, size_t entries_max) = 0;

  // See Scrubber.
  virtual void StartScrub() = 0;
  virtual ScrubProgress scrub_progress() const = 0;
  virtual void OnDamage(std::function<void(ChunkId, GroupId)> listener) = 0;

  // One round of the background work, a checkpoint included; a whole round of scrubbing, or its next batch (true: it was the last one).
  // Only without background_maintenance.
  virtual Status Maintain() = 0;
  virtual Status Scrub() = 0;
  virtual Result<bool> ScrubBatch() = 0;

 protected:
  ChunkStore() = default;
};

}  // namespace tarn::store
