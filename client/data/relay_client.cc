#include "client/data/relay_client.h"

#include <atomic>
#include <string>
#include <utility>

#include "common/base/check.h"
#include "proto/data.pb.h"
#include "proto/hello.pb.h"
#include "proto/types.pb.h"

namespace tarn::client {
namespace {

// The server in between gives up earlier than this client does, so that it says what was wrong.
int64_t TimeoutOfRelay(int64_t timeout_ms) { return timeout_ms - timeout_ms / 4; }

TargetId TargetOf(rpc::Method method, const google::protobuf::MessageLite& request) {
  switch (method) {
    case rpc::Method::kReadChunk:
      return TargetId(static_cast<const proto::ReadChunkRequest&>(request).chunk().target());
    case rpc::Method::kWriteChunk:
      return TargetId(static_cast<const proto::WriteChunkRequest&>(request).chunk().target());
    case rpc::Method::kTruncateChunk:
      return TargetId(static_cast<const proto::TruncateChunkRequest&>(request).chunk().target());
    case rpc::Method::kCommitTarget:
      return TargetId(static_cast<const proto::CommitTargetRequest&>(request).target());
    case rpc::Method::kStatData:
      return TargetId(static_cast<const proto::StatDataRequest&>(request).target());
    default:
      CHECK(false, "no request that may go through another server");
  }
}

}  // namespace

struct RelayClient::Listener {
  std::function<void()> on_answered;
  std::function<void(const Status&)> on_failed;
  std::atomic<bool> failed{false};

  // What the caller is told of a request that was not passed on, or whose reply did not come.
  Status Fail(const Status& why, const std::string& through) {
    // Neither says anything of the way: the caller does not want the answer any more, or the other server is busy.
    if (why.code() == StatusCode::kCancelled || why.code() == StatusCode::kResourceExhausted) return why;
    if (!failed.exchange(true)) on_failed(why);
    return Status(why.code() == StatusCode::kTimeout ? StatusCode::kTimeout : StatusCode::kUnavailable,
                  "through " + through + ": " + why.message());
  }
};

RelayClient::RelayClient(std::shared_ptr<rpc::FrameClient> through, IncarnationOf incarnation_of,
                         std::function<void()> on_answered, std::function<void(const Status&)> on_failed)
    : through_(std::move(through)),
      incarnation_of_(std::move(incarnation_of)),
      listener_(std::make_shared<Listener>()) {
  listener_->on_answered = std::move(on_answered);
  listener_->on_failed = std::move(on_failed);
}

void RelayClient::Call(rpc::Method method, const google::protobuf::MessageLite& request, const rpc::CallOptions& options,
                       rpc::ReplyCallback callback) {
  proto::RelayRequest wrapped;
  const TargetId target = TargetOf(method, request);
  wrapped.set_target(target.value());
  // Without one it is refused, and the map asked for anew.
  wrapped.set_incarnation(incarnation_of_(target).value_or(Incarnation()).value());
  wrapped.set_method(static_cast<uint32_t>(method));
  request.SerializeToString(wrapped.mutable_message());
  wrapped.set_reply_bytes_max(static_cast<uint32_t>(options.payload_destination.size()));
  wrapped.set_timeout_ms(static_cast<uint32_t>(TimeoutOfRelay(options.timeout_ms)));
  through_->Call(rpc::Method::kRelay, wrapped, options,
                 [listener = listener_, through = through_->address(),
                  callback = std::move(callback)](const rpc::Reply& reply) {
                   proto::RelayReply unwrapped;
                   const Status received = rpc::ParseReply(reply, &unwrapped);
                   if (!received.ok()) {
                     return callback(rpc::Reply{.status = listener->Fail(received, through), .message = {}, .payload = {}});
                   }
                   listener->on_answered();
                   const std::string& bytes = unwrapped.message();
                   rpc::Reply answer{.status = Status::Ok(),
                                     .message = {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()},
                                     .payload = reply.payload};
                   if (const auto code = static_cast<StatusCode>(unwrapped.status()); code != StatusCode::kOk) {
                     answer.status = Status(code, "");
                     answer.status = Status(code, rpc::ParseErrorDetail(answer).message());
                   }
                   callback(answer);
                 });
}

bool RelayClient::usable() const { return !listener_->failed.load() && through_->usable(); }

proto::HelloReply RelayClient::hello_reply() const { return through_->hello_reply(); }

}  // namespace tarn::client
