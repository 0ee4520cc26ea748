#include "common/rpc/server_connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/rpc/hello.h"
#include "common/rpc/responder.h"
#include "proto/types.pb.h"

namespace tarn::rpc {
namespace {

// Answers of the loop thread wait for the end of its turn, but not beyond this: then they would only leave the cache.
constexpr size_t kFlushAtBytes = 64 << 10;
// From this size on the thread that has an answer writes it itself: copying it costs more than a system call, and the
// loop stays free.
constexpr size_t kWriteDirectlyBytes = 32 << 10;
// A refused client gets this long to read why.
constexpr int64_t kRefusedLingerMs = 2'000;

}  // namespace

ServerConnection::ServerConnection(ServerContext* context, EventLoop* loop, std::string address)
    : context_(context),
      address_(std::move(address)),
      requests_max_(std::max(1u, context->options.requests_in_flight_max)),
      loop_(loop),
      own_loop_(loop) {}

void ServerConnection::Open(UniqueFd fd, ClosedCallback on_closed) {
  phase_ = Phase::kHello;
  fd_ = fd.get();
  on_closed_ = std::move(on_closed);
  writer_.Attach(std::move(fd), OutgoingFrame());
  interest_ = EPOLLIN;
  const Status watched =
      own_loop_->Watch(fd_, interest_, [self = shared_from_this()](uint32_t events) { self->OnEvents(events); });
  if (!watched.ok()) Close();
}

void ServerConnection::Close() {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  closed_ = true;
  {
    MutexLock lock(loop_mutex_);
    loop_ = nullptr;
  }
  own_loop_->Unwatch(fd_);
  writer_.Close();
  std::exchange(on_closed_, nullptr)(this);
}

// ---- Reading ----

void ServerConnection::OnEvents(uint32_t events) {
  if ((events & EPOLLOUT) != 0 && write_blocked_) {
    write_blocked_ = false;
    AfterFlush(writer_.FlushWritable());
  }
  if (phase_ == Phase::kClosed) return;
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
    if (phase_ == Phase::kRefused) {
      DrainRefused();
    } else if (!paused_) {
      Read();
    } else if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
      // Reported whether asked for or not: without this the loop would spin until the pause ends.
      Close();
    }
  }
  if (phase_ != Phase::kClosed) UpdateInterest();
}

void ServerConnection::Read() {
  const Status status = reader_.ReadAvailable(fd_, *this);
  if (!status.ok()) Close();
}

void ServerConnection::DrainRefused() {
  // What a refused client still sends is read, since a socket closed with unread bytes would take the refusal back.
  uint8_t scratch[4096];
  ssize_t got = 0;
  do {
    got = recv(fd_, scratch, sizeof(scratch), 0);
  } while (got > 0 || (got < 0 && errno == EINTR));
  if (got == 0 || errno != EAGAIN) Close();
}

void ServerConnection::UpdateInterest() {
  const uint32_t wanted =
      (paused_ ? 0 : static_cast<uint32_t>(EPOLLIN)) | (write_blocked_ ? static_cast<uint32_t>(EPOLLOUT) : 0);
  if (wanted == interest_) return;
  interest_ = wanted;
  const Status modified = own_loop_->Modify(fd_, interest_);
  // Later: the caller may be in the middle of a frame.
  if (!modified.ok()) own_loop_->Post([self = shared_from_this()] { self->Close(); });
}

bool ServerConnection::HasRoom(bool paused) const {
  // A paused connection goes on when a quarter of its room is free, so that it does not stop and go with every answer.
  const uint32_t requests_max = paused ? requests_max_ * 3 / 4 + 1 : requests_max_;
  const uint64_t bytes_max = paused ? kUnansweredBytesMax * 3 / 4 : kUnansweredBytesMax;
  return unanswered_requests_ < requests_max && unanswered_bytes_ < bytes_max;
}

bool ServerConnection::AcceptsFrames() {
  if (phase_ != Phase::kHello && phase_ != Phase::kOpen) return false;
  if (paused_) return false;
  if (HasRoom(false)) return true;
  paused_ = true;
  // Answers that went out before the flag was up have told nobody: look again.
  return HasRoom(true) && paused_.exchange(false);
}

void ServerConnection::Resume() {
  if (phase_ != Phase::kHello && phase_ != Phase::kOpen) return;
  if (!reader_.ParseBuffered(*this).ok()) return Close();
  UpdateInterest();
}

PayloadPlace ServerConnection::PlacePayload(const FrameHeader& header, std::span<const uint8_t> /*message*/) {
  payload_ = context_->options.buffers->Allocate(header.payload_bytes);
  return {.kind = PayloadPlace::Kind::kDestination, .destination = payload_.span()};
}

Status ServerConnection::OnFrame(const FrameHeader& header, std::span<const uint8_t> message,
                                 std::span<const uint8_t> /*payload*/) {
  Buffer payload = std::exchange(payload_, Buffer());
  if (header.kind != FrameKind::kRequest) return Status(StatusCode::kCorruption, "the client sent no request");
  unanswered_requests_.fetch_add(1);
  if (phase_ == Phase::kHello) return OnHello(header, message);
  unanswered_bytes_.fetch_add(payload.size());
  auto responder = std::make_unique<ConnectionResponder>(shared_from_this(), header, payload.size());
  if (header.method == Method::kPing) {
    responder->ReplyEmpty();
  } else if (header.method == Method::kHello) {
    responder->Fail(Status(StatusCode::kInvalidArgument, "the hello was said already"));
  } else if (!IsKnownMethod(header.method)) {
    responder->Fail(Status(StatusCode::kNotSupported, MethodName(header.method)));
  } else {
    context_->handler(
        Request{.method = header.method,
                .peer = shared_from_this(),
                .message = message,
                .payload = std::move(payload),
                .loop = own_loop_},
        std::move(responder));
  }
  return Status::Ok();
}

// ---- The hello ----

Status ServerConnection::OnHello(const FrameHeader& header, std::span<const uint8_t> message) {
  if (header.method != Method::kHello) {
    Refuse(header,
           Status(StatusCode::kInvalidArgument, "the first request must be a hello, not " + MethodName(header.method)));
    return Status::Ok();
  }
  proto::HelloReply reply;
  if (!hello_.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
    Refuse(header, Status(StatusCode::kInvalidArgument, "the hello is no HelloRequest"));
    return Status::Ok();
  }
  if (const Status status = Negotiate(hello_, &reply); !status.ok()) {
    Refuse(header, status);
    return Status::Ok();
  }
  phase_ = Phase::kOpen;
  ConnectionResponder(shared_from_this(), header, 0).Reply(reply);
  return Status::Ok();
}

Status ServerConnection::Negotiate(const proto::HelloRequest& request, proto::HelloReply* reply) const {
  const uint32_t version = std::min(request.protocol_version(), kProtocolVersion);
  if (version < kProtocolVersionMin || version < request.protocol_version_min()) {
    return Status(StatusCode::kNotSupported,
                  "the client speaks protocol versions " + std::to_string(request.protocol_version_min()) + " to " +
                      std::to_string(request.protocol_version()) + ", this server " +
                      std::to_string(kProtocolVersionMin) + " to " + std::to_string(kProtocolVersion));
  }
  RETURN_IF_ERROR(context_->hello(request, reply));
  reply->set_protocol_version(version);
  reply->set_features(reply->features() & request.features());
  return Status::Ok();
}

void ServerConnection::Refuse(const FrameHeader& header, const Status& status) {
  ConnectionResponder(shared_from_this(), header, 0).Fail(status);
  AfterFlush(writer_.Flush());
  phase_ = Phase::kRefused;
  shutdown(fd_, SHUT_WR);
  own_loop_->PostAfter(kRefusedLingerMs, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Close();
  });
}

// ---- Writing ----

void ServerConnection::Answer(OutgoingFrame frame) {
  const size_t bytes = frame.header.payload_bytes + frame.head_bytes;
  unanswered_bytes_.fetch_add(bytes);
  frame.charge_bytes += bytes;
  Send(std::move(frame));
}

void ServerConnection::Push(Method method, const google::protobuf::MessageLite& message) {
  Result<OutgoingFrame> frame = MakeFrame({.kind = FrameKind::kPush, .method = method}, 0, &message);
  CHECK(frame.ok(), "pushes are small");
  frame->charge_bytes = frame->head_bytes;
  if (push_bytes_.fetch_add(frame->charge_bytes) + frame->charge_bytes > kPushBytesMax) {
    // A push is never lost on a living connection, and this one does not take them.
    MutexLock lock(loop_mutex_);
    if (loop_ != nullptr) loop_->Post([self = shared_from_this()] { self->Close(); });
    return;
  }
  Send(std::move(*frame));
}

void ServerConnection::Send(OutgoingFrame frame) {
  // What comes from files is not among the bytes queued.
  const bool is_big = frame.header.payload_bytes >= kWriteDirectlyBytes;
  const size_t queued = writer_.Enqueue(std::move(frame));
  if (queued == 0) return;
  {
    MutexLock lock(loop_mutex_);
    if (loop_ == nullptr) return;
    const bool on_loop = loop_->InLoopThread();
    const bool at_once = on_loop ? queued >= kFlushAtBytes : is_big || queued >= kWriteDirectlyBytes;
    if (!at_once) {
      if (on_loop && !std::exchange(flush_deferred_, true)) {
        loop_->DeferToEndOfTurn([self = shared_from_this()] {
          self->flush_deferred_ = false;
          self->FlushOnLoop();
        });
      } else if (!on_loop && !std::exchange(flush_posted_, true)) {
        loop_->Post([self = shared_from_this()] {
          {
            MutexLock posted_lock(self->loop_mutex_);
            self->flush_posted_ = false;
          }
          self->FlushOnLoop();
        });
      }
      return;
    }
  }
  AfterFlush(writer_.Flush());
}

void ServerConnection::FlushOnLoop() { AfterFlush(writer_.Flush()); }

void ServerConnection::AfterFlush(const FrameWriter::FlushResult& result) {
  push_bytes_.fetch_sub(result.push_charge);
  unanswered_requests_.fetch_sub(result.replies);
  unanswered_bytes_.fetch_sub(result.reply_charge);
  const bool resume = paused_ && HasRoom(true) && paused_.exchange(false);
  // A broken socket was shut down by the writer: the loop finds its end by reading.
  if (!resume && result.state != FrameWriter::State::kBlocked) return;
  MutexLock lock(loop_mutex_);
  if (loop_ == nullptr) return;
  if (resume) loop_->Post([self = shared_from_this()] { self->Resume(); });
  if (result.state != FrameWriter::State::kBlocked) return;
  if (loop_->InLoopThread()) return OnWriteBlocked();
  loop_->Post([self = shared_from_this()] { self->OnWriteBlocked(); });
}

void ServerConnection::OnWriteBlocked() {
  write_blocked_ = true;
  if (phase_ != Phase::kClosed) UpdateInterest();
}

}  // namespace tarn::rpc
