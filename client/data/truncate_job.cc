#include "client/data/truncate_job.h"

#include <algorithm>
#include <utility>

#include "client/data/data_view.h"

namespace tarn::client {
namespace {

// A target that restarts between cut and commit, or is replaced, makes another round necessary; one that always does is
// broken.
constexpr uint32_t kRoundsMax = 16;

}  // namespace

void TruncateJob::Start(std::shared_ptr<PlaneCore> core, const Attributes& attributes, StatusCallback done) {
  const Status valid = ValidateLayout(attributes.layout);
  if (!valid.ok()) return done(Status(StatusCode::kCorruption, valid.message()));
  std::shared_ptr<TruncateJob>(new TruncateJob(std::move(core), attributes, std::move(done)))->List();
}

TruncateJob::TruncateJob(std::shared_ptr<PlaneCore> core, const Attributes& attributes, StatusCallback done)
    : core_(std::move(core)),
      attributes_(attributes),
      floor_(attributes.truncate_floor_bytes.value_or(attributes.size_bytes)),
      done_(std::move(done)) {}

void TruncateJob::PartOver(const Status& status, void (TruncateJob::*next)()) {
  Status result;
  {
    MutexLock lock(mutex_);
    if (!status.ok() && status_.ok()) status_ = status;
    if (--parts_left_ > 0) return;
    result = status_;
  }
  if (!result.ok()) return std::exchange(done_, nullptr)(result);
  (this->*next)();
}

// Which chunks there are only the targets know: the file may have been longer than this client ever saw.
void TruncateJob::List() {
  const FileLayout& layout = attributes_.layout;
  {
    MutexLock lock(mutex_);
    if (++rounds_ > kRoundsMax) status_ = Status(StatusCode::kIoError, "the targets of the file restart all the time");
    chunks_.clear();
    not_durable_.clear();
    forgotten_ = false;
    parts_left_ = layout.width;
  }
  for (uint32_t column = 0; column < layout.width; ++column) {
    core_->chunks.ListChunks(
        layout, column, attributes_.data, [self = shared_from_this()](const Result<std::vector<StoredChunk>>& chunks) {
          if (chunks.ok()) {
            MutexLock lock(self->mutex_);
            for (const StoredChunk& chunk : *chunks) {
              if (chunk.bytes > ChunkBytesForFileSize(self->attributes_.layout, chunk.index, self->floor_))
                self->chunks_.push_back(chunk.index);
            }
          }
          self->PartOver(chunks.status(), &TruncateJob::Cut);
        });
  }
}

void TruncateJob::Cut() {
  std::vector<uint32_t> chunks;
  {
    MutexLock lock(mutex_);
    chunks = chunks_;
    parts_left_ = chunks.size();
  }
  if (chunks.empty()) return Report();
  DataView view = ViewOf(attributes_);
  view.truncate_floor_bytes = floor_;
  for (const uint32_t chunk : chunks) {
    core_->chunks.Truncate(ChunkOf(view, chunk), [self = shared_from_this()](const Result<WriteAck>& ack) {
      // kStaleTruncate: cut by a later truncate already.
      const bool superseded = ack.status().code() == StatusCode::kStaleTruncate;
      if (ack.ok() && !ack->durable) {
        MutexLock lock(self->mutex_);
        const auto [known, inserted] = self->not_durable_.try_emplace(ack->target, Cutter{ack->incarnation, {}});
        Cutter& cutter = known->second;
        if (cutter.incarnation != ack->incarnation) self->forgotten_ = true;
        if (std::find(cutter.groups.begin(), cutter.groups.end(), ack->group) == cutter.groups.end())
          cutter.groups.push_back(ack->group);
      }
      self->PartOver(superseded ? Status::Ok() : ack.status(), &TruncateJob::Commit);
    });
  }
}

void TruncateJob::Commit() {
  std::map<TargetId, Cutter> targets;
  {
    MutexLock lock(mutex_);
    targets = not_durable_;
    parts_left_ = targets.size();
  }
  if (targets.empty()) return Report();
  for (const auto& [target, cutter] : targets) {
    core_->chunks.CommitTarget(
        target, cutter.groups,
        [self = shared_from_this(), incarnation = cutter.incarnation](const Result<CommitOutcome>& committed) {
          if (committed.ok() && (!committed->moved.empty() || committed->incarnation != incarnation)) {
            MutexLock lock(self->mutex_);
            self->forgotten_ = true;
          }
          self->PartOver(committed.status(), &TruncateJob::Report);
        });
  }
}

void TruncateJob::Report() {
  bool again = false;
  {
    MutexLock lock(mutex_);
    again = forgotten_;
  }
  if (again) return List();
  MetadataGate::Use use(*core_->metadata);
  StatusCallback done = std::exchange(done_, nullptr);
  if (!use) return done(Status(StatusCode::kCancelled, "the client is shutting down"));
  use->TruncateDone(attributes_.inode, attributes_.truncate_generation, std::move(done));
}

}  // namespace tarn::client
