#include "client/locks.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "client/filesystem_impl.h"

namespace tarn::client {
namespace {

// Grants are pushed; this finds those whose push was lost with a connection or a leader.
constexpr int64_t kAskIntervalMs = 2'000;
constexpr int64_t kReleaseRetryMs = 1'000;
constexpr size_t kEarlyGrantsMax = 1024;

proto::LockSpace ToProto(LockSpace space) {
  return space == LockSpace::kFlock ? proto::LOCK_SPACE_FLOCK : proto::LOCK_SPACE_POSIX;
}

void Fill(const FileLock& lock, proto::FileLock* message) {
  message->set_owner(lock.owner);
  message->set_pid(lock.pid);
  message->set_exclusive(lock.exclusive);
  message->set_first(lock.first);
  message->set_last(lock.last);
}

proto::Mutation MutationFor(InodeId inode, const FileLock& lock) {
  proto::Mutation mutation;
  proto::LockOp* op = mutation.mutable_lock();
  op->set_inode(inode.value());
  op->set_space(ToProto(lock.space));
  Fill(lock, op->mutable_lock());
  return mutation;
}

bool IsWhole(const FileLock& range) { return range.first == 0 && range.last == kLockLastMax; }

}  // namespace

Status LockLost() { return Status(StatusCode::kIoError, "the lock was lost: this client's session had expired"); }

std::shared_ptr<Locks> Locks::Create(MetadataClient* metadata) {
  std::shared_ptr<Locks> locks(new Locks(metadata));
  const std::weak_ptr<Locks> weak = locks;
  metadata->SetLockListener({.granted =
                                 [weak](SessionId session, std::span<const uint64_t> waits) {
                                   if (const auto self = weak.lock()) self->OnPush(session, waits);
                                 },
                             .connected =
                                 [weak] {
                                   if (const auto self = weak.lock()) self->Ask();
                                 }});
  return locks;
}

// ---- Owners ----

bool Locks::IsLost(const Owner& owner) const {
  return owner.session.valid() && owner.session != metadata_->session();
}

void Locks::Use(const std::shared_ptr<FileHandle>& handle, Owner* owner) {
  if (owner->handles.insert(handle.get()).second) ++handle->locks.owners;
}

void Locks::Erase(Owners::iterator owner) {
  for (FileHandle* handle : owner->second.handles) {
    if (--handle->locks.owners == 0) handle->locks.session.store(0, std::memory_order_relaxed);
  }
  owners_.erase(owner);
  owner_count_.store(owners_.size(), std::memory_order_release);
}

bool Locks::LostBy(const HandleLocks& handle) const {
  const uint64_t session = handle.session.load(std::memory_order_relaxed);
  return session != 0 && session != metadata_->session().value();
}

// ---- Locking ----

uint64_t Locks::Lock(const std::shared_ptr<FileHandle>& handle, const FileLock& lock, bool wait, StatusCallback done) {
  auto request = std::make_shared<Request>();
  request->handle = handle;
  request->key = KeyOf(handle->inode->id, lock);
  request->lock = lock;
  request->wait = wait;
  request->done = std::move(done);
  Status refused;
  {
    MutexLock guard(mutex_);
    const auto found = owners_.find(request->key);
    if (closed_) {
      refused = Status(StatusCode::kCancelled, "the client is shutting down");
    } else if (found != owners_.end() && IsLost(found->second)) {
      refused = LockLost();
    } else {
      Owner& owner = owners_[request->key];
      owner_count_.store(owners_.size(), std::memory_order_release);
      Use(handle, &owner);
      ++owner.pending;
      ++owner.changes;
      request->ticket = next_ticket_++;
      requests_[request->ticket] = request;
    }
  }
  if (!refused.ok()) {
    request->done(refused);
    return 0;
  }
  Submit(request);
  return request->ticket;
}

void Locks::Submit(const RequestPtr& request) {
  proto::Mutation mutation = MutationFor(request->key.inode, request->lock);
  mutation.mutable_lock()->set_wait(request->wait);
  metadata_->Mutate(std::move(mutation), [self = shared_from_this(), request](const Result<proto::MutationReply>& reply) {
    self->OnReply(request, reply);
  });
}

void Locks::OnReply(const RequestPtr& request, const Result<proto::MutationReply>& reply) {
  if (!reply.ok()) return Finish(request, reply.status());
  switch (reply->lock().outcome()) {
    case proto::LockResult::OUTCOME_GRANTED:
      return OnGranted(request, SessionId(reply->lock().session()));
    case proto::LockResult::OUTCOME_WAITING:
      return BeginWait(request, reply->lock());
    default:
      return Finish(request, Status(StatusCode::kWouldBlock, "another owner has a lock there"));
  }
}

void Locks::OnGranted(const RequestPtr& request, SessionId session) {
  bool lost = false;
  bool unwanted = false;
  {
    MutexLock guard(mutex_);
    const auto found = owners_.find(request->key);
    if (found != owners_.end()) {
      // Other locks of the owner may have gone with an earlier session: then it must hear of that first.
      lost = IsLost(found->second);
      if (!lost) {
        found->second.session = session;
        request->handle->locks.session.store(session.value(), std::memory_order_relaxed);
      }
    }
    unwanted = request->answered;
  }
  // What the owner does not know to have it would never give back.
  if (unwanted || lost) SendUnlock(request->key, request->lock, /*lets_go=*/false, [](const Status&) {});
  Finish(request, lost ? LockLost() : Status::Ok());
}

void Locks::Finish(const RequestPtr& request, const Status& status) {
  StatusCallback done;
  {
    MutexLock guard(mutex_);
    if (!request->answered) done = std::move(request->done);
    request->answered = true;
    requests_.erase(request->ticket);
    const auto found = owners_.find(request->key);
    if (found != owners_.end() && --found->second.pending == 0 && !found->second.session.valid()) Erase(found);
  }
  if (done != nullptr) done(status);
}

// ---- Waiting ----

void Locks::BeginWait(const RequestPtr& request, const proto::LockResult& result) {
  bool granted = false;
  bool cancelled = false;
  bool closed = false;
  const WaitId wait(SessionId(result.session()), result.wait());
  {
    MutexLock guard(mutex_);
    granted = early_grants_.erase(wait) != 0;
    closed = closed_;
    request->session = wait.first;
    request->sequence = wait.second;
    if (!granted && !closed) {
      waits_[wait] = request;
      cancelled = request->cancelled;
    }
  }
  if (granted) return OnGranted(request, wait.first);
  if (closed) return Finish(request, Status(StatusCode::kCancelled, "the client is shutting down"));
  if (cancelled) SendCancel(request);
  AskLater(kAskIntervalMs);
}

Locks::RequestPtr Locks::TakeWait(const WaitId& wait) {
  auto node = waits_.extract(wait);
  return node.empty() ? nullptr : std::move(node.mapped());
}

void Locks::OnPush(SessionId session, std::span<const uint64_t> waits) {
  std::vector<RequestPtr> granted;
  {
    MutexLock guard(mutex_);
    for (const uint64_t wait : waits) {
      if (RequestPtr request = TakeWait({session, wait})) {
        granted.push_back(std::move(request));
      } else if (early_grants_.size() < kEarlyGrantsMax) {
        early_grants_.insert({session, wait});
      }
    }
  }
  for (const RequestPtr& request : granted) OnGranted(request, session);
}

void Locks::AskLater(int64_t delay_ms) {
  {
    MutexLock guard(mutex_);
    if (closed_ || std::exchange(asks_, true)) return;
  }
  metadata_->loop()->PostAfter(delay_ms, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    {
      MutexLock guard(self->mutex_);
      self->asks_ = false;
      if (self->waits_.empty()) {
        self->early_grants_.clear();
        return;
      }
    }
    self->Ask();
    self->AskLater(kAskIntervalMs);
  });
}

void Locks::Ask() {
  const SessionId session = metadata_->session();
  std::vector<uint64_t> asked;
  std::vector<RequestPtr> of_lost_session;
  {
    MutexLock guard(mutex_);
    if (waits_.empty() || closed_ || !session.valid()) return;
    std::erase_if(waits_, [&](const auto& entry) {
      if (entry.first.first == session) {
        asked.push_back(entry.first.second);
        return false;
      }
      of_lost_session.push_back(entry.second);
      return true;
    });
  }
  for (const RequestPtr& request : of_lost_session) {
    bool again = false;
    bool lost = false;
    {
      MutexLock guard(mutex_);
      const auto found = owners_.find(request->key);
      lost = found != owners_.end() && IsLost(found->second);
      again = !request->cancelled && !lost;
    }
    // The wait went with the session; it holds nothing, so it may simply begin anew.
    if (again) {
      Submit(request);
    } else {
      Finish(request, lost ? LockLost() : Status(StatusCode::kInterrupted, "the wait for a lock was interrupted"));
    }
  }
  if (asked.empty()) return;
  proto::LockWaitsRequest message;
  message.set_session(session.value());
  for (const uint64_t wait : asked) message.add_waits(wait);
  metadata_->Read<proto::LockWaitsReply>(
      rpc::Method::kLockWaits, std::move(message),
      [self = shared_from_this(), session, asked = std::move(asked)](const Result<proto::LockWaitsReply>& reply) {
        self->OnWaits(session, asked, reply);
      });
}

void Locks::OnWaits(SessionId session, const std::vector<uint64_t>& asked, const Result<proto::LockWaitsReply>& reply) {
  if (!reply.ok()) return;  // is asked again
  std::vector<RequestPtr> granted;
  {
    MutexLock guard(mutex_);
    for (const uint64_t wait : asked) {
      if (std::ranges::find(reply->waiting(), wait) != reply->waiting().end()) continue;
      // One that is being cancelled ends with the answer to that.
      const auto found = waits_.find({session, wait});
      if (found != waits_.end() && !found->second->cancelled) granted.push_back(TakeWait({session, wait}));
    }
  }
  for (const RequestPtr& request : granted) OnGranted(request, session);
}

// ---- Interrupts ----

void Locks::Cancel(uint64_t ticket) {
  RequestPtr request;
  {
    MutexLock guard(mutex_);
    const auto found = requests_.find(ticket);
    if (found == requests_.end() || found->second->cancelled) return;
    found->second->cancelled = true;
    // Before it waits there is nothing to cancel: BeginWait sees the mark.
    if (waits_.contains({found->second->session, found->second->sequence})) request = found->second;
  }
  if (request != nullptr) SendCancel(request);
}

void Locks::SendCancel(const RequestPtr& request) {
  proto::Mutation mutation;
  mutation.mutable_cancel_lock()->set_wait(request->sequence);
  metadata_->Mutate(std::move(mutation), [self = shared_from_this(), request](const Result<proto::MutationReply>& reply) {
    self->OnCancelled(request, reply);
  });
}

void Locks::OnCancelled(const RequestPtr& request, const Result<proto::MutationReply>& reply) {
  // Under another session the wait went with its own.
  const bool of_its_session = reply.ok() && SessionId(reply->lock().session()) == request->session;
  const bool ended = reply.ok() || metadata_->session() != request->session;
  bool waited = false;
  {
    MutexLock guard(mutex_);
    if (ended) {
      waited = TakeWait({request->session, request->sequence}) != nullptr;
    }
  }
  const Status interrupted(StatusCode::kInterrupted, "the wait for a lock was interrupted");
  if (!ended) {
    // The answer does not wait for a leader. Should the lock come after all, it is given back.
    StatusCallback done;
    {
      MutexLock guard(mutex_);
      if (!request->answered) done = std::move(request->done);
      request->answered = true;
    }
    if (done != nullptr) done(interrupted);
    metadata_->loop()->PostAfter(kReleaseRetryMs, [weak = weak_from_this(), request] {
      if (const auto self = weak.lock()) self->SendCancel(request);
    });
    return;
  }
  if (!waited) return;  // granted by a push meanwhile
  if (of_its_session && reply->lock().outcome() == proto::LockResult::OUTCOME_GRANTED) {
    return OnGranted(request, request->session);
  }
  Finish(request, interrupted);
}

// ---- Unlocking ----

void Locks::Unlock(const std::shared_ptr<FileHandle>& handle, const FileLock& range, StatusCallback done) {
  const Key key = KeyOf(handle->inode->id, range);
  Status answer;
  {
    MutexLock guard(mutex_);
    const auto found = owners_.find(key);
    if (found != owners_.end() && IsLost(found->second)) {
      // Told until it has let go of everything, by this or by a close.
      answer = LockLost();
      if (IsWhole(range) && found->second.pending == 0) Erase(found);
    }
    // Who never locked has nothing to unlock.
    if (!answer.ok() || found == owners_.end()) {
      guard.Unlock();
      return done(answer);
    }
  }
  SendUnlock(key, range, IsWhole(range), std::move(done));
}

void Locks::SendUnlock(const Key& key, const FileLock& range, bool lets_go, StatusCallback done) {
  uint64_t changes = 0;
  bool counted = false;
  {
    MutexLock guard(mutex_);
    const auto found = owners_.find(key);
    counted = found != owners_.end();
    if (found != owners_.end()) {
      ++found->second.pending;
      changes = ++found->second.changes;
    }
  }
  proto::Mutation mutation = MutationFor(key.inode, range);
  mutation.mutable_lock()->set_unlock(true);
  metadata_->Mutate(std::move(mutation), [self = shared_from_this(), key, changes, counted, lets_go, done = std::move(done)](
                                             const Result<proto::MutationReply>& reply) {
    Status status = reply.status();
    {
      MutexLock guard(self->mutex_);
      const auto found = self->owners_.find(key);
      if (counted && found != self->owners_.end()) {
        Owner& owner = found->second;
        --owner.pending;  // it is kept while anything is pending
        const bool same_session =
            !owner.session.valid() || (reply.ok() && SessionId(reply->lock().session()) == owner.session);
        if (reply.ok() && !same_session) status = LockLost();
        const bool is_done = reply.ok() && reply->lock().owner_is_done() && same_session;
        // Its locks went with their session while it gave them all back: it hears of that now, and not again.
        const bool is_over = lets_go && self->IsLost(owner);
        if ((is_done || is_over) && owner.changes == changes && owner.pending == 0) self->Erase(found);
      }
    }
    done(status);
  });
}

void Locks::ReleaseOwner(InodeId inode, uint64_t owner, StatusCallback done) {
  if (owner_count_.load(std::memory_order_acquire) == 0) return done(Status::Ok());
  SendRelease({inode, LockSpace::kPosix, owner}, std::move(done));
}

void Locks::ReleaseHandle(FileHandle& handle) {
  if (owner_count_.load(std::memory_order_acquire) == 0) return;
  std::vector<Key> keys;
  {
    MutexLock guard(mutex_);
    if (handle.locks.owners == 0) return;
    const InodeId inode = handle.inode->id;
    for (auto owner = owners_.lower_bound(Key{inode}); owner != owners_.end() && owner->first.inode == inode; ++owner) {
      if (owner->second.handles.erase(&handle) != 0) keys.push_back(owner->first);
    }
    handle.locks.owners = 0;
  }
  for (const Key& key : keys) SendRelease(key, [](const Status&) {});
}

void Locks::SendRelease(const Key& key, StatusCallback done) {
  bool send = false;
  {
    MutexLock guard(mutex_);
    const auto found = owners_.find(key);
    if (found != owners_.end() && IsLost(found->second)) {
      if (found->second.pending == 0) Erase(found);
    } else {
      send = found != owners_.end() && !closed_;
    }
  }
  if (!send) return done(Status::Ok());
  FileLock whole;
  whole.space = key.space;
  whole.owner = key.owner;
  SendUnlock(key, whole, /*lets_go=*/true, [self = shared_from_this(), key, done = std::move(done)](const Status& status) {
    // close(2) is not the place to complain of it; and it ends with the session at the latest.
    done(Status::Ok());
    if (status.ok() || status.code() == StatusCode::kIoError || status.code() == StatusCode::kCancelled) return;
    spdlog::warn("locks could not be released inode={} error={}", key.inode.value(), status.ToString());
    self->metadata_->loop()->PostAfter(kReleaseRetryMs, [weak = self->weak_from_this(), key] {
      if (const auto again = weak.lock()) again->SendRelease(key, [](const Status&) {});
    });
  });
}

void Locks::Test(InodeId inode, const FileLock& lock, Callback<std::optional<FileLock>> done) {
  const SessionId session = metadata_->session();
  {
    MutexLock guard(mutex_);
    const auto found = owners_.find(KeyOf(inode, lock));
    if (found != owners_.end() && IsLost(found->second)) {
      guard.Unlock();
      return done(LockLost());
    }
  }
  proto::TestLockRequest request;
  request.set_inode(inode.value());
  request.set_space(ToProto(lock.space));
  Fill(lock, request.mutable_lock());
  request.mutable_lock()->set_session(session.value());
  metadata_->Read<proto::TestLockReply>(
      rpc::Method::kTestLock, std::move(request),
      [space = lock.space, session, done = std::move(done)](const Result<proto::TestLockReply>& reply) {
        if (!reply.ok()) return done(reply.status());
        if (!reply->has_lock()) return done(std::optional<FileLock>());
        FileLock found;
        found.space = space;
        found.exclusive = reply->lock().exclusive();
        found.first = reply->lock().first();
        found.last = reply->lock().last();
        found.owner = reply->lock().owner();
        // A number of another machine means nothing here.
        found.pid = SessionId(reply->lock().session()) == session ? reply->lock().pid() : 0;
        done(std::optional<FileLock>(found));
      });
}

void Locks::Close() {
  std::map<WaitId, RequestPtr> waits;
  {
    MutexLock guard(mutex_);
    closed_ = true;
    waits.swap(waits_);
  }
  for (const auto& [wait, request] : waits) {
    Finish(request, Status(StatusCode::kCancelled, "the client is shutting down"));
  }
}

}  // namespace tarn::client
