// The requesting side of lean frames: one connection, many requests in flight.
//
// A connection is made lazily by the first call, says hello, and is not re-made once broken: its calls fail with kUnavailable and the owner
// makes a new one (who knows whether a retry is safe is the caller). Bounded: at most `requests_in_flight_max` calls; more are refused with kResourceExhausted.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "common/base/buffer.h"
#include "common/base/status.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame.h"
#include "common/rpc/socket_address.h"

namespace google::protobuf {
class MessageLite;
}
namespace tarn::proto {
class HelloReply;
class HelloRequest;
class ErrorDetail;
}  // namespace tarn::proto

namespace tarn::rpc {

// What came back. `message` and `payload` are valid during the callback only.
struct Reply {
  Status status;                      // of the transport or of the server; its text is ErrorDetail.message
  std::span<const uint8_t> message;   // serialized reply message (for a server error: ErrorDetail)
  std::span<const uint8_t> payload;   // lies in CallOptions::payload_destination if one was given
};

// Runs on the connection's loop thread, exactly once per call; must not block. It may start new calls.
using ReplyCallback = std::function<void(Reply)>;

struct CallOptions {
  int64_t timeout_ms = 10'000;                // then kTimeout; a reply that comes later is dropped
  std::span<const uint8_t> payload;           // sent after the message; the caller keeps it alive until the callback
  std::span<uint8_t> payload_destination;     // the reply's payload is received straight into this; a longer one fails the call with kCorruption.
                                              // The caller keeps it alive until the callback (also on kTimeout: the connection then discards the late payload).
};

// A push of the server; `message` is valid during the call only. Runs on the loop thread; must not block.
using PushHandler = std::function<void(Method method, std::span<const uint8_t> message)>;

struct FrameClientOptions {
  std::string address;  // HOST:PORT (names are resolved at connect, in a thread of the resolver's own) or unix:/PATH
  int64_t connect_timeout_ms = 3'000;  // until the hello is answered
  int64_t unacknowledged_ms_max = kUnacknowledgedMsMax;  // see SetUnacknowledgedMax
  uint32_t requests_in_flight_max = 4096;
  PushHandler push_handler;  // none: pushes are dropped
};

// Thread-safe. Destroying it closes it. If the loop ends before a call's callback could run on it, the callback runs (kCancelled) on the
// thread that destroys the loop.
class FrameClient : public std::enable_shared_from_this<FrameClient> {
 public:
  // `loop` outlives the client. `hello` is sent first; its reply can be had from hello_reply() in any later callback.
  static std::shared_ptr<FrameClient> Create(EventLoop* loop, const FrameClientOptions& options, const proto::HelloRequest& hello);
  virtual ~FrameClient() = default;

  // Serializes `request` before it returns.
  virtual void Call(Method method, const google::protobuf::MessageLite& request, const CallOptions& options, ReplyCallback callback) = 0;

  // Loop thread only: the call whose reply goes to this payload_destination, if it is still under way, ends now: its callback has run (kCancelled)
  // when this returns, the place is not written to any more, and the reply that may come is dropped. For whoever got the bytes elsewhere.
  virtual void Withdraw(std::span<uint8_t> payload_destination) = 0;

  // For tools and tests, never on a loop thread: waits, parses the reply into `reply` (may be null).
  Status CallAndWait(Method method, const google::protobuf::MessageLite& request, google::protobuf::MessageLite* reply, int64_t timeout_ms = 10'000);

  // Fails everything in flight with kUnavailable. Later calls fail too.
  virtual void Close() = 0;
  // False once the connection broke or was closed.
  virtual bool usable() const = 0;
  // Empty until the hello was answered.
  virtual proto::HelloReply hello_reply() const = 0;
  virtual const std::string& address() const = 0;
};

// FrameClient::Create, or what stands in its place.
using ConnectFunction =
    std::function<std::shared_ptr<FrameClient>(EventLoop* loop, const FrameClientOptions& options, const proto::HelloRequest& hello)>;

// Parses a Reply's message; the reply's own status if that is not ok; kCorruption if the bytes are no such message.
Status ParseReply(const Reply& reply, google::protobuf::MessageLite* message);
// The ErrorDetail of a failed reply (empty if the failure was the transport's).
proto::ErrorDetail ParseErrorDetail(const Reply& reply);

}  // namespace tarn::rpc
