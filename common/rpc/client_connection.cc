#include "common/rpc/client_connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/rpc/hello.h"
#include "common/rpc/local_socket.h"
#include "proto/types.pb.h"

namespace tarn::rpc {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
// Frames queued on the loop thread wait for the end of its turn, but not beyond this: then they would only leave the
// cache.
constexpr size_t kFlushAtBytes = 64 << 10;
constexpr int64_t kTimeOutRetryMs = 1;

// A callback that must run once even if the task that holds it is dropped.
class FailedCall {
 public:
  FailedCall(ReplyCallback callback, Status status) : callback_(std::move(callback)), status_(std::move(status)) {}
  ~FailedCall() { callback_(Reply{.status = std::move(status_), .message = {}, .payload = {}}); }
  FailedCall(const FailedCall&) = delete;
  FailedCall& operator=(const FailedCall&) = delete;

 private:
  ReplyCallback callback_;
  Status status_;
};

}  // namespace

ClientConnection::ClientConnection(EventLoop* loop, const FrameClientOptions& options, const proto::HelloRequest& hello)
    : loop_(loop), options_(options), hello_(hello), calls_(options.requests_in_flight_max) {}

ClientConnection::~ClientConnection() {
  {
    MutexLock lock(mutex_);
    if (!closed_) why_closed_ = Status(StatusCode::kCancelled, "the event loop of " + options_.address + " ended");
  }
  FailAllCalls();
}

void ClientConnection::Call(Method method, const google::protobuf::MessageLite& request, const CallOptions& options,
                            ReplyCallback callback) {
  Result<OutgoingFrame> frame =
      MakeFrame({.kind = FrameKind::kRequest, .method = method}, options.payload.size(), &request);
  if (!frame.ok()) return FailLater(std::move(callback), frame.status());
  frame->borrowed_payload = options.payload;
  const int64_t deadline_ns = clock_.MonotonicNs() + std::max<int64_t>(options.timeout_ms, 1) * kNsPerMs;
  size_t queued_bytes = 0;
  bool first_call = false;
  bool needs_timer = false;
  Status refused;
  {
    MutexLock lock(mutex_);
    if (closed_) {
      refused = why_closed_;
    } else if (calls_.full()) {
      refused = Status(StatusCode::kResourceExhausted, options_.address + ": " +
                                                           std::to_string(options_.requests_in_flight_max) +
                                                           " requests are in flight already");
    } else {
      const uint64_t id = calls_.Add({.method = method,
                                      .deadline_ns = deadline_ns,
                                      .payload_destination = options.payload_destination,
                                      .has_borrowed_payload = !options.payload.empty(),
                                      .callback = std::move(callback)});
      SetRequestId(id, &*frame);
      // Under the lock: a time-out that finds the call must find its frame as well.
      queued_bytes = writer_.Enqueue(std::move(*frame));
      first_call = !std::exchange(connect_asked_, true);
      needs_timer = NeedsTimer(deadline_ns);
    }
  }
  if (!refused.ok()) return FailLater(std::move(callback), std::move(refused));
  if (first_call) loop_->Post([self = shared_from_this()] { self->Connect(); });
  if (needs_timer) StartTimer(deadline_ns);
  FlushSoon(queued_bytes);
}

void ClientConnection::Close() {
  const Status why(StatusCode::kUnavailable, "the connection to " + options_.address + " was closed");
  {
    MutexLock lock(mutex_);
    if (!closed_) why_closed_ = why;
    closed_ = true;
  }
  loop_->Post([self = shared_from_this(), why] { self->Break(why); });
}

bool ClientConnection::usable() const {
  MutexLock lock(mutex_);
  return !closed_;
}

proto::HelloReply ClientConnection::hello_reply() const {
  MutexLock lock(mutex_);
  return hello_reply_;
}

// ---- Connecting ----

void ClientConnection::Connect() {
  if (phase_ != Phase::kIdle) return;
  phase_ = Phase::kResolving;
  const Result<Endpoint> endpoint = ParseEndpoint(options_.address);
  if (!endpoint.ok()) return Break(endpoint.status());
  loop_->PostAfter(options_.connect_timeout_ms, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->OnConnectTimeout();
  });
  Result<std::vector<SocketAddress>> numeric = ResolveNumeric(*endpoint);
  if (numeric.status().code() != StatusCode::kNotFound) return OnResolved(std::move(numeric));
  // The loop ends this task before it ends itself.
  const Status posted = loop_->PostBlocking([loop = loop_, weak = weak_from_this(), endpoint = *endpoint] {
    auto addresses = std::make_shared<Result<std::vector<SocketAddress>>>(ResolveBlocking(endpoint));
    loop->Post([weak, addresses] {
      if (const auto self = weak.lock()) self->OnResolved(std::move(*addresses));
    });
  });
  if (!posted.ok()) Break(posted.WithContext("resolve " + endpoint->host));
}

void ClientConnection::OnResolved(Result<std::vector<SocketAddress>> addresses) {
  if (phase_ != Phase::kResolving) return;
  if (!addresses.ok()) return Break(addresses.status());
  addresses_ = std::move(*addresses);
  connect_error_ = Status(StatusCode::kUnavailable, "connect " + options_.address + ": the name has no address");
  phase_ = Phase::kConnecting;
  TryNextAddress();
}

void ClientConnection::TryNextAddress() {
  while (next_address_ < addresses_.size()) {
    const Status started = StartConnecting(addresses_[next_address_++]);
    if (started.ok()) return;
    connect_error_ = Status(StatusCode::kUnavailable, started.message());
  }
  Break(connect_error_);
}

Status ClientConnection::StartConnecting(const SocketAddress& address) {
  connecting_ = ConnectByLocalName(address);
  if (!connecting_.valid()) {
    ASSIGN_OR_RETURN(connecting_, OpenStreamSocket(address));
    SetUnacknowledgedMax(connecting_.get(), options_.unacknowledged_ms_max);
    const int result = connect(connecting_.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length);
    if (result != 0 && errno != EINPROGRESS) return Status::FromErrno(errno, "connect " + address.ToString());
  }
  interest_ = EPOLLOUT;
  return loop_->Watch(connecting_.get(), interest_,
                      [self = shared_from_this()](uint32_t events) { self->OnEvents(events); });
}

void ClientConnection::OnConnectable() {
  int error = 0;
  socklen_t length = sizeof(error);
  getsockopt(connecting_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error == 0) return SayHello();
  connect_error_ = Status(StatusCode::kUnavailable,
                          Status::FromErrno(error, "connect " + addresses_[next_address_ - 1].ToString()).message());
  loop_->Unwatch(connecting_.get());
  connecting_.Reset();
  TryNextAddress();
}

void ClientConnection::SayHello() {
  phase_ = Phase::kOpen;
  proto::HelloRequest hello = hello_;
  hello.set_protocol_version(kProtocolVersion);
  hello.set_protocol_version_min(kProtocolVersionMin);
  Result<OutgoingFrame> frame =
      MakeFrame({.kind = FrameKind::kRequest, .method = Method::kHello, .request_id = kHelloRequestId}, 0, &hello);
  if (!frame.ok()) return Break(frame.status());
  fd_ = connecting_.get();
  // Calls made so far follow the hello without waiting for its answer: a refused hello fails them all.
  writer_.Attach(std::move(connecting_), std::move(*frame));
  UpdateInterest();
  Flush();
}

Status ClientConnection::OnHelloReply(const FrameHeader& header, std::span<const uint8_t> message) {
  if (hello_answered_) return Status(StatusCode::kCorruption, "a second answer to the hello");
  if (header.status != StatusCode::kOk) {
    refusal_ =
        Status(header.status,
               ParseErrorDetail({.status = Status(header.status, ""), .message = message, .payload = {}}).message());
    return *refusal_;
  }
  proto::HelloReply reply;
  if (!reply.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
    return Status(StatusCode::kCorruption, "the answer to the hello is no HelloReply");
  }
  if (reply.protocol_version() < kProtocolVersionMin || reply.protocol_version() > kProtocolVersion) {
    refusal_ = Status(StatusCode::kNotSupported,
                      "the server chose protocol version " + std::to_string(reply.protocol_version()));
    return *refusal_;
  }
  hello_answered_ = true;
  MutexLock lock(mutex_);
  hello_reply_ = std::move(reply);
  return Status::Ok();
}

void ClientConnection::OnConnectTimeout() {
  if (hello_answered_ || phase_ == Phase::kClosed) return;
  const char* const what = phase_ == Phase::kOpen ? ": no answer to the hello within " : ": not connected within ";
  Break(Status(StatusCode::kUnavailable,
               "connect " + options_.address + what + std::to_string(options_.connect_timeout_ms) + " ms"));
}

// ---- Traffic ----

void ClientConnection::OnEvents(uint32_t events) {
  if (phase_ == Phase::kConnecting) return OnConnectable();
  if (phase_ != Phase::kOpen) return;
  if ((events & EPOLLOUT) != 0 && write_blocked_) {
    write_blocked_ = false;
    AfterFlush(writer_.FlushWritable().state);
  }
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && phase_ == Phase::kOpen) Read();
  if (phase_ == Phase::kOpen) UpdateInterest();
}

void ClientConnection::Read() {
  const Status status = reader_.ReadAvailable(fd_, *this);
  if (status.ok()) return;
  if (refusal_.has_value()) return Break(refusal_->WithContext("hello to " + options_.address));
  // What went wrong while writing says more than that the socket then ended.
  const Status written = writer_.error();
  Break(Status(StatusCode::kUnavailable,
               "the connection to " + options_.address + " broke: " + (written.ok() ? status : written).message()));
}

void ClientConnection::UpdateInterest() {
  const uint32_t wanted = EPOLLIN | (write_blocked_ ? static_cast<uint32_t>(EPOLLOUT) : 0);
  if (wanted == interest_) return;
  interest_ = wanted;
  const Status modified = loop_->Modify(fd_, interest_);
  // Later: the caller may be in the middle of a frame.
  if (!modified.ok()) loop_->Post([self = shared_from_this(), modified] { self->Break(modified); });
}

PayloadPlace ClientConnection::PlacePayload(const FrameHeader& header, std::span<const uint8_t> /*message*/) {
  if (header.kind != FrameKind::kReply) return {.kind = PayloadPlace::Kind::kReader, .destination = {}};
  MutexLock lock(mutex_);
  const PendingCall* const call = calls_.Find(header.request_id);
  if (call == nullptr) return {.kind = PayloadPlace::Kind::kDiscard, .destination = {}};
  if (call->payload_destination.empty()) return {.kind = PayloadPlace::Kind::kReader, .destination = {}};
  if (call->payload_destination.size() < header.payload_bytes)
    return {.kind = PayloadPlace::Kind::kDiscard, .destination = {}};
  receiving_id_ = header.request_id;
  return {.kind = PayloadPlace::Kind::kDestination,
          .destination = call->payload_destination.first(header.payload_bytes)};
}

Status ClientConnection::OnFrame(const FrameHeader& header, std::span<const uint8_t> message,
                                 std::span<const uint8_t> payload) {
  receiving_id_ = kNoCall;
  if (header.kind == FrameKind::kPush) {
    if (options_.push_handler) options_.push_handler(header.method, message);
    return Status::Ok();
  }
  if (header.kind != FrameKind::kReply) return Status(StatusCode::kCorruption, "the server sent a request");
  if (header.request_id == kHelloRequestId) return OnHelloReply(header, message);
  std::optional<PendingCall> call;
  {
    MutexLock lock(mutex_);
    call = calls_.Take(header.request_id);
  }
  // A call that has timed out.
  if (!call.has_value()) return Status::Ok();
  return Answer(header, std::move(*call), message, payload);
}

Status ClientConnection::Answer(const FrameHeader& header, PendingCall call, std::span<const uint8_t> message,
                                std::span<const uint8_t> payload) {
  const auto corrupt = [&](const std::string& text) {
    const Status status(StatusCode::kCorruption, MethodName(call.method) + " to " + options_.address + ": " + text);
    call.callback(Reply{.status = status, .message = {}, .payload = {}});
    return status;
  };
  if (header.method != call.method) return corrupt("the answer is one to " + MethodName(header.method));
  if (!call.payload_destination.empty() && header.payload_bytes > call.payload_destination.size()) {
    // The stream itself is in order, so the connection goes on.
    (void)corrupt("a payload of " + std::to_string(header.payload_bytes) + " bytes is longer than its destination");
    return Status::Ok();
  }
  Reply reply{.status = Status::Ok(), .message = message, .payload = payload};
  if (header.status != StatusCode::kOk) {
    reply.status = Status(header.status, "");
    reply.status = Status(header.status, ParseErrorDetail(reply).message());
  }
  call.callback(std::move(reply));
  return Status::Ok();
}

void ClientConnection::Break(const Status& why) {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  {
    MutexLock lock(mutex_);
    if (!closed_) why_closed_ = why;
    closed_ = true;
  }
  // Unwatch destroys the handler, and with it perhaps the last reference to this, at the end of the turn.
  if (connecting_.valid()) loop_->Unwatch(connecting_.get());
  if (fd_ >= 0) loop_->Unwatch(fd_);
  connecting_.Reset();
  reader_.DiscardPayload();
  // If a thread is just writing borrowed payloads, it ends the calls when it is done (AfterFlush).
  if (writer_.Close()) FailAllCalls();
}

void ClientConnection::FailAllCalls() {
  std::vector<PendingCall> calls;
  Status why;
  {
    MutexLock lock(mutex_);
    calls = calls_.TakeAll();
    why = why_closed_;
  }
  for (PendingCall& call : calls) call.callback(Reply{.status = why, .message = {}, .payload = {}});
}

// ---- Time-outs ----

bool ClientConnection::NeedsTimer(int64_t deadline_ns) {
  if (deadline_ns >= timer_deadline_ns_) return false;
  timer_deadline_ns_ = deadline_ns;
  return true;
}

void ClientConnection::StartTimer(int64_t deadline_ns) {
  const int64_t delay_ns = std::max<int64_t>(deadline_ns - clock_.MonotonicNs(), 0);
  loop_->PostAfter((delay_ns + kNsPerMs - 1) / kNsPerMs, [weak = weak_from_this(), deadline_ns] {
    if (const auto self = weak.lock()) self->OnDeadline(deadline_ns);
  });
}

void ClientConnection::OnDeadline(int64_t deadline_ns) {
  // Looking through all calls is rare: answered calls leave their timer behind, so one timer serves the calls of a
  // whole time-out.
  const int64_t now = clock_.MonotonicNs();
  CallTable::Expiry expiry;
  {
    MutexLock lock(mutex_);
    if (deadline_ns != timer_deadline_ns_) return;  // an earlier timer has taken its place
    timer_deadline_ns_ = INT64_MAX;
    expiry = calls_.FindExpired(now);
  }
  int64_t next = expiry.next_deadline_ns.value_or(INT64_MAX);
  for (const uint64_t id : expiry.expired) {
    if (!GiveUp(id, StatusCode::kTimeout, "no answer in time")) next = std::min(next, now + kTimeOutRetryMs * kNsPerMs);
  }
  if (next == INT64_MAX) return;
  bool needs_timer = false;
  {
    MutexLock lock(mutex_);
    needs_timer = NeedsTimer(next);
  }
  if (needs_timer) StartTimer(next);
}

void ClientConnection::Withdraw(std::span<uint8_t> payload_destination) {
  std::optional<uint64_t> id;
  {
    MutexLock lock(mutex_);
    id = calls_.FindByDestination(payload_destination.data());
  }
  // Nobody withdraws a call that sends a payload; one that is just being written ends with its reply.
  if (id) GiveUp(*id, StatusCode::kCancelled, "withdrawn");
}

bool ClientConnection::GiveUp(uint64_t id, StatusCode code, const std::string& why) {
  std::optional<PendingCall> call;
  {
    MutexLock lock(mutex_);
    const PendingCall* const found = calls_.Find(id);
    if (found == nullptr) return true;
    if (!writer_.Withdraw(id) && found->has_borrowed_payload) return false;
    call = calls_.Take(id);
  }
  if (receiving_id_ == id) {
    reader_.DiscardPayload();
    receiving_id_ = kNoCall;
  }
  call->callback(Reply{.status = Status(code, MethodName(call->method) + " to " + options_.address + ": " + why),
                       .message = {},
                       .payload = {}});
  return true;
}

// ---- Writing ----

void ClientConnection::FlushSoon(size_t queued_bytes) {
  if (!loop_->InLoopThread() || queued_bytes >= kFlushAtBytes) return Flush();
  if (std::exchange(flush_deferred_, true)) return;
  loop_->DeferToEndOfTurn([self = shared_from_this()] {
    self->flush_deferred_ = false;
    self->Flush();
  });
}

void ClientConnection::Flush() { AfterFlush(writer_.Flush().state); }

void ClientConnection::AfterFlush(FrameWriter::State state) {
  switch (state) {
    case FrameWriter::State::kIdle:
      return;
    case FrameWriter::State::kBlocked:
      if (loop_->InLoopThread()) return OnWriteBlocked();
      loop_->Post([self = shared_from_this()] { self->OnWriteBlocked(); });
      return;
    case FrameWriter::State::kClosed:
      loop_->Post([self = shared_from_this()] { self->FailAllCalls(); });
      return;
    case FrameWriter::State::kBroken:
      // The writer has shut the socket down: the loop reads its end and breaks the connection.
      return;
  }
}

void ClientConnection::OnWriteBlocked() {
  write_blocked_ = true;
  if (phase_ == Phase::kOpen) UpdateInterest();
}

void ClientConnection::FailLater(ReplyCallback callback, Status status) {
  loop_->Post([failed = std::make_shared<FailedCall>(std::move(callback), std::move(status))] {});
}

}  // namespace tarn::rpc
