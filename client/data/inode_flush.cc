// Flush and sync requests, commits (client/data/inode_data_impl.h).
#include <spdlog/spdlog.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "client/data/inode_data_impl.h"
#include "client/data/truncate_job.h"

namespace tarn::client {
namespace {

constexpr uint32_t kCommitRefusalsMax = 8;

Status NameRemoval(const Status& status) {
  if (status.code() != StatusCode::kNotFound) return status;
  return Status(StatusCode::kStaleHandle, "the file was removed by another client: " + status.message());
}

}  // namespace

void InodeDataImpl::Flush(StatusCallback done) { Request(FlushRequest{.done = std::move(done)}); }

void InodeDataImpl::Sync(StatusCallback done) { Request(FlushRequest{.sync = true, .done = std::move(done)}); }

ErrorCursorPtr InodeDataImpl::NewErrorCursor() {
  auto cursor = std::make_shared<ErrorCursor>();
  MutexLock lock(mutex_);
  cursor->reported = error_count_;
  return cursor;
}

void InodeDataImpl::FlushFor(const ErrorCursorPtr& cursor, StatusCallback done) {
  Request(FlushRequest{.takes_error = false, .cursor = cursor, .done = std::move(done)});
}

void InodeDataImpl::SyncFor(const ErrorCursorPtr& cursor, StatusCallback done) {
  Request(FlushRequest{.sync = true, .cursor = cursor, .done = std::move(done)});
}

// Others' writes are where the layout says, as far as the file reaches; own ones are committed with their
// acknowledgements, since they may have to be sent again.
void InodeDataImpl::SyncEverybodysFor(const ErrorCursorPtr& cursor, StatusCallback done) {
  SyncFor(cursor, [self = shared_from_this(), done = std::move(done)](const Status& own) {
    if (!own.ok()) return done(own);
    FileLayout layout;
    uint64_t columns = 0;
    {
      MutexLock lock(self->mutex_);
      layout = self->view_.layout;
      if (self->view_.data.valid()) {
        const uint64_t units = (self->FileSize() + layout.stripe_unit_bytes - 1) / layout.stripe_unit_bytes;
        columns = std::min<uint64_t>(units, layout.width);
      }
    }
    self->core_->chunks.CommitColumns(layout, static_cast<uint32_t>(columns), done);
  });
}

void InodeDataImpl::Request(FlushRequest request) {
  {
    MutexLock lock(mutex_);
    request.age = extents_.last_age();
    if (!uncommitted_.empty()) uncommitted_.back().closed = true;
    extents_.WantSend(request.age);
    requests_.push_back(std::move(request));
    UpdateSyncWaiting();
  }
  Advance();
}

void InodeDataImpl::UpdateSyncWaiting() {
  extents_.set_sync_waiting(
      std::any_of(requests_.begin(), requests_.end(), [](const FlushRequest& request) { return request.sync; }));
}

void InodeDataImpl::Advance() {
  Actions actions;
  {
    MutexLock lock(mutex_);
    CollectActions(&actions);
    Account();
  }
  Perform(std::move(actions));
}

void InodeDataImpl::CollectActions(Actions* actions) {
  CollectSends(actions);
  CollectCommit(actions);
  CollectTargets(actions);
  for (auto it = truncates_.begin(); it != truncates_.end();) {
    const bool ready = std::all_of(it->under_way.begin(), it->under_way.end(),
                                   [](const ExtentPtr& extent) { return extent->pieces_in_flight == 0; });
    if (ready) {
      actions->truncates.push_back(std::move(*it));
      it = truncates_.erase(it);
    } else {
      ++it;
    }
  }
  CollectFinished(actions);
}

void InodeDataImpl::CollectSends(Actions* actions) {
  if (allocating_ || refreshing_) return;
  if (refresh_wanted_) {
    refresh_wanted_ = false;
    refreshing_ = true;
    actions->refresh = true;
    return;
  }
  if (!extents_.HasUnacknowledged(extents_.last_age())) return;
  if (MetadataGate::Use use(*core_->metadata); use && !use->MayWriteData()) {
    waits_for_lease_ = true;
    return;
  }
  waits_for_lease_ = false;
  if (!view_status_.ok()) return LoseUnsent(view_status_);
  if (!view_.data.valid()) {
    allocating_ = true;
    actions->allocate = true;
    return;
  }
  while (const ExtentPtr extent = extents_.NextToSend()) {
    Send send;
    if (PrepareSend(extent, &send)) actions->sends.push_back(std::move(send));
  }
}

void InodeDataImpl::CollectCommit(Actions* actions) {
  if (committing_ || allocating_ || refreshing_ || uncommitted_.empty() || !view_.data.valid()) return;
  uint64_t age = 0;
  for (const FlushRequest& request : requests_) {
    if (!extents_.HasUnacknowledged(request.age)) age = std::max(age, request.age);
  }
  if (uncommitted_.front().age > age) return;
  MetadataForData::WriteCommit commit{
      .inode = inode_, .data = view_.data, .truncate_generation = view_.truncate_generation};
  for (const UncommittedWrites& writes : uncommitted_) {
    if (writes.age > age) break;
    commit.min_size_bytes = std::max(commit.min_size_bytes, writes.end);
    commit.mtime_ns = writes.mtime_ns;
    actions->commit_age = writes.age;
  }
  commit.publishes_all = uncommitted_.back().age == actions->commit_age && queued_writes_ == 0;
  committing_ = true;
  own_generations_expected_ = 1;
  actions->commit = commit;
}

// Once everything that a sync waits for is acknowledged, its targets are committed; the size may be committed at the
// same time.
void InodeDataImpl::CollectTargets(Actions* actions) {
  for (const FlushRequest& request : requests_) {
    if (!request.sync || extents_.HasUnacknowledged(request.age) || !extents_.HasUnstable(request.age)) continue;
    for (const ExtentPtr& extent : extents_.Unstable()) {
      if (extent->oldest_age > request.age) break;
      for (const PieceAck& ack : extent->acks) {
        if (targets_requested_.insert(ack.target).second) actions->targets.push_back(ack.target);
      }
    }
  }
}

bool InodeDataImpl::IsOver(const FlushRequest& request) const {
  if (extents_.HasUnacknowledged(request.age)) return false;
  if (!uncommitted_.empty() && uncommitted_.front().age <= request.age) return false;
  return !request.sync || !extents_.HasUnstable(request.age);
}

void InodeDataImpl::CollectFinished(Actions* actions) {
  for (auto it = requests_.begin(); it != requests_.end();) {
    if (!IsOver(*it)) {
      ++it;
      continue;
    }
    ErrorCursor& cursor = it->cursor != nullptr ? *it->cursor : *own_errors_;
    const Status status = cursor.reported < error_count_ ? error_ : Status::Ok();
    if (it->takes_error) cursor.reported = error_count_;
    if (it->done != nullptr) actions->finished.emplace_back(std::move(it->done), status);
    it = requests_.erase(it);
  }
  UpdateSyncWaiting();
}

void InodeDataImpl::Perform(Actions actions) {
  for (const Send& send : actions.sends) StartSend(send);
  if (actions.allocate) AllocateData();
  if (actions.refresh) RefreshAttributes();
  if (actions.commit) CommitWrites(*actions.commit, actions.commit_age);
  for (const TargetId target : actions.targets) core_->commits->Request(target);
  for (PendingTruncate& truncate : actions.truncates)
    TruncateJob::Start(core_, truncate.attributes, std::move(truncate.done));
  for (const auto& [done, status] : actions.finished) done(status);
}

// ---- The metadata half ----

void InodeDataImpl::AllocateData() {
  MetadataGate::Use use(*core_->metadata);
  if (!use) return OnAttributesForSending(true, Status(StatusCode::kCancelled, "the client is shutting down"));
  use->AllocateData(inode_, [self = shared_from_this()](const Result<Attributes>& attributes) {
    self->OnAttributesForSending(true, attributes);
  });
}

void InodeDataImpl::RefreshAttributes() {
  MetadataGate::Use use(*core_->metadata);
  if (!use) return OnAttributesForSending(false, Status(StatusCode::kCancelled, "the client is shutting down"));
  use->FetchAttributes(inode_, [self = shared_from_this()](const Result<Attributes>& attributes) {
    self->OnAttributesForSending(false, attributes);
  });
}

void InodeDataImpl::OnAttributesForSending(bool allocated, const Result<Attributes>& attributes) {
  {
    MutexLock lock(mutex_);
    (allocated ? allocating_ : refreshing_) = false;
    if (attributes.ok()) {
      AdoptLocked(*attributes);
      if (allocated && !view_.data.valid())
        LoseUnsent(Status(StatusCode::kInternal, "the metadata server gave no data id"));
    } else {
      LoseUnsent(NameRemoval(attributes.status()));
    }
    Account();
  }
  Advance();
  core_->OnRoom();
}

void InodeDataImpl::CommitWrites(const MetadataForData::WriteCommit& commit, uint64_t age) {
  MetadataGate::Use use(*core_->metadata);
  if (!use) return OnCommitted(age, Status(StatusCode::kCancelled, "the client is shutting down"));
  use->CommitWrite(commit, [self = shared_from_this(), age](const Result<Attributes>& attributes) {
    self->OnCommitted(age, attributes);
  });
}

void InodeDataImpl::OnCommitted(uint64_t age, const Result<Attributes>& attributes) {
  {
    MutexLock lock(mutex_);
    committing_ = false;
    const bool stale = attributes.status().code() == StatusCode::kStaleTruncate;
    if (stale && ++commit_refusals_ <= kCommitRefusalsMax) {
      refresh_wanted_ = true;
    } else {
      while (!uncommitted_.empty() && uncommitted_.front().age <= age) uncommitted_.pop_front();
      if (attributes.ok()) {
        commit_refusals_ = 0;
        committed_age_ = std::max(committed_age_, age);
        if (uncommitted_.empty()) acknowledged_end_ = 0;
        AdoptLocked(*attributes);
      } else {
        const Status status = NameRemoval(attributes.status());
        spdlog::error("size of written data not committed: inode={} error={}", inode_.value(), status.ToString());
        SetError(status);
        // Its data stays what it is, unpublished; nothing more can be done for it.
        committed_age_ = std::max(committed_age_, age);
      }
      for (const ExtentPtr& extent : extents_.Unstable()) RemoveIfSettled(extent);
    }
    own_generations_expected_ = 0;
    Account();
  }
  Advance();
  core_->OnRoom();
}

void InodeDataImpl::OnTargetCommitted(TargetId target, uint64_t stamp, const Result<CommitOutcome>& outcome) {
  const auto is_in = [](const std::vector<GroupId>& groups, GroupId group) {
    return std::find(groups.begin(), groups.end(), group) != groups.end();
  };
  std::vector<GroupId> more;
  {
    MutexLock lock(mutex_);
    targets_requested_.erase(target);
    bool forgotten = false;
    for (const ExtentPtr& extent : extents_.Unstable()) {
      bool outdated = false;
      bool lost = false;
      std::erase_if(extent->acks, [&](const PieceAck& ack) {
        if (ack.target != target) return false;
        if (!outcome.ok()) {
          if (ack.stamp <= stamp) lost = true;
          else more.push_back(ack.group);
          return false;
        }
        const bool asked = is_in(outcome->covered, ack.group);
        if (is_in(outcome->moved, ack.group) || (asked && ack.incarnation != outcome->incarnation)) {
          outdated = true;
          return false;
        }
        if (asked && ack.stamp <= stamp) return true;
        more.push_back(ack.group);
        return false;
      });
      if (lost) {
        LoseExtent(extent, outcome.status());
      } else if (outdated) {
        forgotten = true;
        extents_.SendAgain(extent);
      } else {
        RemoveIfSettled(extent);
      }
    }
    if (forgotten) {
      // What a later write had cut out of the forgotten extents exists only in that write now: syncs under way wait for
      // it too.
      for (FlushRequest& request : requests_) {
        if (request.sync) request.age = extents_.last_age();
      }
      extents_.WantSend(extents_.last_age());
    }
    for (const GroupId group : more) core_->commits->Add(target, group, shared_from_this());
    Account();
  }
  Advance();
  core_->OnRoom();
}

}  // namespace tarn::client
