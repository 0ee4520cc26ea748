#include "common/rpc/frame_client.h"

#include <google/protobuf/message_lite.h>

#include <future>
#include <utility>

#include "common/rpc/client_connection.h"
#include "proto/hello.pb.h"
#include "proto/types.pb.h"

namespace tarn::rpc {
namespace {

// The handle: closes the connection when the last user lets go, although the loop still holds it.
class ConnectionHandle final : public FrameClient {
 public:
  explicit ConnectionHandle(std::shared_ptr<ClientConnection> connection) : connection_(std::move(connection)) {}
  ~ConnectionHandle() override { connection_->Close(); }

  void Call(Method method, const google::protobuf::MessageLite& request, const CallOptions& options,
            ReplyCallback callback) override {
    connection_->Call(method, request, options, std::move(callback));
  }
  void Withdraw(std::span<uint8_t> payload_destination) override { connection_->Withdraw(payload_destination); }
  void Close() override { connection_->Close(); }
  bool usable() const override { return connection_->usable(); }
  proto::HelloReply hello_reply() const override { return connection_->hello_reply(); }
  const std::string& address() const override { return connection_->address(); }

 private:
  const std::shared_ptr<ClientConnection> connection_;
};

}  // namespace

std::shared_ptr<FrameClient> FrameClient::Create(EventLoop* loop, const FrameClientOptions& options,
                                                 const proto::HelloRequest& hello) {
  return std::make_shared<ConnectionHandle>(std::make_shared<ClientConnection>(loop, options, hello));
}

Status FrameClient::CallAndWait(Method method, const google::protobuf::MessageLite& request,
                                google::protobuf::MessageLite* reply, int64_t timeout_ms) {
  // Shared, so that it lives until set_value has returned on the loop. The callback runs exactly once, so `reply` need
  // not be.
  const auto answered = std::make_shared<std::promise<Status>>();
  CallOptions options;
  options.timeout_ms = timeout_ms;
  Call(method, request, options, [answered, reply](const Reply& got) {
    answered->set_value(reply != nullptr ? ParseReply(got, reply) : got.status);
  });
  return answered->get_future().get();
}

Status ParseReply(const Reply& reply, google::protobuf::MessageLite* message) {
  if (!reply.status.ok()) return reply.status;
  if (!message->ParseFromArray(reply.message.data(), static_cast<int>(reply.message.size()))) {
    return Status(StatusCode::kCorruption, "the answer is no " + message->GetTypeName());
  }
  return Status::Ok();
}

proto::ErrorDetail ParseErrorDetail(const Reply& reply) {
  proto::ErrorDetail detail;
  if (reply.status.ok()) return detail;
  // What cannot be parsed carries no detail.
  if (!detail.ParseFromArray(reply.message.data(), static_cast<int>(reply.message.size()))) detail.Clear();
  return detail;
}

}  // namespace tarn::rpc
