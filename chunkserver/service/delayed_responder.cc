#include "chunkserver/service/delayed_responder.h"

#include <google/protobuf/message_lite.h>

#include <utility>

#include "proto/types.pb.h"

namespace tarn::chunk {
namespace {

std::shared_ptr<const google::protobuf::MessageLite> Copy(const google::protobuf::MessageLite& message) {
  std::shared_ptr<google::protobuf::MessageLite> copy(message.New());
  copy->CheckTypeAndMergeFrom(message);
  return copy;
}

}  // namespace

DelayedResponder::DelayedResponder(std::unique_ptr<rpc::Responder> responder, rpc::EventLoop* loop, int64_t delay_ms)
    : responder_(std::move(responder)), loop_(loop), delay_ms_(delay_ms) {}

template <typename Answer>
void DelayedResponder::Later(Answer answer) {
  // Shared, since a task must be copyable and what it carries is not.
  auto shared = std::make_shared<Answer>(std::move(answer));
  loop_->PostAfter(delay_ms_, [responder = std::move(responder_), shared] { (*shared)(*responder); });
}

void DelayedResponder::Reply(const google::protobuf::MessageLite& message) {
  Later([copy = Copy(message)](rpc::Responder& responder) { responder.Reply(*copy); });
}

void DelayedResponder::Reply(const google::protobuf::MessageLite& message, Buffer payload) {
  Later([copy = Copy(message), payload = std::move(payload)](rpc::Responder& responder) mutable { responder.Reply(*copy, std::move(payload)); });
}

void DelayedResponder::ReplyFile(const google::protobuf::MessageLite& message, std::vector<rpc::FilePayload> parts) {
  Later([copy = Copy(message), parts = std::move(parts)](rpc::Responder& responder) mutable { responder.ReplyFile(*copy, std::move(parts)); });
}

void DelayedResponder::Fail(const Status& status) {
  Later([status](rpc::Responder& responder) { responder.Fail(status); });
}

void DelayedResponder::Fail(const Status& status, proto::ErrorDetail detail) {
  Later([status, detail = std::move(detail)](rpc::Responder& responder) { responder.Fail(status, detail); });
}

}  // namespace tarn::chunk
