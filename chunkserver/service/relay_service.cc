#include "chunkserver/service/relay_service.h"

#include <google/protobuf/message_lite.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "common/base/buffer.h"
#include "proto/data.pb.h"
#include "proto/hello.pb.h"
#include "proto/types.pb.h"

namespace tarn::chunk {
namespace {

// After so long without a request the next one to the same target is a new event in the log.
constexpr int64_t kQuietMs = 60'000;
// More targets than any map has had for long: then what was noted of them is forgotten.
constexpr size_t kTargetsNotedMax = 4'096;

// What clients ask of a primary, or of the only copy.
bool MayBeRelayed(uint32_t method) {
  switch (static_cast<rpc::Method>(method)) {
    case rpc::Method::kReadChunk:
    case rpc::Method::kWriteChunk:
    case rpc::Method::kTruncateChunk:
    case rpc::Method::kCommitTarget:
    case rpc::Method::kStatData: return true;
    default: return false;
  }
}

// Wraps what the server says, so that it is told from what went wrong on the way.
class RelayedResponder final : public rpc::Responder {
 public:
  explicit RelayedResponder(std::unique_ptr<rpc::Responder> responder) : responder_(std::move(responder)) {}

  void Reply(const google::protobuf::MessageLite& message) override { responder_->Reply(Wrap(StatusCode::kOk, message)); }
  void Reply(const google::protobuf::MessageLite& message, Buffer payload) override {
    responder_->Reply(Wrap(StatusCode::kOk, message), std::move(payload));
  }
  void ReplyFile(const google::protobuf::MessageLite& message, std::vector<rpc::FilePayload> parts) override {
    responder_->ReplyFile(Wrap(StatusCode::kOk, message), std::move(parts));
  }
  void Fail(const Status& status) override { Fail(status, proto::ErrorDetail()); }
  void Fail(const Status& status, proto::ErrorDetail detail) override {
    detail.set_message(status.message());
    responder_->Reply(Wrap(status.code(), detail));
  }

 private:
  static proto::RelayReply Wrap(StatusCode code, const google::protobuf::MessageLite& message) {
    proto::RelayReply reply;
    reply.set_status(static_cast<uint32_t>(code));
    message.SerializeToString(reply.mutable_message());
    return reply;
  }

  const std::unique_ptr<rpc::Responder> responder_;
};

// A request on its way.
struct PassedOn {
  std::shared_ptr<const proto::RelayRequest> message;
  std::unique_ptr<WriteBudget::Share> share;
  Buffer payload;
  std::unique_ptr<rpc::Responder> responder;
};

void Answer(const PassedOn& request, const replication::PeerReply& reply, BufferPool& buffers) {
  if (!reply.status.ok()) return request.responder->Fail(reply.status.WithContext("passed on"));
  proto::RelayReply message;
  if (!message.ParseFromArray(reply.message.data(), static_cast<int>(reply.message.size()))) {
    return request.responder->Fail(Status(StatusCode::kInternal, "what came back is no RelayReply"));
  }
  if (reply.payload.size() > request.message->reply_bytes_max()) {
    return request.responder->Fail(Status(StatusCode::kInternal, "more bytes came back than were asked for"));
  }
  if (reply.payload.empty()) return request.responder->Reply(message);
  Buffer payload = buffers.Allocate(reply.payload.size());
  std::memcpy(payload.data(), reply.payload.data(), reply.payload.size());
  request.responder->Reply(message, std::move(payload));
}

}  // namespace

void RelayService::Handle(rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
  auto message = std::make_shared<proto::RelayRequest>();
  if (const Status status = rpc::ParseRequest(request, message.get()); !status.ok()) return responder->Fail(status);
  if (!MayBeRelayed(message->method())) {
    return responder->Fail(Status(StatusCode::kNotSupported, "a request of that method is not passed on"));
  }
  if (parts_.targets->Find(TargetId(message->target())) != nullptr) return Serve(*message, std::move(request), std::move(responder));
  if (request.peer->hello().role() == proto::PEER_ROLE_CHUNKSERVER) {
    return responder->Fail(Status(StatusCode::kWrongIncarnation, "this server does not have that target, and what was passed on once is not passed on again"));
  }
  PassOn(message, std::move(request), std::move(responder));
}

void RelayService::Serve(const proto::RelayRequest& message, rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
  // The process before this one may have answered it, and this one does not know of that: it may have been on its way for long.
  if (Incarnation(message.incarnation()) != parts_.incarnation) {
    return responder->Fail(Status(StatusCode::kUnavailable, "the request is meant for another process of this server"));
  }
  const std::string& bytes = message.message();
  request.method = static_cast<rpc::Method>(message.method());
  request.message = {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
  parts_.serve(std::move(request), std::make_unique<RelayedResponder>(std::move(responder)));
}

void RelayService::PassOn(const std::shared_ptr<proto::RelayRequest>& message, rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
  if (message->reply_bytes_max() > rpc::kPayloadBytesMax) {
    return responder->Fail(Status(StatusCode::kInvalidArgument, "a reply of that many bytes cannot be passed on"));
  }
  auto share = budget_.Admit(kRequestBytes + request.payload.size() + message->reply_bytes_max());
  if (share == nullptr) return responder->Fail(Status(StatusCode::kResourceExhausted, "too many requests are being passed on"));
  passed_on_.fetch_add(1, std::memory_order_relaxed);
  const TargetId target(message->target());
  Note(target, request.peer->hello().peer_name());
  const int64_t timeout_ms = std::clamp<int64_t>(message->timeout_ms(), 1, kTimeoutMsMax);
  // Shared, since a callback must be copyable.
  const std::shared_ptr<PassedOn> passed(new PassedOn{message, std::move(share), std::move(request.payload), std::move(responder)});
  parts_.network->Call(target, rpc::Method::kRelay, *message, passed->payload.span(), timeout_ms,
                       [passed, buffers = parts_.buffers](const replication::PeerReply& reply) { Answer(*passed, reply, *buffers); });
}

void RelayService::Note(TargetId target, const std::string& for_whom) {
  const int64_t now_ms = parts_.clock->MonotonicMs();
  {
    MutexLock lock(mutex_);
    if (last_ms_.size() >= kTargetsNotedMax && !last_ms_.contains(target)) last_ms_.clear();
    const auto [entry, is_new] = last_ms_.try_emplace(target, now_ms);
    const bool is_quiet = is_new || now_ms - entry->second >= kQuietMs;
    entry->second = now_ms;
    if (!is_quiet) return;
  }
  spdlog::info("requests of a client that does not reach a server are passed on to it target={} client=\"{}\"", target.value(), for_whom);
}

}  // namespace tarn::chunk
