#include "chunkserver/replication/sync_job.h"

#include <utility>
#include <vector>

#include "chunkserver/replication/peer_call.h"
#include "chunkserver/replication/wire.h"

namespace tarn::replication {
namespace {

// Chunks of this target's own that are damaged have no other copy: somebody has to act.
constexpr int64_t kUnreadableDelayMs = 30'000;
constexpr int64_t kConfirmationPollMs = 50;

}  // namespace

bool SyncJob::IsCurrentLocked(uint64_t pass) const {
  if (ctx_->stopped || pass != pass_ || replica_->role != Role::kPrimary || replica_->view.epoch != epoch_) return false;
  const auto found = replica_->syncs.find(member_);
  return found != replica_->syncs.end() && found->second.get() == this;
}

void SyncJob::Start() { BeginPass(); }

void SyncJob::Fail(const Status&) {
  uint64_t pass;
  {
    MutexLock lock(replica_->mutex);
    pass = pass_;
  }
  FailPass(pass);
}

void SyncJob::FailPass(uint64_t pass, int64_t delay_ms) {
  Callbacks out;
  {
    MutexLock lock(replica_->mutex);
    if (!IsCurrentLocked(pass)) return;
    if (!replica_->DropSyncing(member_, &out)) return;
    ++pass_;
    walking_ = takes_all_ = false;
  }
  RunAll(std::move(out));
  ctx_->executor->RunAfter(delay_ms, [self = shared_from_this()] { self->BeginPass(); });
}

void SyncJob::BeginPass() {
  uint64_t pass;
  {
    MutexLock lock(replica_->mutex);
    if (!IsCurrentLocked(pass_) || walking_) return;
    pass = ++pass_;
    walking_ = true;
    takes_all_ = false;
    cursor_.reset();
    page_through_.reset();
    copying_ = 0;
    listing_ = true;
    todo_.clear();
    received_.clear();
    unreadable_.clear();
    bytes_done_ = bytes_total_ = 0;
  }
  InstallWindows(pass, true);
}

// At first the member forgets what it believed to have applied; at the end it gets what was applied before it received every change.
void SyncJob::InstallWindows(uint64_t pass, bool forget) {
  proto::InstallWindowsRequest request = WindowsMessage(forget ? std::vector<store::SessionWindow>() : ctx_->store->WindowsOf(replica_->group));
  SetAddress(*ctx_, member_, replica_->group, epoch_, request.mutable_member());
  request.set_forget(forget);
  request.set_round(ctx_->next_copy++);
  CallPeer<proto::InstallWindowsReply>(ctx_, member_, rpc::Method::kInstallWindows, request, {},
                                       [self = shared_from_this(), pass, forget](const Status& status, const proto::InstallWindowsReply&) {
                                         if (!status.ok()) return self->FailPass(pass);
                                         forget ? self->NextPage(pass) : self->AwaitDrained(pass);
                                       });
}

void SyncJob::NextPage(uint64_t pass) {
  std::optional<ChunkId> after;
  {
    MutexLock lock(replica_->mutex);
    if (!IsCurrentLocked(pass)) return;
    after = cursor_;
  }
  DiffInventory(replica_, epoch_, member_, after, [self = shared_from_this(), pass](const Status& status, const InventoryDifference& page) {
    status.ok() ? self->Compared(pass, page) : self->FailPass(pass);
  });
}

void SyncJob::Compared(uint64_t pass, const InventoryDifference& page) {
  {
    MutexLock lock(replica_->mutex);
    if (!IsCurrentLocked(pass)) return;
    listing_ = false;
    page_through_ = page.through;
    if (page_through_) todo_.erase(todo_.upper_bound(*page_through_), todo_.end());
    todo_.insert(page.chunks.begin(), page.chunks.end());
    bytes_total_ += page.bytes;
  }
  CopySome(pass);
}

void SyncJob::CopySome(uint64_t pass) {
  std::vector<ChunkId> begun;
  bool is_page_end = false;
  bool is_end = false;
  bool is_complete = true;
  {
    MutexLock lock(replica_->mutex);
    if (!IsCurrentLocked(pass)) return;
    while (!todo_.empty() && copying_ < ctx_->options.copies_in_flight) {
      begun.push_back(*todo_.begin());
      todo_.erase(todo_.begin());
      ++copying_;
    }
    is_page_end = todo_.empty() && copying_ == 0;
    is_end = is_page_end && !page_through_;
    is_complete = unreadable_.empty();
    if (is_page_end) {
      bytes_done_ = bytes_total_;
      cursor_ = page_through_;
      takes_all_ = is_end && is_complete;
      listing_ = !is_end;
      received_.clear();
    }
  }
  for (const ChunkId chunk : begun) CopyOne(pass, chunk);
  if (is_end && !is_complete) {
    FailPass(pass, kUnreadableDelayMs);
  } else if (is_end) {
    InstallWindows(pass, false);
  } else if (is_page_end) {
    NextPage(pass);
  }
}

void SyncJob::CopyOne(uint64_t pass, ChunkId chunk) {
  const CopyJob job{.replica = replica_, .epoch = epoch_, .member = member_, .chunk = chunk};
  const auto received = [self = shared_from_this(), pass, chunk] {
    MutexLock lock(self->replica_->mutex);
    if (self->IsCurrentLocked(pass)) self->received_.insert(chunk);
  };
  CopyChunk(
      job,
      [self = shared_from_this(), pass, chunk](const Status& status, const CopyCount& count) {
        if (!status.ok() && !count.source_failed) return self->FailPass(pass);
        {
          MutexLock lock(self->replica_->mutex);
          if (!self->IsCurrentLocked(pass)) return;
          if (count.source_failed) self->unreadable_.insert(chunk);
          --self->copying_;
          self->bytes_copied_ += count.bytes_sent;
        }
        self->CopySome(pass);
      },
      received);
}

// Of what the windows name, some is applied here and has no order number yet.
void SyncJob::AwaitDrained(uint64_t pass) {
  Callbacks out;
  {
    MutexLock lock(replica_->mutex);
    if (!IsCurrentLocked(pass)) return;
    replica_->applying.WhenDrained(
        [self = shared_from_this(), pass] {
          uint64_t order;
          {
            MutexLock replica_lock(self->replica_->mutex);
            order = self->replica_->last_order;
          }
          self->AwaitConfirmed(pass, order);
        },
        &out);
  }
  RunAll(std::move(out));
}

void SyncJob::AwaitConfirmed(uint64_t pass, uint64_t order) {
  {
    MutexLock lock(replica_->mutex);
    if (!IsCurrentLocked(pass)) return;
    if (replica_->ConfirmedOrder() < order) {
      ctx_->executor->RunAfter(kConfirmationPollMs, [=, self = shared_from_this()] { self->AwaitConfirmed(pass, order); });
      return;
    }
  }
  CommitMember(pass);
}

void SyncJob::CommitMember(uint64_t pass) {
  proto::CommitTargetRequest request;
  request.set_target(member_.value());
  request.set_this_target_only(true);
  request.add_groups(replica_->group.value());
  CallPeer<proto::CommitTargetReply>(ctx_, member_, rpc::Method::kCommitTarget, request, {},
                                     [self = shared_from_this(), pass](const Status& status, const proto::CommitTargetReply&) {
                                       status.ok() ? self->ReportEqual(pass) : self->FailPass(pass);
                                     });
}

void SyncJob::ReportEqual(uint64_t pass) {
  {
    MutexLock lock(replica_->mutex);
    if (!IsCurrentLocked(pass)) return;
    replica_->MarkEqualReported(member_);
  }
  proto::GroupReport report;
  report.set_group(replica_->group.value());
  report.set_epoch(epoch_.value());
  report.set_target(member_.value());
  report.set_kind(proto::GroupReport::KIND_EQUAL);
  ctx_->authority->Report(report);
}

bool SyncJob::TakesChange(ChunkId chunk) {
  if (!walking_ || unreadable_.contains(chunk)) return false;
  if (takes_all_ || (cursor_ && chunk <= *cursor_) || received_.contains(chunk)) return true;
  if (listing_ || !page_through_ || chunk <= *page_through_) todo_.insert(chunk);
  return false;
}

proto::SyncProgress SyncJob::Progress() const {
  proto::SyncProgress progress;
  progress.set_group(replica_->group.value());
  progress.set_target(member_.value());
  progress.set_bytes_done(bytes_done_);
  progress.set_bytes_total(bytes_total_);
  progress.set_bytes_copied(bytes_copied_);
  return progress;
}

}  // namespace tarn::replication
