// Calls to other targets with parsed answers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>

#include "chunkserver/replication/context.h"
#include "chunkserver/replication/group_view.h"
#include "proto/data.pb.h"

namespace tarn::replication {

inline void SetAddress(const Context& ctx, TargetId to, GroupId group, Epoch epoch, proto::GroupAddress* address) {
  address->set_target(to.value());
  address->set_group(group.value());
  address->set_epoch(epoch.value());
  address->set_from_target(ctx.target.value());
}

// `done(status, reply)` on a thread that must not block; the reply is what came, if the status is ok. A kStaleEpoch asks for the newer map by itself.
template <typename Reply>
void CallPeer(const ContextPtr& ctx, TargetId to, rpc::Method method, const google::protobuf::MessageLite& request, std::span<const uint8_t> payload,
              std::function<void(const Status&, const Reply&)> done) {
  if (ctx->stopped) return done(Status(StatusCode::kCancelled, "the server stops"), Reply());
  // A change whose acknowledgement was lost is sent again before its member is taken for silent.
  const int64_t timeout_ms = ctx->options.member_timeout_ms / (method == rpc::Method::kReplicate ? 2 : 1);
  ctx->network->Call(to, method, request, payload, timeout_ms, [ctx, done = std::move(done)](const PeerReply& peer) {
    Reply reply;
    if (ctx->stopped) return done(Status(StatusCode::kCancelled, "the server stops"), reply);
    if (!peer.status.ok()) {
      if (peer.status.code() == StatusCode::kStaleEpoch) ctx->authority->WantMap(peer.map_version);
      return done(peer.status, reply);
    }
    if (!reply.ParseFromArray(peer.message.data(), static_cast<int>(peer.message.size()))) {
      return done(Status(StatusCode::kCorruption, "an answer of another target cannot be read"), reply);
    }
    done(Status::Ok(), reply);
  });
}

// Whether a later attempt may go better; else the member itself is at fault.
inline bool IsPassing(StatusCode code) {
  switch (code) {
    case StatusCode::kUnavailable:
    case StatusCode::kTimeout:
    case StatusCode::kStaleEpoch:
    case StatusCode::kStaleSequence:
    case StatusCode::kResourceExhausted:
    case StatusCode::kCancelled:
    case StatusCode::kWrongIncarnation: return true;
    default: return false;
  }
}

}  // namespace tarn::replication
