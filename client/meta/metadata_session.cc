#include "client/meta/metadata_session.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

namespace tarn::client {
namespace {

// Of a server that names none.
constexpr int64_t kLeaseDefaultMs = 30'000;
// Three tries before the lease is over.
constexpr int64_t kKeepAlivesPerLease = 3;
// A caching session does not wait for one keep-alive before it sends the next.
constexpr uint32_t kKeepAlivesInFlightMax = 8;
constexpr uint32_t kBatchesInFlightMax = 2;
constexpr size_t kBatchMutationsMax = 256;
constexpr uint64_t kMutationsInFlightMax = 16'384;
// A session that is lost again and again is the server's trouble, not ours to retry for ever.
constexpr uint32_t kResubmissionsMax = 3;

Status ShuttingDown() { return Status(StatusCode::kCancelled, "the client is shutting down"); }

}  // namespace

std::shared_ptr<MetadataSession> MetadataSession::Create(rpc::EventLoop* loop, std::shared_ptr<MetadataChannel> channel,
                                                         Random* random, std::string client_name,
                                                         MapVersionListener listener) {
  return std::shared_ptr<MetadataSession>(
      new MetadataSession(loop, std::move(channel), random, std::move(client_name), std::move(listener)));
}

MetadataSession::MetadataSession(rpc::EventLoop* loop, std::shared_ptr<MetadataChannel> channel, Random* random,
                                 std::string client_name, MapVersionListener listener)
    : loop_(loop),
      channel_(std::move(channel)),
      random_(random),
      client_name_(std::move(client_name)),
      listener_(std::move(listener)) {}

SessionId MetadataSession::id() const {
  MutexLock lock(mutex_);
  return id_;
}

uint64_t MetadataSession::sessions_lost() const {
  MutexLock lock(mutex_);
  return sessions_lost_;
}

// ---- The session itself ----

void MetadataSession::Open(VolumeId volume, StatusCallback done) {
  {
    MutexLock lock(mutex_);
    CHECK(state_ == State::kNone, "a session is opened once");
    state_ = State::kOpening;
    volume_ = volume;
    open_waiters_.push_back(std::move(done));
  }
  SendOpen();
}

void MetadataSession::SendOpen() {
  auto mutation = std::make_shared<proto::Mutation>();
  proto::OpenSessionOp* op = mutation->mutable_open_session();
  op->set_client_name(client_name_);
  // The nonce stays the same over the channel's repeats: they find the session that the first one made.
  op->set_nonce(random_->NextNonZero());
  op->set_caches(hooks_ != nullptr);
  {
    MutexLock lock(mutex_);
    op->set_volume(volume_.value());
  }
  channel_->Call(rpc::Method::kMutate, std::move(mutation),
                 [self = shared_from_this()](const rpc::Reply& reply, bool) { self->OnOpened(reply); });
}

void MetadataSession::OnOpened(const rpc::Reply& reply) {
  proto::MutationReply opened;
  Status status = rpc::ParseReply(reply, &opened);
  if (status.ok() && opened.session() == 0) {
    status = Status(StatusCode::kCorruption, "the metadata server opened a session without an id");
  }
  status = status.WithContext("open a session");
  std::vector<StatusCallback> open_waiters;
  std::vector<PendingPtr> waiting;
  {
    MutexLock lock(mutex_);
    open_waiters.swap(open_waiters_);
    waiting.swap(waiting_);
    if (state_ == State::kClosed) {
      status = ShuttingDown();
    } else {
      state_ = status.ok() ? State::kOpen : State::kNone;
    }
    if (status.ok()) {
      id_ = SessionId(opened.session());
      window_ = MutationWindow();
      channel_->SetSession(id_);
    } else {
      waiting.insert(waiting.end(), batch_queue_.begin(), batch_queue_.end());
      batch_queue_.clear();
    }
  }
  if (status.ok()) {
    KeepAliveLater(SessionId(opened.session()), opened.lease_ms() > 0 ? opened.lease_ms() : kLeaseDefaultMs);
    if (hooks_ != nullptr) KeepAliveNow();
  }
  for (StatusCallback& waiter : open_waiters) waiter(status);
  for (PendingPtr& pending : waiting) {
    if (status.ok()) {
      Submit(std::move(pending));
    } else {
      pending->done(status);
    }
  }
  SendBatches();
}

void MetadataSession::Lost(SessionId session) {
  {
    MutexLock lock(mutex_);
    if (state_ != State::kOpen || id_ != session) return;
    state_ = State::kOpening;
    id_ = SessionId();
    ++sessions_lost_;
  }
  spdlog::warn("the metadata server no longer knows this client's session, opening a new one session={}",
               session.value());
  if (hooks_ != nullptr) hooks_->OnSessionLost();
  SendOpen();
}

void MetadataSession::KeepAliveLater(SessionId session, int64_t lease_ms) {
  const int64_t delay_ms = std::max<int64_t>(1, lease_ms / kKeepAlivesPerLease);
  uint64_t timer = 0;
  {
    MutexLock lock(mutex_);
    lease_ms_ = lease_ms;
    timer = ++keep_alive_timer_;
  }
  loop_->PostAfter(delay_ms, [weak = weak_from_this(), session, timer] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    {
      MutexLock lock(self->mutex_);
      if (timer != self->keep_alive_timer_) return;
    }
    self->SendKeepAlive(session);
  });
}

void MetadataSession::KeepAliveNow() {
  if (const SessionId session = id(); session.valid()) SendKeepAlive(session);
}

void MetadataSession::SendKeepAlive(SessionId session) {
  int64_t lease_ms = 0;
  bool send = true;
  {
    MutexLock lock(mutex_);
    if (state_ != State::kOpen || id_ != session) return;  // the new session has a timer of its own
    lease_ms = lease_ms_;
    send = keep_alives_in_flight_ < kKeepAlivesInFlightMax;
    if (send) ++keep_alives_in_flight_;
  }
  if (hooks_ != nullptr) KeepAliveLater(session, lease_ms);
  if (!send) return;
  auto request = std::make_shared<proto::KeepAliveRequest>();
  request->set_session(session.value());
  SessionHooks::KeepAliveAnswered answered;
  if (hooks_ != nullptr) answered = hooks_->PrepareKeepAlive(request.get());
  // After its lease an answer is of no use to a cache.
  const int64_t deadline_ms = hooks_ != nullptr ? lease_ms : 0;
  channel_->Call(
      rpc::Method::kKeepAlive, std::move(request),
      [self = shared_from_this(), session, answered = std::move(answered)](const rpc::Reply& reply, bool) {
        self->OnKeepAlive(session, answered, reply);
      },
      deadline_ms);
}

void MetadataSession::OnKeepAlive(SessionId session, const SessionHooks::KeepAliveAnswered& answered,
                                  const rpc::Reply& reply) {
  {
    MutexLock lock(mutex_);
    --keep_alives_in_flight_;
  }
  if (reply.status.code() == StatusCode::kUnknownSession) {
    Lost(session);
    return;
  }
  if (reply.status.code() == StatusCode::kCancelled) return;
  proto::KeepAliveReply answer;
  const Status status = rpc::ParseReply(reply, &answer);
  if (status.ok()) {
    listener_(answer.map_version());
    if (answered != nullptr && id() == session) answered(answer);
  } else {
    spdlog::warn("keep-alive of the metadata session failed session={} error={}", session.value(), status.ToString());
  }
  const int64_t lease_ms = status.ok() && answer.lease_ms() > 0 ? answer.lease_ms() : kLeaseDefaultMs;
  if (hooks_ == nullptr) return KeepAliveLater(session, lease_ms);
  MutexLock lock(mutex_);
  if (status.ok()) lease_ms_ = lease_ms;  // of the timer after the one that runs
}

void MetadataSession::Close(int64_t deadline_ms, StatusCallback done) {
  auto mutation = std::make_shared<proto::Mutation>();
  bool open = false;
  std::vector<StatusCallback> open_waiters;
  std::vector<PendingPtr> waiting;
  {
    MutexLock lock(mutex_);
    open = state_ == State::kOpen;
    state_ = State::kClosed;
    if (open) {
      mutation->set_session(id_.value());
      mutation->set_sequence(window_.Issue());
      mutation->set_acked_through(window_.acked_through());
      mutation->mutable_close_session()->set_session(id_.value());
      id_ = SessionId();
    }
    open_waiters.swap(open_waiters_);
    waiting.swap(waiting_);
    waiting.insert(waiting.end(), batch_queue_.begin(), batch_queue_.end());
    batch_queue_.clear();
  }
  for (StatusCallback& waiter : open_waiters) waiter(ShuttingDown());
  for (PendingPtr& pending : waiting) pending->done(ShuttingDown());
  if (!open) {
    done(Status::Ok());
    return;
  }
  channel_->Call(
      rpc::Method::kMutate, std::move(mutation),
      [done = std::move(done)](const rpc::Reply& reply, bool) {
        // Unknown: expired, or closed by an attempt whose answer was lost.
        const bool gone = reply.status.ok() || reply.status.code() == StatusCode::kUnknownSession;
        done(gone ? Status::Ok() : reply.status.WithContext("close the session"));
      },
      deadline_ms);
}

// ---- Mutations ----

void MetadataSession::Mutate(proto::Mutation mutation, MutationCallback done) {
  auto pending = std::make_shared<Pending>();
  pending->mutation = std::move(mutation);
  pending->done = std::move(done);
  Submit(std::move(pending));
}

void MetadataSession::Submit(PendingPtr pending) {
  Status refused;
  bool send = false;
  bool open = false;
  {
    MutexLock lock(mutex_);
    if (state_ == State::kClosed) {
      refused = ShuttingDown();
    } else if (window_.in_flight() + waiting_.size() >= kMutationsInFlightMax) {
      refused = Status(StatusCode::kResourceExhausted,
                       "more than " + std::to_string(kMutationsInFlightMax) + " namespace changes are under way");
    } else if (state_ == State::kOpen) {
      Stamp(*pending);
      send = true;
    } else {
      open = state_ == State::kNone;
      state_ = State::kOpening;
      waiting_.push_back(pending);
    }
  }
  if (!refused.ok()) {
    pending->done(std::move(refused));
  } else if (send) {
    SendOne(std::move(pending));
  } else if (open) {
    SendOpen();
  }
}

void MetadataSession::Stamp(Pending& pending) {
  pending.session = id_;
  pending.mutation.set_session(id_.value());
  pending.mutation.set_sequence(window_.Issue());
  pending.mutation.set_acked_through(window_.acked_through());
}

void MetadataSession::SendOne(PendingPtr pending) {
  std::shared_ptr<const google::protobuf::MessageLite> request(pending, &pending->mutation);
  channel_->Call(rpc::Method::kMutate, std::move(request),
                 [self = shared_from_this(), pending = std::move(pending)](const rpc::Reply& reply, bool in_doubt) {
                   proto::MutationReply parsed;
                   Status status = rpc::ParseReply(reply, &parsed);
                   if (status.ok()) {
                     self->Complete(pending, std::move(parsed), in_doubt);
                   } else {
                     self->Complete(pending, std::move(status), in_doubt);
                   }
                 });
}

void MetadataSession::MutateBatched(proto::Mutation mutation, MutationCallback done) {
  auto pending = std::make_shared<Pending>();
  pending->mutation = std::move(mutation);
  pending->done = std::move(done);
  bool submit = false;
  {
    MutexLock lock(mutex_);
    // Without a session the plain way opens one, and the bounds are checked there.
    submit = state_ != State::kOpen || batch_queue_.size() >= kMutationsInFlightMax;
    if (!submit) batch_queue_.push_back(pending);
  }
  if (submit) {
    Submit(std::move(pending));
  } else {
    SendBatches();
  }
}

std::vector<MetadataSession::PendingPtr> MetadataSession::TakeBatch() {
  std::vector<PendingPtr> batch;
  if (state_ != State::kOpen || batches_in_flight_ >= kBatchesInFlightMax) return batch;
  while (!batch_queue_.empty() && batch.size() < kBatchMutationsMax) {
    Stamp(*batch_queue_.front());
    batch.push_back(std::move(batch_queue_.front()));
    batch_queue_.pop_front();
  }
  if (!batch.empty()) ++batches_in_flight_;
  return batch;
}

void MetadataSession::SendBatches() {
  while (true) {
    std::vector<PendingPtr> batch;
    {
      MutexLock lock(mutex_);
      batch = TakeBatch();
    }
    if (batch.empty()) return;
    SendBatch(std::move(batch));
  }
}

void MetadataSession::SendBatch(std::vector<PendingPtr> batch) {
  auto request = std::make_shared<proto::MutateBatchRequest>();
  for (const PendingPtr& pending : batch) *request->add_mutations() = pending->mutation;
  channel_->Call(rpc::Method::kMutateBatch, std::move(request),
                 [self = shared_from_this(), batch = std::move(batch)](const rpc::Reply& reply, bool in_doubt) {
                   self->OnBatchReply(batch, reply, in_doubt);
                 });
}

void MetadataSession::OnBatchReply(const std::vector<PendingPtr>& batch, const rpc::Reply& reply, bool in_doubt) {
  {
    MutexLock lock(mutex_);
    --batches_in_flight_;
  }
  proto::MutateBatchReply parsed;
  Status status = rpc::ParseReply(reply, &parsed);
  if (status.ok() && parsed.replies_size() != static_cast<int>(batch.size())) {
    status = Status(StatusCode::kCorruption, "the metadata server answered " + std::to_string(parsed.replies_size()) +
                                                 " of " + std::to_string(batch.size()) + " changes of a batch");
  }
  for (size_t i = 0; i < batch.size(); ++i) {
    if (!status.ok()) {
      Complete(batch[i], status, in_doubt);
      continue;
    }
    proto::MutationReply& one = *parsed.mutable_replies(static_cast<int>(i));
    if (one.status() == 0) {
      Complete(batch[i], std::move(one), in_doubt);
    } else {
      Complete(batch[i], Status(static_cast<StatusCode>(one.status()), one.message()), in_doubt);
    }
  }
  SendBatches();
}

void MetadataSession::Complete(const PendingPtr& pending, Result<proto::MutationReply> result, bool in_doubt) {
  if (!result.ok() && result.status().code() == StatusCode::kUnknownSession) {
    CompleteUnknownSession(pending, in_doubt);
    return;
  }
  {
    MutexLock lock(mutex_);
    // Given up counts as done: see MutationWindow::Done.
    if (pending->session == id_) window_.Done(pending->mutation.sequence());
  }
  pending->done(std::move(result));
}

void MetadataSession::CompleteUnknownSession(const PendingPtr& pending, bool in_doubt) {
  Lost(pending->session);
  // What was written under the old session may have been given to another one to write (docs/coherence.md).
  const bool written = hooks_ != nullptr && pending->mutation.has_commit_write();
  if (written || in_doubt || pending->resubmissions >= kResubmissionsMax) {
    pending->done(Status(StatusCode::kIoError,
                         "the client's session expired while this operation was under way: it may or may not have "
                         "been carried out"));
    return;
  }
  ++pending->resubmissions;
  Submit(pending);
}

}  // namespace tarn::client
