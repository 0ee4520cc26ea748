#include "client/data/inode_data_impl.h"

#include <algorithm>

#include "common/base/check.h"

namespace tarn::client {

InodeDataImpl::InodeDataImpl(std::shared_ptr<PlaneCore> core, const Attributes& attributes)
    : core_(std::move(core)),
      inode_(attributes.inode),
      cache_key_(core_->NextCacheKey()),
      extents_(core_->buffer.get(), SlabIdentity{attributes.inode, attributes.data, attributes.truncate_generation}) {
  SetView(attributes);
}

InodeDataImpl::~InodeDataImpl() {
  core_->spans.DropKey(cache_key_);
  core_->Forget(inode_);
}

// ---- Attributes ----

void InodeDataImpl::SetView(const Attributes& attributes) {
  const bool other = attributes.data != view_.data || attributes.truncate_generation != view_.truncate_generation;
  view_ = ViewOf(attributes);
  change_ = attributes.change;
  committed_size_ = attributes.size_bytes;
  view_status_ = Status::Ok();
  if (view_.data.valid()) {
    const Status valid = ValidateLayout(view_.layout);
    if (!valid.ok())
      view_status_ =
          Status(StatusCode::kCorruption, "inode " + std::to_string(inode_.value()) + ": " + valid.message());
  }
  if (other) extents_.SetIdentity(SlabIdentity{inode_, view_.data, view_.truncate_generation});
}

void InodeDataImpl::Adopt(const Attributes& attributes) {
  {
    MutexLock lock(mutex_);
    AdoptLocked(attributes);
  }
  Advance();
}

// Answers overtake each other: one that is older than what is known says nothing.
void InodeDataImpl::AdoptLocked(const Attributes& attributes) {
  if (attributes.change < change_) return;
  const bool had_data = view_.data.valid();
  if (had_data && attributes.data != view_.data) {
    // Truncated to zero or replaced. What was published is gone with the old data; what was not belongs to the new.
    SendUncommittedAgain(0);
  } else if (had_data && attributes.truncate_generation > view_.truncate_generation) {
    // Somebody made the file shorter. What was sent but not yet published may have been cut off.
    SendUncommittedAgain(attributes.truncate_floor_bytes.value_or(attributes.size_bytes));
  } else if (attributes.data_generation > view_.data_generation + own_generations_expected_) {
    settle_through_age_ = extents_.last_age();
    DropCache();
  }
  if (attributes.data_generation > view_.data_generation) own_generations_expected_ = 0;
  SetView(attributes);
}

// The file was cut at `cut_at` by somebody else. Published data that is not stable yet is cut as well; what of the
// unpublished data is still at hand is sent once more, and what is not came before the cut.
void InodeDataImpl::SendUncommittedAgain(uint64_t cut_at) {
  for (const ExtentPtr& extent : extents_.Unacknowledged()) {
    if (extent->stamps && extent->age <= committed_age_) {  // on its way once more
      extents_.CutAt(extent, cut_at);
      continue;
    }
    extent->stamps.reset();
    if (extent->state == SlabState::kSending) extent->send_again = true;
  }
  for (const ExtentPtr& extent : extents_.Unstable()) {
    if (extent->age > committed_age_) {
      extents_.SendAnew(extent);
    } else {
      extents_.CutAt(extent, cut_at);
    }
  }
  acknowledged_end_ = std::min(acknowledged_end_, cut_at);
  CapUncommitted(std::max(acknowledged_end_, extents_.UnacknowledgedEnd()));
  if (!extents_.HasUnacknowledged(extents_.last_age())) uncommitted_.clear();
  DropCache();
}

void InodeDataImpl::DropCache() {
  core_->spans.DropKey(cache_key_);
  cache_key_ = core_->NextCacheKey();
}

void InodeDataImpl::FinishTruncate(const Attributes& attributes, StatusCallback done) {
  PendingTruncate pending{attributes, {}, std::move(done)};
  bool nothing_to_cut = false;
  {
    MutexLock lock(mutex_);
    AdoptOwnTruncate(attributes, &pending);
    nothing_to_cut = !attributes.data.valid() || !attributes.truncate_floor_bytes;
    if (!nothing_to_cut) truncates_.push_back(std::move(pending));
    if (!active_ && !nothing_to_cut) {
      active_ = true;
      core_->Activate(shared_from_this());
    }
    Account();
  }
  if (nothing_to_cut) pending.done(Status::Ok());
  Advance();
  core_->OnRoom();
}

// Every write that came before the truncate is subject to it, wherever its bytes are now.
void InodeDataImpl::AdoptOwnTruncate(const Attributes& attributes, PendingTruncate* pending) {
  const bool other_data = view_.data.valid() && attributes.data != view_.data;
  const uint64_t size = attributes.data.valid() && !other_data ? attributes.size_bytes : 0;
  pending->under_way = extents_.TruncateTo(size);
  CapUncommitted(size);
  if (size == 0) uncommitted_.clear();
  acknowledged_end_ = std::min(acknowledged_end_, size);
  DropCache();
  if (attributes.change >= change_) SetView(attributes);
}

// ---- Sizes ----

uint64_t InodeDataImpl::FileSize() const {
  uint64_t size = committed_size_;
  for (const UncommittedWrites& writes : uncommitted_) size = std::max(size, writes.end);
  return size;
}

uint64_t InodeDataImpl::SizeForAppend() const {
  return queued_writes_ > 0 ? std::max(FileSize(), queued_end_) : FileSize();
}

void InodeDataImpl::CapUncommitted(uint64_t size) {
  for (UncommittedWrites& writes : uncommitted_) writes.end = std::min(writes.end, size);
}

Attributes InodeDataImpl::Overlay(Attributes attributes) const {
  MutexLock lock(mutex_);
  for (const UncommittedWrites& writes : uncommitted_) {
    attributes.size_bytes = std::max(attributes.size_bytes, writes.end);
    attributes.mtime_ns = writes.mtime_ns;
  }
  return attributes;
}

bool InodeDataImpl::dirty() const {
  MutexLock lock(mutex_);
  return !uncommitted_.empty() || extents_.unacknowledged_bytes() > 0;
}

void InodeDataImpl::Account() {
  const uint64_t unacknowledged = extents_.unacknowledged_bytes();
  const uint64_t unstable = extents_.unstable_bytes();
  core_->AccountBuffered(static_cast<int64_t>(unacknowledged - accounted_unacknowledged_),
                         static_cast<int64_t>(unstable - accounted_unstable_));
  accounted_unacknowledged_ = unacknowledged;
  accounted_unstable_ = unstable;
}

// ---- For the plane ----

void InodeDataImpl::OnTick(int64_t now_ns) {
  bool due = false;
  bool again = false;
  {
    MutexLock lock(mutex_);
    again = waits_for_lease_;
    const int64_t limit_ns = now_ns - core_->options.flush_age_ms * 1'000'000;
    const bool idle = requests_.empty();
    due = idle && (extents_.oldest_dirty_ns() <= limit_ns ||
                   (!uncommitted_.empty() && uncommitted_.front().since_ns <= limit_ns));
    if (idle && extents_.empty() && uncommitted_.empty() && truncates_.empty() && queued_writes_ == 0) {
      active_ = false;
      core_->Deactivate(shared_from_this());
    }
  }
  if (due) {
    Request(FlushRequest{.takes_error = false, .done = nullptr});
  } else if (again) {
    Advance();
  }
}

void InodeDataImpl::FlushForRoom() {
  bool idle = false;
  {
    MutexLock lock(mutex_);
    idle = requests_.empty();
    if (!idle) extents_.WantSend(extents_.last_age());
  }
  if (idle) {
    Request(FlushRequest{.takes_error = false, .done = nullptr});
  } else {
    Advance();
  }
}

void InodeDataImpl::SyncKeepingErrors(StatusCallback done) {
  Request(FlushRequest{.sync = true, .takes_error = false, .done = std::move(done)});
}

}  // namespace tarn::client
