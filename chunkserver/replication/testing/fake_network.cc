#include "chunkserver/replication/testing/fake_network.h"

#include <google/protobuf/message_lite.h>

#include <utility>

namespace tarn::replication::testing {

// A call under way: answered once.
struct FakeNetwork::Call {
  TargetId from;
  TargetId to;
  rpc::Method method;
  std::string message;
  std::shared_ptr<std::vector<uint8_t>> payload;
  PeerCallback callback;
  std::shared_ptr<bool> alive;  // the caller's process

  void Answer(const PeerReply& reply) {
    const PeerCallback answered = std::exchange(callback, nullptr);
    if (answered && *alive) answered(reply);
  }
};

class FakeNetwork::Port final : public PeerNetwork {
 public:
  Port(FakeNetwork* network, TargetId from) : network_(network), from_(from) {}

  void Call(TargetId to, rpc::Method method, const google::protobuf::MessageLite& request, std::span<const uint8_t> payload, int64_t timeout_ms,
            PeerCallback callback) override {
    auto call = std::make_shared<FakeNetwork::Call>();
    call->from = from_;
    call->to = to;
    call->method = method;
    call->message = request.SerializeAsString();
    call->payload = std::make_shared<std::vector<uint8_t>>(payload.begin(), payload.end());
    call->callback = std::move(callback);
    call->alive = alive_;
    ++network_->calls;
    const CallFate drawn = network_->fate(from_, to, method);
    if (!drawn.request_lost) network_->Send(call, drawn, drawn.request_delay_ns, true);
    if (drawn.second_copy_delay_ns >= 0) network_->Send(call, drawn, drawn.second_copy_delay_ns, false);
    network_->queue_->After(timeout_ms * 1'000'000, [call] { call->Answer({.status = Status(StatusCode::kTimeout, "no answer"), .map_version = 0, .message = {}, .payload = {}}); });
  }
  void Kill() { *alive_ = false; }

 private:
  FakeNetwork* const network_;
  const TargetId from_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

namespace {

class Responder final : public PeerResponder {
 public:
  using Answer = std::function<void(Status, uint64_t, std::string, std::vector<uint8_t>)>;
  explicit Responder(Answer answer) : answer_(std::move(answer)) {}
  void Reply(const google::protobuf::MessageLite& reply, std::vector<uint8_t> payload) override {
    std::exchange(answer_, nullptr)(Status::Ok(), 0, reply.SerializeAsString(), std::move(payload));
  }
  void Fail(const Status& status, uint64_t map_version) override { std::exchange(answer_, nullptr)(status, map_version, {}, {}); }

 private:
  Answer answer_;
};

}  // namespace

void FakeNetwork::Send(const std::shared_ptr<Call>& call, const CallFate& call_fate, int64_t delay_ns, bool may_answer) {
  queue_->After(delay_ns, [this, call, drawn = call_fate, may_answer] {
    const auto handler = handlers_.find(call->to);
    if (handler == handlers_.end() || !handler->second) {
      if (may_answer) call->Answer({.status = Status(StatusCode::kUnavailable, "refused"), .map_version = 0, .message = {}, .payload = {}});
      return;
    }
    if (answer_instead) {
      if (const std::optional<std::string> reply = answer_instead(call->from, call->to, call->method, call->message)) {
        const auto* bytes = reinterpret_cast<const uint8_t*>(reply->data());
        return call->Answer({.status = Status::Ok(), .map_version = 0, .message = {bytes, reply->size()}, .payload = {}});
      }
    }
    auto responder = std::make_shared<Responder>([this, call, drawn, may_answer](Status status, uint64_t map_version, std::string message,
                                                                                std::vector<uint8_t> payload) {
      if (!may_answer || drawn.reply_lost) return;
      if (tamper_reply && status.ok()) tamper_reply(call->from, call->to, call->method, &message);
      queue_->After(drawn.reply_delay_ns, [call, status, map_version, message = std::move(message), payload = std::move(payload)] {
        call->Answer({.status = status, .map_version = map_version, .message = {reinterpret_cast<const uint8_t*>(message.data()), message.size()}, .payload = payload});
      });
    });
    const auto message = std::make_shared<std::string>(call->message);
    if (tamper_request) tamper_request(call->from, call->to, call->method, message.get());
    handler->second(call->method, {reinterpret_cast<const uint8_t*>(message->data()), message->size()}, *call->payload, call->payload, responder);
  });
}

std::unique_ptr<PeerNetwork> FakeNetwork::Open(TargetId from) { return std::make_unique<Port>(this, from); }

void FakeNetwork::Kill(PeerNetwork* network) { static_cast<Port*>(network)->Kill(); }

}  // namespace tarn::replication::testing
