// The answering side of lean frames.
//
// Requests are handed to one handler on the loop thread of their connection; the answer may be given there or later from any thread,
// in any order. Bounds: connections, requests in flight per connection (more are not read from the socket until some are answered),
// message and payload sizes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/buffer_pool.h"
#include "common/base/status.h"
#include "common/rpc/file_payload.h"
#include "common/rpc/frame.h"

namespace google::protobuf {
class MessageLite;
}
namespace tarn::proto {
class HelloReply;
class HelloRequest;
class ErrorDetail;
}  // namespace tarn::proto

namespace tarn::rpc {

class EventLoop;

// Bounds of one connection. Reading stops while the requests being worked on and their answers not yet sent hold more than
// kUnansweredBytesMax (or are more than requests_in_flight_max).
inline constexpr uint64_t kUnansweredBytesMax = 64u << 20;
inline constexpr uint64_t kPushBytesMax = 16u << 20;

// The other end of a connection. Thread-safe; stays valid (but dead) after the connection is gone while somebody holds it.
class Peer {
 public:
  virtual ~Peer() = default;
  virtual const proto::HelloRequest& hello() const = 0;
  virtual const std::string& address() const = 0;
  // For pushes; dropped silently if the connection is gone. A peer that leaves kPushBytesMax of them unread is disconnected.
  virtual void Push(Method method, const google::protobuf::MessageLite& message) = 0;
  virtual bool connected() const = 0;
};

// Answers one request, exactly once; a responder destroyed unanswered answers kInternal. Any thread.
class Responder {
 public:
  virtual ~Responder() = default;
  virtual void Reply(const google::protobuf::MessageLite& message) = 0;
  virtual void Reply(const google::protobuf::MessageLite& message, Buffer payload) = 0;
  // The file parts follow one another as the payload. A file that turns out shorter ends the connection.
  virtual void ReplyFile(const google::protobuf::MessageLite& message, std::vector<FilePayload> parts) = 0;
  virtual void Fail(const Status& status) = 0;
  virtual void Fail(const Status& status, proto::ErrorDetail detail) = 0;
};

struct Request {
  Method method = Method::kPing;
  std::shared_ptr<Peer> peer;
  std::span<const uint8_t> message;  // valid during the handler call only
  Buffer payload;                    // owned by the handler
  EventLoop* loop = nullptr;         // whose thread runs the handler; lives as long as the server
};

// Runs on the loop thread of the connection: must not block. Hellos and pings are answered by the server itself, method numbers that do
// not exist are refused by it.
using RequestHandler = std::function<void(Request, std::unique_ptr<Responder>)>;
// Checks a hello (token, cluster id) and fills the reply (role, ids, incarnation, ...), with the features it has; the server negotiates the
// version and cuts the features to those that the client has as well. Runs on a loop thread (several, if there are several): must not block.
using HelloHandler = std::function<Status(const proto::HelloRequest&, proto::HelloReply*)>;

struct FrameServerOptions {
  std::string listen = "127.0.0.1:0";  // HOST:PORT or unix:/PATH
  uint32_t loop_threads = 1;           // connections are dealt over them
  uint32_t connections_max = 16'384;
  uint32_t requests_in_flight_max = 256;  // per connection
  std::string thread_name = "frames";
  // Clients of the same machine get a Unix socket instead of TCP (common/rpc/local_socket.h).
  bool offers_local_sockets = true;
  // Where the payloads of requests come from, and best also those of replies; null: a pool of the server's own.
  std::shared_ptr<BufferPool> buffers;
};

class FrameServer {
 public:
  // The handlers, and what they refer to, live until the server is destroyed. Listens at once. kBusy with the address in the text if the port is taken.
  static Result<std::unique_ptr<FrameServer>> Start(const FrameServerOptions& options, HelloHandler hello, RequestHandler handler);
  // Closes every connection and joins the threads; responders still held elsewhere become no-ops. Not on a loop thread.
  virtual ~FrameServer() = default;
  // The address it really listens on (port 0 resolved).
  virtual const std::string& address() const = 0;
  virtual uint32_t connection_count() const = 0;
};

// kInvalidArgument if the bytes are no such message.
Status ParseRequest(const Request& request, google::protobuf::MessageLite* message);

}  // namespace tarn::rpc
