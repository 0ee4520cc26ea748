#include "common/rpc/responder.h"

#include <numeric>
#include <utility>

#include "common/rpc/server_connection.h"
#include "proto/types.pb.h"

namespace tarn::rpc {

ConnectionResponder::ConnectionResponder(std::shared_ptr<ServerConnection> connection, const FrameHeader& request,
                                         size_t request_charge_bytes)
    : connection_(std::move(connection)), request_(request), request_charge_bytes_(request_charge_bytes) {}

ConnectionResponder::~ConnectionResponder() {
  if (connection_ != nullptr)
    Fail(Status(StatusCode::kInternal, MethodName(request_.method) + " was dropped unanswered"));
}

void ConnectionResponder::ReplyEmpty() { Send(nullptr, {}, {}); }

void ConnectionResponder::Reply(const google::protobuf::MessageLite& message) { Send(&message, {}, {}); }

void ConnectionResponder::Reply(const google::protobuf::MessageLite& message, Buffer payload) {
  Send(&message, std::move(payload), {});
}

void ConnectionResponder::ReplyFile(const google::protobuf::MessageLite& message, std::vector<FilePayload> parts) {
  std::erase_if(parts, [](const FilePayload& part) { return part.length == 0; });
  Send(&message, {}, std::move(parts));
}

void ConnectionResponder::Fail(const Status& status) { Fail(status, proto::ErrorDetail()); }

void ConnectionResponder::Fail(const Status& status, proto::ErrorDetail detail) {
  CHECK(connection_ != nullptr, "a request is answered once");
  CHECK(!status.ok(), "a failure needs an error");
  detail.set_message(status.message());
  const FrameHeader header{
      .kind = FrameKind::kReply, .method = request_.method, .request_id = request_.request_id, .status = status.code()};
  Result<OutgoingFrame> frame = MakeFrame(header, 0, &detail);
  if (!frame.ok()) {
    detail.set_message(frame.status().message());
    frame = MakeFrame(header, 0, &detail);
  }
  frame->charge_bytes = request_charge_bytes_;
  std::exchange(connection_, nullptr)->Answer(std::move(*frame));
}

std::unique_ptr<Responder> ConnectionResponder::Twin() {
  CHECK(connection_ != nullptr, "the first answer is still to come");
  connection_->ExpectTwin();
  return std::make_unique<ConnectionResponder>(connection_, request_, 0);
}

void ConnectionResponder::Send(const google::protobuf::MessageLite* message, Buffer payload,
                               std::vector<FilePayload> files) {
  CHECK(connection_ != nullptr, "a request is answered once");
  const size_t payload_bytes = std::accumulate(files.begin(), files.end(), payload.size(),
                                               [](size_t sum, const FilePayload& file) { return sum + file.length; });
  const FrameHeader header{.kind = FrameKind::kReply, .method = request_.method, .request_id = request_.request_id};
  Result<OutgoingFrame> frame = MakeFrame(header, payload_bytes, message);
  if (!frame.ok()) return Fail(frame.status());
  frame->payload = std::move(payload);
  frame->files = std::move(files);
  frame->charge_bytes = request_charge_bytes_;
  std::exchange(connection_, nullptr)->Answer(std::move(*frame));
}

}  // namespace tarn::rpc
