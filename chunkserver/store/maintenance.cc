#include "chunkserver/store/maintenance.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/base/named_thread.h"

namespace tarn::store {
namespace {

// How often the thread looks around when nobody wakes it.
constexpr int64_t kTickMs = 100;
constexpr size_t kRewritesQueuedMax = 4'096;
constexpr int kRewritesPerTick = 32;
// Of dead space (reclaimer.h), while there is no hurry: less while something is written, for the disk is the same.
constexpr int64_t kHolesPerTick = 200;
constexpr int64_t kHolesPerTickBusy = 20;
constexpr uint64_t kRecordsPerTickIdle = 5;
// The rest waits for the next start.
constexpr size_t kHolesAtEnd = 2'000;

}  // namespace

Maintenance::Maintenance(const MaintenanceParts& parts, const MaintenanceOptions& options) : parts_(parts), options_(options) {
  last_checkpoint_ms_ = parts_.clock->MonotonicMs();
  if (options_.with_thread) thread_ = StartNamedThread("maintenance", [this] { Run(); });
}

Maintenance::~Maintenance() { Stop(); }

void Maintenance::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  room_.NotifyAll();
  if (thread_.joinable()) thread_.join();
}

void Maintenance::Wake() {
  {
    MutexLock lock(mutex_);
    is_woken_ = true;
  }
  wake_.NotifyOne();
}

void Maintenance::Run() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    if (!is_woken_) wake_.WaitFor(lock, std::chrono::milliseconds(kTickMs));
    is_woken_ = false;
    if (stopping_) return;
    lock.Unlock();
    const Status done = RunOnce(false, HolesDue());
    if (!done.ok() && !failure_is_logged_) spdlog::error("background work of the chunk store fails error=\"{}\"", done.message());
    if (done.ok() && failure_is_logged_) spdlog::info("background work of the chunk store goes on");
    failure_is_logged_ = !done.ok();
    lock.Lock();
  }
}

size_t Maintenance::HolesDue() {
  // Also woken in between.
  const int64_t now_ms = parts_.clock->MonotonicMs();
  if (now_ms - last_holes_ms_ < kTickMs) return 0;
  last_holes_ms_ = now_ms;
  const uint64_t records = parts_.metrics->records_written.load(std::memory_order_relaxed);
  const bool is_busy = records - records_at_holes_ > kRecordsPerTickIdle;
  records_at_holes_ = records;
  return static_cast<size_t>(is_busy ? kHolesPerTickBusy : kHolesPerTick);
}

Status Maintenance::Finish() { return RunOnce(true, kHolesAtEnd); }

Status Maintenance::RunOnce(bool force_checkpoint, size_t holes_max) {
  parts_.log->PrepareSpare();
  parts_.reclaimer->NoteSegments(parts_.log->TrimFullSegments());
  RewriteUnits();
  parts_.descriptors->Run();
  if (force_checkpoint || CheckpointIsDue()) RETURN_IF_ERROR(Checkpoint());
  return parts_.reclaimer->Run(holes_max);
}

bool Maintenance::CheckpointIsDue() const {
  if (parts_.table->dirty_bytes() > options_.dirty_bytes_max / 2) return true;
  if (!parts_.checkpointer->HasWork()) return false;
  const uint64_t logged = parts_.metrics->bytes_written.load(std::memory_order_relaxed) - bytes_at_checkpoint_;
  return logged > options_.logged_bytes_max ||
         parts_.clock->MonotonicMs() - last_checkpoint_ms_ >= options_.checkpoint_interval_ms;
}

Status Maintenance::Checkpoint() {
  const uint64_t bytes_written = parts_.metrics->bytes_written.load(std::memory_order_relaxed);
  const Status done = parts_.checkpointer->Run();
  last_checkpoint_ms_ = parts_.clock->MonotonicMs();
  if (done.ok()) bytes_at_checkpoint_ = bytes_written;
  {
    MutexLock lock(mutex_);
    checkpoint_failure_ = done;
  }
  room_.NotifyAll();
  return done;
}

Status Maintenance::WaitForRoom() {
  if (parts_.table->dirty_bytes() <= options_.dirty_bytes_max || !options_.with_thread) return Status::Ok();
  MutexLock lock(mutex_);
  while (parts_.table->dirty_bytes() > options_.dirty_bytes_max) {
    if (!checkpoint_failure_.ok()) return checkpoint_failure_;
    if (stopping_) return Status(StatusCode::kCancelled, "the store is closing");
    is_woken_ = true;
    wake_.NotifyOne();
    room_.WaitFor(lock, std::chrono::milliseconds(kTickMs));
  }
  return Status::Ok();
}

Status Maintenance::disk_failure() const {
  MutexLock lock(mutex_);
  return checkpoint_failure_.code() == StatusCode::kNoSpace ? Status::Ok() : checkpoint_failure_;
}

void Maintenance::QueueRewrite(ChunkId chunk, uint32_t unit) {
  MutexLock lock(mutex_);
  if (rewrites_.size() < kRewritesQueuedMax) rewrites_.push_back(UnitName{chunk, unit});
}

void Maintenance::RewriteUnits() {
  std::deque<UnitName> due;
  {
    MutexLock lock(mutex_);
    const size_t count = std::min<size_t>(rewrites_.size(), kRewritesPerTick);
    for (size_t i = 0; i < count; ++i) {
      due.push_back(rewrites_.front());
      rewrites_.pop_front();
    }
  }
  for (const UnitName& name : due) {
    const Result<bool> rewritten = parts_.writer->RewriteUnit(name.chunk, name.unit);
    // The unit is as good as before; a corrupt block is reported by whoever needs it.
    if (!rewritten.ok()) spdlog::warn("a unit was not rewritten chunk={} error=\"{}\"", ToString(name.chunk), rewritten.status().message());
  }
}

}  // namespace tarn::store
