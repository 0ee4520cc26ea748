// A connection to a chunk server that leads through another one: requests are wrapped, replies unwrapped, so that whoever
// calls sees no difference (docs/replication.md, "Through another server").
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "common/base/ids.h"
#include "common/rpc/frame_client.h"

namespace tarn::client {

// Threads and lifetime are those of a FrameClient.
class RelayClient final : public rpc::FrameClient {
 public:
  // The process that serves a target, by the newest map; nullopt: the map does not say.
  using IncarnationOf = std::function<std::optional<Incarnation>(TargetId)>;
  // Requests: that of `through`, which leads to the other server. `on_answered` is called with each reply of the server that
  // is meant, `on_failed` once, when a request was not passed on, or nothing came back: the client is then not usable
  // any more, and its calls fail with kUnavailable. Both on the loop's thread.
  RelayClient(std::shared_ptr<rpc::FrameClient> through, IncarnationOf incarnation_of, std::function<void()> on_answered,
              std::function<void(const Status&)> on_failed);

  // Of kReadChunk, kWriteChunk, kTruncateChunk, kCommitTarget, kStatData.
  void Call(rpc::Method method, const google::protobuf::MessageLite& request, const rpc::CallOptions& options,
            rpc::ReplyCallback callback) override;
  void Withdraw(std::span<uint8_t> payload_destination) override { through_->Withdraw(payload_destination); }
  void Close() override { through_->Close(); }
  bool usable() const override;
  proto::HelloReply hello_reply() const override;
  // Of the server in between.
  const std::string& address() const override { return through_->address(); }

 private:
  struct Listener;

  const std::shared_ptr<rpc::FrameClient> through_;
  const IncarnationOf incarnation_of_;
  const std::shared_ptr<Listener> listener_;  // outlives this in the callbacks
};

}  // namespace tarn::client
