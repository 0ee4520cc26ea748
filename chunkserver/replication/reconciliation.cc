#include "chunkserver/replication/reconciliation.h"

#include "chunkserver/replication/chunk_copy.h"
#include "chunkserver/replication/peer_call.h"
#include "chunkserver/replication/wire.h"

namespace tarn::replication {
namespace {

// Between two attempts to read a chunk of this target's own that is damaged.
constexpr int64_t kUnreadableDelayMs = 2'000;

}  // namespace

bool Reconciliation::IsCurrent() const {
  if (ctx_->stopped) return false;
  MutexLock lock(replica_->mutex);
  return replica_->role == Role::kPrimary && replica_->view.epoch == view_.epoch;
}

void Reconciliation::Again(TargetId member, const Status& status, std::function<void()> attempt) {
  if (!IsCurrent()) return;
  bool too_long = !IsPassing(status.code());
  {
    MutexLock lock(mutex_);
    const auto [since, is_new] = failing_since_ns_.try_emplace(member, ctx_->NowNs() - ctx_->options.member_timeout_ms * kNsPerMs / 2);
    too_long = too_long || ctx_->NowNs() - since->second >= ctx_->options.member_timeout_ms * kNsPerMs;
  }
  if (too_long) replica_->ReportFailed(member, status.WithContext("reconcile").ToString());
  ctx_->executor->RunAfter(kRepeatDelayMs, [self = shared_from_this(), attempt = std::move(attempt)] {
    if (self->IsCurrent()) attempt();
  });
}

void Reconciliation::Succeeded(TargetId member) {
  MutexLock lock(mutex_);
  failing_since_ns_.erase(member);
}

void Reconciliation::Start() {
  std::set<TargetId> others(view_.in_sync.begin(), view_.in_sync.end());
  others.erase(ctx_->target);
  {
    MutexLock lock(mutex_);
    waiting_ = others;
  }
  for (const TargetId member : others) AskMember(member);
  if (others.empty()) AllListed();
}

void Reconciliation::AskMember(TargetId member) {
  proto::ReconcileRequest request;
  SetAddress(*ctx_, member, view_.id, view_.epoch, request.mutable_member());
  CallPeer<proto::ReconcileReply>(ctx_, member, rpc::Method::kReconcile, request, {},
                                  [self = shared_from_this(), member](const Status& status, const proto::ReconcileReply& reply) {
                                    if (!status.ok()) return self->Again(member, status, [self, member] { self->AskMember(member); });
                                    self->Listed(member, reply);
                                  });
}

void Reconciliation::Listed(TargetId member, const proto::ReconcileReply& reply) {
  Succeeded(member);
  {
    MutexLock lock(mutex_);
    for (const proto::ChunkEntry& entry : reply.unconfirmed()) listed_.insert({DataId(entry.data_id()), entry.chunk_index()});
    if (reply.list_lost()) compared_.insert(member);
    waiting_.erase(member);
    if (!waiting_.empty()) return;
  }
  AllListed();
}

// This target's own list is complete once nothing that it admitted earlier is in the store's hands any more.
void Reconciliation::AllListed() {
  Callbacks out;
  {
    MutexLock lock(replica_->mutex);
    replica_->applying.WhenDrained(
        [self = shared_from_this()] {
          if (!self->IsCurrent()) return;
          {
            MutexLock replica_lock(self->replica_->mutex);
            MutexLock own_lock(self->mutex_);
            const Replica& replica = *self->replica_;
            for (const auto& [order, entry] : replica.unconfirmed.entries()) self->listed_.insert(entry.chunk);
            for (const auto& [order, change] : replica.pending) self->listed_.insert(change->chunk);
            self->listed_.insert(replica.installed.begin(), replica.installed.end());
            for (const TargetId member : self->view_.in_sync) {
              if (member == self->ctx_->target) continue;
              if (replica.list_lost) self->compared_.insert(member);
              for (const ChunkId chunk : self->listed_) self->todo_.insert({chunk, member});
            }
          }
          self->SendWindows(true);
        },
        &out);
  }
  RunAll(std::move(out));
}

void Reconciliation::CompareSome() {
  std::set<TargetId> to_compare;
  {
    MutexLock lock(mutex_);
    to_compare = waiting_ = compared_;
  }
  for (const TargetId member : to_compare) CompareAll(member, std::nullopt);
  if (to_compare.empty()) CopySome();
}

void Reconciliation::CompareAll(TargetId member, std::optional<ChunkId> after) {
  DiffInventory(replica_, view_.epoch, member, after, [self = shared_from_this(), member, after](const Status& status, const InventoryDifference& page) {
    if (!status.ok()) return self->Again(member, status, [self, member, after] { self->CompareAll(member, after); });
    self->Succeeded(member);
    {
      MutexLock lock(self->mutex_);
      for (const ChunkId chunk : page.chunks) self->todo_.insert({chunk, member});
      if (!page.through) self->waiting_.erase(member);
      if (!page.through && !self->waiting_.empty()) return;
    }
    page.through ? self->CompareAll(member, page.through) : self->CopySome();
  });
}

// Keeps some copies going until none is left.
void Reconciliation::CopySome() {
  std::vector<Todo> begun;
  bool is_end = false;
  {
    MutexLock lock(mutex_);
    while (!todo_.empty() && copying_ < ctx_->options.copies_in_flight) {
      begun.push_back(*todo_.begin());
      todo_.erase(todo_.begin());
      ++copying_;
    }
    is_end = todo_.empty() && copying_ == 0;
  }
  for (const Todo& todo : begun) CopyOne(todo);
  if (is_end) SendWindows(false);
}

void Reconciliation::CopyOne(const Todo& todo) {
  const CopyJob job{.replica = replica_, .epoch = view_.epoch, .member = todo.second, .chunk = todo.first};
  CopyChunk(job, [self = shared_from_this(), todo](const Status& status, const CopyCount& count) {
    // Nobody else can say what this copy should be: the group waits until it can be read.
    if (count.source_failed) {
      return self->ctx_->executor->RunAfter(kUnreadableDelayMs, [self, todo] {
        if (self->IsCurrent()) self->CopyOne(todo);
      });
    }
    if (!status.ok()) return self->Again(todo.second, status, [self, todo] { self->CopyOne(todo); });
    self->Succeeded(todo.second);
    {
      MutexLock lock(self->mutex_);
      --self->copying_;
    }
    self->CopySome();
  });
}

// Twice: see the head of the class.
void Reconciliation::SendWindows(bool forget) {
  std::set<TargetId> others(view_.in_sync.begin(), view_.in_sync.end());
  others.erase(ctx_->target);
  if (others.empty()) return replica_->BeginServing(view_.epoch);
  {
    MutexLock lock(mutex_);
    waiting_ = others;
  }
  proto::InstallWindowsRequest request = WindowsMessage(ctx_->store->WindowsOf(view_.id));
  request.set_forget(forget);
  request.set_round(ctx_->next_copy++);
  for (const TargetId member : others) {
    SetAddress(*ctx_, member, view_.id, view_.epoch, request.mutable_member());
    SendWindowsTo(member, request);
  }
}

void Reconciliation::SendWindowsTo(TargetId member, const proto::InstallWindowsRequest& request) {
  CallPeer<proto::InstallWindowsReply>(ctx_, member, rpc::Method::kInstallWindows, request, {},
                                       [=, self = shared_from_this()](const Status& status, const proto::InstallWindowsReply&) {
                                         if (!status.ok()) return self->Again(member, status, [=] { self->SendWindowsTo(member, request); });
                                         self->Succeeded(member);
                                         {
                                           MutexLock lock(self->mutex_);
                                           self->waiting_.erase(member);
                                           if (!self->waiting_.empty()) return;
                                         }
                                         request.forget() ? self->CompareSome() : self->replica_->BeginServing(self->view_.epoch);
                                       });
}

}  // namespace tarn::replication
