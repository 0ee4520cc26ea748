// Connections to the chunk servers of other targets, at the addresses of the cluster map.
//
// Up to three for each server: one for what carries data, one for what is passed on for clients, so that it is not before what members wait for,
// and one for the rest, so that a read grant does not wait behind megabytes. A connection that broke is made anew by the next call, but not more
// often than every kRemakePauseMs.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "chunkserver/replication/environment.h"
#include "chunkserver/service/cluster_view.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "proto/hello.pb.h"

namespace tarn::chunk {

// Thread-safe.
class FramePeerNetwork final : public replication::PeerNetwork {
 public:
  static constexpr int64_t kRemakePauseMs = 100;

  // All outlive it. `hello` is asked for with each new connection. Callbacks run on `loop`.
  FramePeerNetwork(const ClusterView* view, rpc::EventLoop* loop, const Clock* clock, std::function<proto::HelloRequest()> hello);
  ~FramePeerNetwork() override;

  void Call(TargetId to, rpc::Method method, const google::protobuf::MessageLite& request, std::span<const uint8_t> payload, int64_t timeout_ms,
            replication::PeerCallback callback) override;

  // Fails what is under way. Later calls are dropped without a callback: before the loop ends, and after the last caller has stopped.
  void Close();

 private:
  enum class Lane { kControl, kData, kRelayed };
  using Key = std::pair<std::string, Lane>;
  struct Connection {
    std::shared_ptr<rpc::FrameClient> client;
    int64_t made_ms = 0;
  };

  static Lane LaneOf(rpc::Method method);
  // Null: one has just failed.
  std::shared_ptr<rpc::FrameClient> ClientOf(const Key& key) REQUIRES(mutex_);

  const ClusterView* const view_;
  rpc::EventLoop* const loop_;
  const Clock* const clock_;
  const std::function<proto::HelloRequest()> hello_;

  Mutex mutex_;
  bool closed_ GUARDED_BY(mutex_) = false;
  std::map<Key, Connection> connections_ GUARDED_BY(mutex_);
};

}  // namespace tarn::chunk
