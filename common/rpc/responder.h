// The Responder of a request that came over a connection.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "common/rpc/frame.h"
#include "common/rpc/frame_server.h"
#include "common/rpc/frame_writer.h"

namespace tarn::rpc {

class ServerConnection;

// One thread at a time, any thread.
class ConnectionResponder final : public Responder {
 public:
  // `request_charge_bytes`: what the request's own payload holds of the connection's bounds until it is answered.
  ConnectionResponder(std::shared_ptr<ServerConnection> connection, const FrameHeader& request, size_t request_charge_bytes);
  ~ConnectionResponder() override;
  ConnectionResponder(const ConnectionResponder&) = delete;
  ConnectionResponder& operator=(const ConnectionResponder&) = delete;

  void ReplyEmpty();
  void Reply(const google::protobuf::MessageLite& message) override;
  void Reply(const google::protobuf::MessageLite& message, Buffer payload) override;
  void ReplyFile(const google::protobuf::MessageLite& message, std::vector<FilePayload> parts) override;
  void Fail(const Status& status) override;
  void Fail(const Status& status, proto::ErrorDetail detail) override;
  // For fault points: a second answer to the same request, which the peer is to ignore. Before the first one.
  std::unique_ptr<Responder> Twin();

 private:
  // A frame that cannot be made (too long) becomes a failure.
  void Send(const google::protobuf::MessageLite* message, Buffer payload, std::vector<FilePayload> files);

  std::shared_ptr<ServerConnection> connection_;  // null once answered
  const FrameHeader request_;
  const size_t request_charge_bytes_;
};

}  // namespace tarn::rpc
