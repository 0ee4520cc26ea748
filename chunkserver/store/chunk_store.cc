#include "chunkserver/store/chunk_store.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "chunkserver/store/checkpointer.h"
#include "chunkserver/store/clean_mark.h"
#include "chunkserver/store/damaged_chunks.h"
#include "chunkserver/store/data_deleter.h"
#include "chunkserver/store/maintenance.h"
#include "chunkserver/store/recovery.h"
#include "chunkserver/store/target_directory.h"
#include "common/base/posix_io.h"

namespace tarn::store {
namespace {

constexpr uint64_t kMiB = 1 << 20;
// Units with more extents than this are rewritten in the background.
constexpr size_t kExtentsPerUnitMax = 64;

// On a large disk segments are larger, so that about this many hold all of it: each has a descriptor in turn, and is asked for its size.
constexpr uint64_t kSegmentsOnLargeDisk = 8'192;

uint64_t SegmentBytesFor(uint64_t capacity_bytes) {
  const uint64_t usual = std::clamp(capacity_bytes / 16 / kMiB * kMiB, 8 * kMiB, 256 * kMiB);
  return std::max(usual, std::min(capacity_bytes / kSegmentsOnLargeDisk / kMiB * kMiB, 4'096 * kMiB));
}

// Room for the index and for tombstones, so that a full target can still be emptied; and file systems suffer when they are full to the brim.
// More than a metadata server on the same disk needs to go on: without it nothing can be removed.
uint64_t ReserveBytesFor(uint64_t capacity_bytes) {
  return std::min(std::max(512 * kMiB, capacity_bytes / 50), capacity_bytes / 8);
}

class LogStructuredStore final : public ChunkStore {
 public:
  LogStructuredStore(const StoreOptions& options, const StoreEnvironment& environment, std::unique_ptr<TargetDirectory> directory)
      : options_(options), environment_(environment), target_(std::move(directory)) {}

  ~LogStructuredStore() override {
    // Threads first: they use everything else.
    scrubber_.reset();
    maintenance_.reset();
    committer_.reset();
  }

  Status Start();

  Status Close() override;
  TargetIdentity identity() const override { return target_->identity(); }
  Status Adopt(const std::string& cluster_id, ServerId server, TargetId target) override {
    return target_->Adopt(cluster_id, server, target);
  }
  bool was_clean() const override { return target_->was_clean(); }

  Result<ChangeOutcome> ApplyWrite(const WriteRequest& request, const ChangeContext& context) override;
  Result<ChangeOutcome> ApplyTruncate(ChunkId chunk, const WriterIdentity& writer, const TruncateView& view, const ChangeContext& context) override;
  Result<ChunkState> StateOf(ChunkId chunk) override;
  Result<ChunkSums> SumsOf(ChunkId chunk) override { return reader_->Sums(chunk); }
  Result<ChunkSums> SumsToInstall(ChunkId chunk) override { return damaged_->Contains(chunk) ? reader_->SumsOfIntact(chunk) : reader_->Sums(chunk); }
  Result<std::vector<uint8_t>> ReadForCopy(ChunkId chunk, uint64_t offset, uint64_t length) override {
    return Told(chunk, reader_->ReadForCopy(chunk, offset, length, damaged_->Contains(chunk)));
  }
  Result<InventoryPage> ListGroup(GroupId group, std::optional<ChunkId> after, size_t entries_max) override {
    return lister_->ListGroup(group, after, entries_max);
  }
  Status InstallPiece(ChunkId chunk, GroupId group, uint64_t offset, std::span<const uint8_t> bytes, std::string_view piece_sums) override;
  Status InstallEnd(ChunkId chunk, const ChunkState& state) override;
  Status RecheckDamaged(ChunkId chunk) override;
  Status RemoveChunk(ChunkId chunk) override;
  std::vector<SessionWindow> WindowsOf(GroupId group) override { return windows_.Of(group); }
  void InstallWindows(GroupId group, std::span<const SessionWindow> windows, bool replace) override { windows_.Install(group, windows, replace); }
  uint64_t AvailableBytes() override;
  std::optional<Result<ReadPlan>> PlanReadInMemory(const ReadRequest& request) override { return reader_->PlanInMemory(request); }
  Result<ReadPlan> PlanRead(const ReadRequest& request) override { return Told(request.chunk, reader_->Plan(request)); }
  Status ReadPlanned(const ReadRequest& request, const ReadPlan& plan, std::span<uint8_t> bytes) override;
  Result<ReadPlan> ReadVerified(const ReadRequest& request, std::vector<uint8_t>* bytes) override {
    Result<ReadPlan> read = Told(request.chunk, reader_->ReadVerified(request, bytes));
    // Now, so that what is repaired next has been counted as damaged.
    if (IsUnreadable(read.status())) JudgeNow(request.chunk);
    return read;
  }
  Status DeleteData(std::span<const DataId> data) override { return deleter_->Delete(data); }
  Result<std::vector<ChunkInfo>> StatData(DataId data) override;

  void WhenDurable(std::function<void(Status)> callback) override { committer_->WhenDurable(std::move(callback)); }
  Status Commit() override { return committer_->Commit(); }

  Status health() const override {
    Status failure = log_->failure();
    return failure.ok() ? maintenance_->disk_failure() : failure;
  }
  Result<SpaceReport> Space() override;
  const StoreMetrics& metrics() const override { return metrics_; }
  Result<DataIdPage> ListDataIds(std::optional<DataId> after, size_t entries_max) override { return lister_->ListDataIds(after, entries_max); }

  void StartScrub() override { scrubber_->StartRound(); }
  ScrubProgress scrub_progress() const override { return scrubber_->progress(); }
  void OnDamage(std::function<void(ChunkId, GroupId)> listener) override { scrubber_->SetListener(std::move(listener)); }
  Status Maintain() override { return maintenance_->RunOnce(true); }
  Status Scrub() override { return scrubber_->RunRound(); }
  Result<bool> ScrubBatch() override { return scrubber_->RunBatch(); }

 private:
  Status OpenIndex();
  void Assemble(const FileSystemSpace& space);
  Status Recover();
  // Of the process before, if it was shut down cleanly.
  void RestoreWindows();
  uint64_t AvailableOf(const FileSystemSpace& space) const;
  // Whether it is damaged is found out and counted; a failure of the index is one of the next round, too.
  void JudgeNow(ChunkId chunk) {
    scrubber_->Suspect(chunk);
    (void)scrubber_->RunSuspects();
  }
  void QueueRewrites(ChunkId chunk_id, uint64_t offset, uint64_t length);
  Status ChangeFailed(ChunkId chunk, const Status& status);
  // Corruption is logged where it is met: someone must act.
  template <typename T>
  Result<T> Told(ChunkId chunk, Result<T> result) const {
    if (!result.ok()) return Told(chunk, result.status());
    return result;
  }
  Status Told(ChunkId chunk, const Status& status) const;

  const StoreOptions options_;
  const StoreEnvironment environment_;
  const std::unique_ptr<TargetDirectory> target_;

  // In order of construction; each uses those before it.
  StoreMetrics metrics_;
  ReadLeases leases_;
  SegmentTable segments_;
  SessionWindows windows_;
  DeadData dead_data_;
  Tombstones tombstones_;
  std::unique_ptr<SegmentDirectory> segment_directory_;
  std::unique_ptr<Index> index_;
  std::unique_ptr<ChunkTable> table_;
  std::unique_ptr<ChunkLoader> loader_;
  std::unique_ptr<SegmentLog> log_;
  std::unique_ptr<BlockReader> blocks_;
  std::unique_ptr<ChunkReader> reader_;
  std::unique_ptr<ChunkLister> lister_;
  std::unique_ptr<ChunkWriter> writer_;
  std::unique_ptr<DataDeleter> deleter_;
  std::unique_ptr<Committer> committer_;
  std::unique_ptr<Reclaimer> reclaimer_;
  std::unique_ptr<DescriptorBound> descriptors_;
  std::unique_ptr<Checkpointer> checkpointer_;
  std::unique_ptr<Maintenance> maintenance_;
  std::unique_ptr<DamagedChunks> damaged_;
  std::unique_ptr<Scrubber> scrubber_;
};

Status LogStructuredStore::Start() {
  const std::string path = target_->segments_path();
  Result<std::unique_ptr<SegmentDirectory>> segments =
      environment_.open_segments ? environment_.open_segments(path) : OpenPosixSegmentDirectory(path);
  if (!segments.ok()) return segments.status();
  segment_directory_ = std::move(*segments);
  ASSIGN_OR_RETURN(const FileSystemSpace space, segment_directory_->Space());
  RETURN_IF_ERROR(OpenIndex());
  Assemble(space);
  RETURN_IF_ERROR(Recover());
  RestoreWindows();
  maintenance_ = std::make_unique<Maintenance>(MaintenanceParts{.table = table_.get(),
                                                                .log = log_.get(),
                                                                .checkpointer = checkpointer_.get(),
                                                                .reclaimer = reclaimer_.get(),
                                                                .descriptors = descriptors_.get(),
                                                                .writer = writer_.get(),
                                                                .metrics = &metrics_,
                                                                .clock = environment_.clock},
                                               MaintenanceOptions{.checkpoint_interval_ms = options_.checkpoint_interval_ms,
                                                                  .dirty_bytes_max = options_.dirty_bytes_max,
                                                                  .with_thread = options_.background_maintenance});
  damaged_ = std::make_unique<DamagedChunks>(index_.get());
  scrubber_ = std::make_unique<Scrubber>(ScrubberParts{.index = index_.get(),
                                                       .loader = loader_.get(),
                                                       .blocks = blocks_.get(),
                                                       .damaged = damaged_.get(),
                                                       .leases = &leases_,
                                                       .clock = environment_.clock,
                                                       .stored_bytes =
                                                           [this] {
                                                             const Result<SpaceReport> report = Space();
                                                             return report.ok() ? report->used_bytes : 0;
                                                           }},
                                         ScrubberOptions{.bytes_per_second = options_.scrub_bytes_per_second,
                                                         .interval_ms = options_.scrub_interval_ms,
                                                         .with_thread = options_.background_maintenance});
  return scrubber_->Load();
}

Status LogStructuredStore::OpenIndex() {
  IndexOptions index{.path = target_->index_path(), .block_cache_bytes = options_.cache_bytes / 4};
  if (options_.rebuild_index) {
    std::error_code error;
    std::filesystem::remove_all(index.path, error);
    if (error) return Status::FromErrno(error.value(), "remove " + index.path);
  }
  index.create_if_missing = options_.rebuild_index || !target_->identity().index_made;
  Result<std::unique_ptr<Index>> opened = Index::Open(index);
  if (!opened.ok()) {
    const StatusCode code = opened.status().code() == StatusCode::kNotFound ? StatusCode::kCorruption : opened.status().code();
    return Status(code, opened.status().message() + " (--rebuild-index makes a new one from the segments)");
  }
  index_ = std::move(*opened);
  return Status::Ok();
}

void LogStructuredStore::Assemble(const FileSystemSpace& space) {
  const SegmentLogOptions log{
      .segment_bytes = options_.segment_bytes != 0 ? options_.segment_bytes : SegmentBytesFor(space.capacity_bytes),
      .reserve_bytes = options_.reserve_bytes != 0 ? options_.reserve_bytes : ReserveBytesFor(space.capacity_bytes),
      .target_uuid = target_->identity().uuid};
  table_ = std::make_unique<ChunkTable>(options_.cache_bytes / 4 * 3);
  loader_ = std::make_unique<ChunkLoader>(table_.get(), index_.get());
  log_ = std::make_unique<SegmentLog>(log, segment_directory_.get(), &segments_, environment_.random, environment_.faults);
  blocks_ = std::make_unique<BlockReader>(&segments_, &leases_, environment_.faults, &metrics_);
  reader_ = std::make_unique<ChunkReader>(loader_.get(), table_.get(), &segments_, blocks_.get(), &leases_, environment_.faults);
  lister_ = std::make_unique<ChunkLister>(table_.get(), index_.get());
  writer_ = std::make_unique<ChunkWriter>(WriterParts{.table = table_.get(),
                                                      .loader = loader_.get(),
                                                      .log = log_.get(),
                                                      .blocks = blocks_.get(),
                                                      .windows = &windows_,
                                                      .dead_data = &dead_data_,
                                                      .tombstones = &tombstones_,
                                                      .metrics = &metrics_});
  deleter_ = std::make_unique<DataDeleter>(table_.get(), loader_.get(), log_.get(), &dead_data_, &tombstones_);
  committer_ = std::make_unique<Committer>(log_.get(), CommitterOptions{.interval_ms = options_.commit_interval_ms});
  reclaimer_ = std::make_unique<Reclaimer>(segment_directory_.get(), &segments_, log_.get(), committer_.get(), &leases_, &metrics_);
  descriptors_ = std::make_unique<DescriptorBound>(options_.segment_descriptors_max, &segments_, log_.get(), &leases_);
  checkpointer_ = std::make_unique<Checkpointer>(CheckpointerParts{.table = table_.get(),
                                                                   .log = log_.get(),
                                                                   .committer = committer_.get(),
                                                                   .index = index_.get(),
                                                                   .reclaimer = reclaimer_.get(),
                                                                   .tombstones = &tombstones_,
                                                                   .dead_data = &dead_data_,
                                                                   .metrics = &metrics_});
}

Status LogStructuredStore::Recover() {
  Recovery recovery(RecoveryParts{.directory = segment_directory_.get(),
                                  .segments = &segments_,
                                  .table = table_.get(),
                                  .loader = loader_.get(),
                                  .index = index_.get(),
                                  .checkpointer = checkpointer_.get(),
                                  .tombstones = &tombstones_,
                                  .metrics = &metrics_},
                    RecoveryOptions{.target_uuid = target_->identity().uuid,
                                    .rebuild = options_.rebuild_index,
                                    .index_is_expected = target_->identity().index_made,
                                    .dirty_bytes_max = options_.dirty_bytes_max,
                                    .segment_descriptors_max = options_.segment_descriptors_max});
  Result<RecoveryResult> recovered = recovery.Run();
  if (!recovered.ok()) return recovered.status().WithContext(options_.directory);
  RecoveryResult& found = *recovered;
  checkpointer_->Start(found.next_dead_key);
  reclaimer_->CheckpointIsDurable(found.checkpoint, found.dead, std::move(found.tombstones));
  for (const DeadRange& range : found.obsolete) reclaimer_->AddDead(range);
  reclaimer_->NoteSegments(found.segments);
  const bool is_unchanged = found.is_as_checkpointed && !options_.rebuild_index && target_->identity().index_made;
  log_->Start(found.next_sequence, found.next_segment, std::move(found.tails), [this](const Segment& segment) {
    Index::Batch batch;
    batch.Put(NumberKey(kSegmentKeyTag, segment.number.value()),
              EncodeSegmentValue({.generation = segment.generation, .scan_from_block = 1}));
    return index_->Apply(std::move(batch));
  });
  if (is_unchanged) return Status::Ok();
  // What was replayed is in the index before anything new is written, so that no later start replays it on top of newer records.
  RETURN_IF_ERROR(checkpointer_->Run());
  if (found.records_replayed > 0) {
    spdlog::info("the target was recovered directory={} records={} dropped={}", options_.directory, found.records_replayed,
                 found.records_dropped);
  }
  return target_->MarkIndexMade();
}

void LogStructuredStore::RestoreWindows() {
  if (target_->clean_mark().empty()) return;
  const Result<std::vector<GroupWindow>> windows = DecodeCleanMark(target_->clean_mark());
  // As after a crash: what comes later than the answer to its first copy may then be applied once more.
  if (!windows.ok()) return spdlog::warn("what was known of sessions is lost directory={} error=\"{}\"", options_.directory, windows.status().message());
  for (const GroupWindow& each : *windows) windows_.Install(each.group, {&each.window, 1}, /*replace=*/false);
}

Status LogStructuredStore::Close() {
  scrubber_->Stop();
  maintenance_->Stop();
  RETURN_IF_ERROR(committer_->Commit());
  RETURN_IF_ERROR(maintenance_->Finish());
  return target_->MarkClean(EncodeCleanMark(windows_.All()));
}

Result<ChangeOutcome> LogStructuredStore::ApplyWrite(const WriteRequest& request, const ChangeContext& context) {
  RETURN_IF_ERROR(ValidateWrite(request));
  RETURN_IF_ERROR(maintenance_->WaitForRoom());
  Result<ChangeOutcome> outcome = writer_->Write(request, context);
  if (!outcome.ok()) return ChangeFailed(request.chunk, outcome.status());
  committer_->NoteWritten();
  QueueRewrites(request.chunk, request.offset, request.payload.size());
  return outcome;
}

void LogStructuredStore::QueueRewrites(ChunkId chunk_id, uint64_t offset, uint64_t length) {
  const uint32_t first_unit = UnitOfBlock(static_cast<uint32_t>(offset / kBlockBytes));
  const uint32_t last_unit = UnitOfBlock(static_cast<uint32_t>((offset + length - 1) / kBlockBytes));
  const std::shared_ptr<Chunk> chunk = table_->Find(chunk_id);
  if (chunk == nullptr) return;
  std::vector<uint32_t> due;
  {
    MutexLock lock(chunk->map_mutex);
    for (uint32_t number = first_unit; number <= last_unit; ++number) {
      const auto unit = chunk->map.units().find(number);
      if (unit == chunk->map.units().end() || unit->second.rewrite_queued) continue;
      if (unit->second.value.extents.size() <= kExtentsPerUnitMax) continue;
      unit->second.rewrite_queued = true;
      due.push_back(number);
    }
  }
  for (const uint32_t number : due) maintenance_->QueueRewrite(chunk_id, number);
}

Result<ChangeOutcome> LogStructuredStore::ApplyTruncate(ChunkId chunk, const WriterIdentity& writer, const TruncateView& view,
                                                        const ChangeContext& context) {
  RETURN_IF_ERROR(maintenance_->WaitForRoom());
  Result<ChangeOutcome> outcome = writer_->Truncate(chunk, writer, view, context);
  if (!outcome.ok()) return ChangeFailed(chunk, outcome.status());
  committer_->NoteWritten();
  return outcome;
}

Result<ChunkState> LogStructuredStore::StateOf(ChunkId chunk_id) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Chunk> chunk, loader_->Load(chunk_id));
  MutexLock lock(chunk->map_mutex);
  return store::StateOf(chunk->head);
}

Status LogStructuredStore::InstallPiece(ChunkId chunk, GroupId group, uint64_t offset, std::span<const uint8_t> bytes,
                                        std::string_view piece_sums) {
  RETURN_IF_ERROR(ValidatePiece(offset, bytes, piece_sums));
  RETURN_IF_ERROR(maintenance_->WaitForRoom());
  RETURN_IF_ERROR(Told(chunk, writer_->InstallPiece(chunk, group, offset, bytes, piece_sums)));
  committer_->NoteWritten();
  QueueRewrites(chunk, offset, bytes.size());
  return Status::Ok();
}

Status LogStructuredStore::InstallEnd(ChunkId chunk, const ChunkState& state) {
  RETURN_IF_ERROR(maintenance_->WaitForRoom());
  RETURN_IF_ERROR(Told(chunk, writer_->InstallEnd(chunk, state)));
  committer_->NoteWritten();
  if (damaged_->Contains(chunk)) JudgeNow(chunk);
  return Status::Ok();
}

Status LogStructuredStore::RecheckDamaged(ChunkId chunk) {
  if (!damaged_->Contains(chunk)) return Status::Ok();
  RETURN_IF_ERROR(scrubber_->Judge(chunk));
  return damaged_->Contains(chunk) ? Status(StatusCode::kCorruption, "the chunk is damaged still") : Status::Ok();
}

Status LogStructuredStore::RemoveChunk(ChunkId chunk) {
  RETURN_IF_ERROR(maintenance_->WaitForRoom());
  RETURN_IF_ERROR(Told(chunk, writer_->Remove(chunk)));
  committer_->NoteWritten();
  return Status::Ok();
}

// What the log has already taken for its next records is room as well: otherwise a nearly full target would be full whenever it begins a segment,
// which takes all that is left.
uint64_t LogStructuredStore::AvailableOf(const FileSystemSpace& space) const {
  const uint64_t reserve = log_->options().reserve_bytes;
  return (space.available_bytes > reserve ? space.available_bytes - reserve : 0) + log_->UnusedBytes();
}

uint64_t LogStructuredStore::AvailableBytes() {
  const Result<FileSystemSpace> space = segment_directory_->Space();
  return space.ok() ? AvailableOf(*space) : 0;
}

Status LogStructuredStore::ReadPlanned(const ReadRequest& request, const ReadPlan& plan, std::span<uint8_t> bytes) {
  const Status read = reader_->Read(plan, bytes);
  if (read.ok()) return read;
  return Told(request.chunk, read.WithContext("chunk " + ToString(request.chunk)));
}

Result<std::vector<ChunkInfo>> LogStructuredStore::StatData(DataId data) {
  ASSIGN_OR_RETURN(const std::vector<std::shared_ptr<Chunk>> chunks, loader_->LoadAll(data));
  std::vector<ChunkInfo> infos;
  for (const auto& chunk : chunks) {
    MutexLock lock(chunk->map_mutex);
    if (chunk->head.exists()) infos.push_back(ChunkInfo{chunk->id.index, chunk->head.bytes, {chunk->head.epoch, chunk->head.version}});
  }
  return infos;
}

Result<SpaceReport> LogStructuredStore::Space() {
  ASSIGN_OR_RETURN(const FileSystemSpace space, segment_directory_->Space());
  SpaceReport report{.capacity_bytes = space.capacity_bytes};
  report.available_bytes = AvailableOf(space);
  for (const auto& segment : segments_.All()) {
    const Result<uint64_t> allocated = segment->file->AllocatedBytes();
    if (allocated.status().code() == StatusCode::kNotFound) continue;  // removed meanwhile
    if (!allocated.ok()) return allocated.status();
    report.used_bytes += *allocated;
  }
  report.used_bytes -= std::min(report.used_bytes, log_->UnusedBytes());
  ASSIGN_OR_RETURN(report.chunk_count, index_->ChunkCount());
  return report;
}

// An old block that the change keeps a part of may be damaged. That is found out now, so that whoever brings the chunk up to date next learns of
// it. (A disk that takes no writes any more has other troubles.)
Status LogStructuredStore::ChangeFailed(ChunkId chunk, const Status& status) {
  if (IsUnreadable(status) && health().ok()) JudgeNow(chunk);
  return Told(chunk, status);
}

Status LogStructuredStore::Told(ChunkId chunk, const Status& status) const {
  if (!IsUnreadable(status)) return status;
  const TargetIdentity identity = target_->identity();
  spdlog::error("stored data is damaged or unreadable target={} chunk={} error=\"{}\"", identity.target.value(), ToString(chunk),
                status.message());
  scrubber_->Suspect(chunk);
  return status.WithContext("target " + std::to_string(identity.target.value()));
}

}  // namespace

Result<WriteOutcome> ChunkStore::Write(const WriteRequest& request) {
  ASSIGN_OR_RETURN(const ChangeOutcome outcome, ApplyWrite(request, {}));
  return WriteOutcome{.version = outcome.stamp.version, .chunk_bytes = outcome.chunk_bytes};
}

Status ChunkStore::Truncate(ChunkId chunk, const WriterIdentity& writer, const TruncateView& view) {
  return ApplyTruncate(chunk, writer, view, {}).status();
}

Result<std::unique_ptr<ChunkStore>> ChunkStore::Open(const StoreOptions& options, const StoreEnvironment& environment) {
  ASSIGN_OR_RETURN(std::unique_ptr<TargetDirectory> directory, TargetDirectory::Open(options.directory, environment.random));
  auto store = std::make_unique<LogStructuredStore>(options, environment, std::move(directory));
  RETURN_IF_ERROR(store->Start());
  return std::unique_ptr<ChunkStore>(std::move(store));
}

}  // namespace tarn::store
