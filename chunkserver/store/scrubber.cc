#include "chunkserver/store/scrubber.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/named_thread.h"

namespace tarn::store {
namespace {

// A batch ends when it has cost this much: it holds a read lease and a view of the index that long.
constexpr uint64_t kBatchCost = 4u << 20;
// Of one read, beside its bytes: many small ones are no cheaper to the disk.
constexpr uint64_t kReadCost = 32u << 10;
constexpr size_t kSuspectsMax = 1'024;
constexpr int64_t kTickMs = 60'000;
constexpr int64_t kRetryMs = 5'000;

const std::string kFirstPosition(1, kUnitKeyTag);

}  // namespace

Scrubber::~Scrubber() { Stop(); }

Status Scrubber::Load() {
  RETURN_IF_ERROR(parts_.damaged->Load());
  ASSIGN_OR_RETURN(const std::optional<std::string> stored, parts_.index->Get(kScrubKey));
  ScrubValue state;
  state.waits_since_ns = parts_.clock->WallNs();
  if (stored) {
    ASSIGN_OR_RETURN(state, DecodeScrub(*stored));
  }
  {
    MutexLock lock(mutex_);
    state_ = std::move(state);
  }
  if (!stored) RETURN_IF_ERROR(Store());
  if (options_.with_thread) thread_ = StartNamedThread("scrub", [this] { Run(); });
  return Status::Ok();
}

void Scrubber::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  if (thread_.joinable()) thread_.join();
}

void Scrubber::StartRound() {
  {
    MutexLock lock(mutex_);
    round_is_wanted_ = true;
  }
  wake_.NotifyAll();
}

ScrubProgress Scrubber::progress() const {
  MutexLock lock(mutex_);
  return {.bytes_checked = state_.bytes_checked,
          .bytes_total = state_.bytes_total,
          .errors_found = state_.errors_found,
          .errors_repaired = state_.errors_repaired,
          .last_round_ended_ns = state_.last_round_ended_ns,
          .next_round_ns = options_.bytes_per_second != 0 && !state_.is_running ? state_.waits_since_ns + options_.interval_ms * 1'000'000 : 0,
          .running = state_.is_running};
}

void Scrubber::SetListener(DamageListener listener) {
  {
    MutexLock lock(listener_mutex_);
    listener_ = std::move(listener);
  }
  {
    MutexLock lock(mutex_);
    has_new_listener_ = true;
  }
  wake_.NotifyAll();
}

void Scrubber::Suspect(ChunkId chunk) {
  {
    MutexLock lock(mutex_);
    if (suspects_.size() >= kSuspectsMax) return;
    suspects_.insert(chunk);
  }
  wake_.NotifyAll();
}

void Scrubber::Run() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    lock.Unlock();
    const Result<int64_t> wait_ms = RunDue();
    if (!wait_ms.ok() && !failure_is_logged_) spdlog::error("scrubbing fails and is tried again error=\"{}\"", wait_ms.status().message());
    failure_is_logged_ = !wait_ms.ok();
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(wait_ms.ok() ? *wait_ms : kRetryMs);
    lock.Lock();
    const bool is_pacing = state_.is_running || !wait_ms.ok();
    while (!stopping_) {
      const bool is_called = !suspects_.empty() || has_new_listener_ || (round_is_wanted_ && !state_.is_running);
      const auto left = until - std::chrono::steady_clock::now();
      if ((is_called && !is_pacing) || left.count() <= 0) break;
      wake_.WaitFor(lock, left);
    }
  }
}

bool Scrubber::is_due() const {
  if (round_is_wanted_) return true;
  return options_.bytes_per_second != 0 && parts_.clock->WallNs() - state_.waits_since_ns >= options_.interval_ms * 1'000'000;
}

Result<int64_t> Scrubber::RunDue() {
  RETURN_IF_ERROR(RunSuspects());
  bool is_running = false;
  {
    MutexLock lock(mutex_);
    if (!state_.is_running && !is_due()) {
      return std::clamp<int64_t>(options_.interval_ms - (parts_.clock->WallNs() - state_.waits_since_ns) / 1'000'000, 1, kTickMs);
    }
    is_running = state_.is_running;
  }
  if (!is_running) BeginRound();
  uint64_t cost = 0;
  RETURN_IF_ERROR(Advance(&cost).status());
  const uint64_t rate = options_.bytes_per_second != 0 ? options_.bytes_per_second : ScrubberOptions().bytes_per_second;
  return static_cast<int64_t>(cost * 1'000 / rate);
}

void Scrubber::BeginRound() {
  parts_.damaged->ReportAgain();
  const uint64_t bytes_total = parts_.stored_bytes();
  MutexLock lock(mutex_);
  round_is_wanted_ = false;
  state_.is_running = true;
  state_.position = kFirstPosition;
  state_.bytes_checked = 0;
  state_.bytes_total = bytes_total;
}

Result<bool> Scrubber::Advance(uint64_t* cost) {
  std::string position;
  {
    MutexLock lock(mutex_);
    position = state_.position;
  }
  Batch batch;
  RETURN_IF_ERROR(CheckBatch(position, &batch));
  *cost = batch.cost;
  for (const ChunkId chunk : batch.suspects) RETURN_IF_ERROR(Judge(chunk));
  {
    MutexLock lock(mutex_);
    state_.bytes_checked += batch.bytes;
    state_.bytes_total = std::max(state_.bytes_total, state_.bytes_checked);
    state_.position = batch.position;
  }
  if (batch.is_end) RETURN_IF_ERROR(EndRound());
  RETURN_IF_ERROR(Store());
  Report();
  return batch.is_end;
}

Status Scrubber::CheckBatch(const std::string& position, Batch* batch) const {
  // Before the index is looked at: whatever it shows then stays in place.
  const ReadLeases::Lease lease = parts_.leases->Take();
  Index::Cursor cursor = parts_.index->MakeCursor();
  batch->position = position;
  for (cursor.Seek(position); cursor.IsWithin(kFirstPosition); cursor.Next()) {
    if (batch->cost >= kBatchCost) return Status::Ok();
    const std::optional<DecodedUnitKey> key = DecodeUnitKey(cursor.key());
    if (!key) return Status(StatusCode::kCorruption, "the index holds a key that is none");
    UnitValue unit;
    RETURN_IF_ERROR(DecodeUnit(cursor.value(), key->unit, &unit, nullptr));
    if (!batch->suspects.contains(key->chunk) && !IsIntact(key->chunk, unit, batch)) batch->suspects.insert(key->chunk);
    batch->position = std::string(cursor.key()) + '\0';
  }
  batch->is_end = true;
  return cursor.status();
}

bool Scrubber::IsIntact(ChunkId chunk, const UnitValue& unit, Batch* batch) const {
  for (const Extent& extent : unit.extents) {
    const uint64_t bytes = uint64_t{extent.block_count} * kBlockBytes;
    batch->bytes += bytes;
    batch->cost += bytes + kReadCost;
    const auto sums = std::span<const uint64_t>(unit.sums).subspan(extent.first_block % kUnitBlocks, extent.block_count);
    if (!parts_.blocks->Check(chunk, extent, sums).ok()) return false;
  }
  return true;
}

Result<bool> Scrubber::IsIntactNow(ChunkId chunk_id, GroupId* group, bool* exists) const {
  ASSIGN_OR_RETURN(const std::shared_ptr<Chunk> chunk, parts_.loader->Load(chunk_id));
  uint32_t unit_end = 0;
  {
    MutexLock lock(chunk->map_mutex);
    unit_end = chunk->head.unit_end;
    *group = chunk->head.group;
    *exists = chunk->head.exists();
  }
  Batch uncounted;
  for (uint32_t number = 0; number < unit_end; ++number) {
    RETURN_IF_ERROR(parts_.loader->LoadUnits(chunk, BlockRange{number * kUnitBlocks, (number + 1) * kUnitBlocks}));
    const ReadLeases::Lease lease = parts_.leases->Take();
    UnitValue unit;
    {
      MutexLock lock(chunk->map_mutex);
      unit = chunk->map.UnitAt(number).value;
    }
    if (!IsIntact(chunk_id, unit, &uncounted)) return false;
  }
  return true;
}

Status Scrubber::Judge(ChunkId chunk) {
  GroupId group;
  bool exists = false;
  ASSIGN_OR_RETURN(const bool is_intact, IsIntactNow(chunk, &group, &exists));
  if (is_intact) {
    ASSIGN_OR_RETURN(const bool was_damaged, parts_.damaged->Remove(chunk));
    if (!was_damaged) return Status::Ok();
    {
      MutexLock lock(mutex_);
      if (exists) ++state_.errors_repaired;
    }
    spdlog::info("a damaged chunk is {} chunk={}", exists ? "intact again" : "gone", ToString(chunk));
    return Store();
  }
  ASSIGN_OR_RETURN(const bool is_new, parts_.damaged->Add(chunk, group));
  if (!is_new) return Status::Ok();
  {
    MutexLock lock(mutex_);
    ++state_.errors_found;
  }
  spdlog::error("a chunk is damaged on the disk chunk={} group={}", ToString(chunk), group.value());
  return Store();
}

Status Scrubber::EndRound() {
  // Of those that were damaged before, some may be gone without anybody having said so.
  for (const ChunkId chunk : parts_.damaged->All()) RETURN_IF_ERROR(Judge(chunk));
  const int64_t now_ns = parts_.clock->WallNs();
  {
    MutexLock lock(mutex_);
    state_.is_running = false;
    state_.last_round_ended_ns = now_ns;
    state_.waits_since_ns = now_ns;
    state_.bytes_total = state_.bytes_checked;
  }
  const ScrubProgress ended = progress();
  spdlog::info("a round of scrubbing has ended bytes={} errors_found={} errors_repaired={}", ended.bytes_checked, ended.errors_found,
               ended.errors_repaired);
  return Status::Ok();
}

Status Scrubber::RunSuspects() {
  std::set<ChunkId> suspects;
  {
    MutexLock lock(mutex_);
    suspects.swap(suspects_);
    has_new_listener_ = false;
  }
  Status judged;
  for (const ChunkId chunk : suspects) {
    if (Status one = Judge(chunk); !one.ok()) judged = one;
  }
  Report();
  return judged;
}

void Scrubber::Report() {
  MutexLock lock(listener_mutex_);
  if (!listener_) return;
  for (const DamagedChunks::Damage& damage : parts_.damaged->TakeUnreported()) listener_(damage.chunk, damage.group);
}

Result<bool> Scrubber::RunBatch() {
  bool is_running = false;
  {
    MutexLock lock(mutex_);
    is_running = state_.is_running;
  }
  if (!is_running) BeginRound();
  uint64_t cost = 0;
  return Advance(&cost);
}

Status Scrubber::RunRound() {
  RETURN_IF_ERROR(RunSuspects());
  while (true) {
    ASSIGN_OR_RETURN(const bool is_end, RunBatch());
    if (is_end) return Status::Ok();
  }
}

Status Scrubber::Store() {
  std::string value;
  {
    MutexLock lock(mutex_);
    value = EncodeScrub(state_);
  }
  Index::Batch batch;
  batch.Put(kScrubKey, value);
  return parts_.index->Apply(std::move(batch));
}

}  // namespace tarn::store
