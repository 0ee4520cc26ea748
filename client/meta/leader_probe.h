// Asks several metadata servers at once which of them leads: for when the one that did has fallen silent.
//
// Only a server's own word counts, given while it holds its lease; whom others believe to lead is asked as well. So a
// leader that is merely slow is not left for one that does not lead.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/mutex.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "proto/hello.pb.h"

namespace tarn::client {

// Thread-safe.
class LeaderProbe : public std::enable_shared_from_this<LeaderProbe> {
 public:
  // On the loop's thread, at most once; not after Close has returned to the loop's thread.
  using Found = std::function<void(const std::string& address)>;

  struct Options {
    int64_t timeout_ms = 500;  // of each server
    rpc::ConnectFunction connect = rpc::FrameClient::Create;
  };

  // `loop` outlives it. `addresses` but the silent one are asked.
  static std::shared_ptr<LeaderProbe> Start(rpc::EventLoop* loop, const std::vector<std::string>& addresses,
                                            const std::string& silent, const proto::HelloRequest& hello,
                                            const Options& options, Found found);
  void Close();
  // Every server has answered or will not.
  bool ended() const;

 private:
  LeaderProbe(rpc::EventLoop* loop, const std::string& silent, const proto::HelloRequest& hello, const Options& options,
              Found found);
  void Ask(const std::string& address);
  void OnReply(const std::string& address, const rpc::Reply& reply);

  // Immutable after construction.
  rpc::EventLoop* const loop_;
  const std::string silent_;
  const proto::HelloRequest hello_;
  const Options options_;

  mutable Mutex mutex_;
  Found found_ GUARDED_BY(mutex_);  // null: found, or closed
  std::vector<std::string> asked_ GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<rpc::FrameClient>> clients_ GUARDED_BY(mutex_);
  size_t unanswered_ GUARDED_BY(mutex_) = 0;
};

}  // namespace tarn::client
