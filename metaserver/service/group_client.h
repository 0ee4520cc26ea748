// What a metadata server asks of the other members over gRPC: to be taken into the group, and a checkpoint.
//
// Everything blocks, and ends soon after `cancelled` says so.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/rpc/event_loop.h"
#include "proto/member.pb.h"

namespace tarn::meta {

using Cancelled = std::function<bool()>;

// Asks the servers at `addresses` (lean frames) in turn, and whomever they say leads, until one has taken this server
// in or `timeout_ms` is over. kUnavailable, with the last reason; kCancelled; anything else is the group's refusal.
Result<proto::JoinGroupReply> JoinGroup(rpc::EventLoop* loop, const Clock& clock,
                                        const std::vector<std::string>& addresses,
                                        const proto::JoinGroupRequest& request, int64_t timeout_ms,
                                        const Cancelled& cancelled);

// Streams a checkpoint into `directory`, which is complete, verified and on stable storage when it returns.
// kUnavailable or kTimeout if the sender falls silent.
Status FetchCheckpoint(rpc::EventLoop* loop, const Clock* clock, const std::string& grpc_address,
                       const proto::FetchCheckpointRequest& request, const std::string& directory,
                       const Cancelled& cancelled);

}  // namespace tarn::meta
