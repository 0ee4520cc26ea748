// Requests to whichever metadata server leads: finds it among the known addresses, reconnects, redirects, retries.
//
// A request is sent again, byte for byte the same, after a lost connection, a time-out, kNotLeader or
// kResourceExhausted, until its deadline; then it fails with kUnavailable naming the addresses. That is safe for reads,
// and for mutations because they carry session and sequence number (client/meta/metadata_client.h). Host names are
// resolved anew by every connection.
//
// A time-out alone ends no connection over which other requests were answered meanwhile: only this request is sent again.
//
// A server that has died is noticed by its connection. One that is stopped, or behind a cut network, is not: when the
// present server has been silent for `silence_ms` although requests wait, the others are asked who leads
// (client/meta/leader_probe.h), again and again, and the first that leads takes over all requests. A leader that is
// merely slow keeps them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/meta/leader_probe.h"
#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/base/random.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"

namespace tarn::client {

struct MetadataChannelOptions {
  std::vector<std::string> addresses;  // HOST:PORT, at least one
  std::string client_name;
  std::string token;
  int64_t retry_deadline_ms = 30'000;
  int64_t call_timeout_ms = 5'000;  // of one attempt
  int64_t backoff_first_ms = 5;
  int64_t backoff_max_ms = 500;  // of an overloaded server
  int64_t failover_backoff_max_ms = 100;
  int64_t silence_ms = 500;
  rpc::ConnectFunction connect = rpc::FrameClient::Create;
};

// Thread-safe.
class MetadataChannel : public std::enable_shared_from_this<MetadataChannel> {
 public:
  // The final answer. `reply` is valid during the callback only. `in_doubt`: an earlier attempt may have been carried
  // out although its answer was lost.
  using Done = std::function<void(const rpc::Reply& reply, bool in_doubt)>;

  // `loop`, `clock` and `random` outlive it. Connects with the first call.
  static std::shared_ptr<MetadataChannel> Create(rpc::EventLoop* loop, const Clock* clock, Random* random,
                                                 const MetadataChannelOptions& options);

  // Both before the first call. Pushes of any server, on the loop's thread.
  void SetPushHandler(rpc::PushHandler handler) { push_handler_ = std::move(handler); }
  // A connection has been begun; what it calls here goes over it before anything else.
  void SetConnectListener(std::function<void()> listener) { connect_listener_ = std::move(listener); }

  // `request` must not change any more. `done` runs exactly once, on the loop's thread, or on the caller's before the
  // call returns (closed). `deadline_ms` 0: the channel's.
  void Call(rpc::Method method, std::shared_ptr<const google::protobuf::MessageLite> request, Done done,
            int64_t deadline_ms = 0);

  // Later connections introduce themselves with it.
  void SetSession(SessionId session);
  // Further metadata servers, as the cluster map lists them.
  void AddAddresses(const std::vector<std::string>& addresses);
  std::vector<std::string> addresses() const;
  // Requests sent so far, repeats included.
  uint64_t requests() const;

  // Everything not yet answered fails with kCancelled, and so do later calls. Callbacks of requests in flight may still
  // run on the loop's thread after it returns.
  void Close();

 private:
  struct Operation {
    rpc::Method method;
    std::shared_ptr<const google::protobuf::MessageLite> request;
    Done done;
    int64_t deadline_ns = 0;
    int64_t deadline_ms = 0;  // as asked for, for the error text
    int64_t sent_ns = 0;      // of the last attempt
    uint32_t attempts = 0;
    uint32_t redirects = 0;
    bool in_doubt = false;
    Status last_error;
  };
  using OperationPtr = std::shared_ptr<Operation>;

  MetadataChannel(rpc::EventLoop* loop, const Clock* clock, Random* random, const MetadataChannelOptions& options);

  void Send(const OperationPtr& operation);
  void OnReply(const OperationPtr& operation, const std::shared_ptr<rpc::FrameClient>& client, const rpc::Reply& reply);
  void NoteReply(const std::shared_ptr<rpc::FrameClient>& client, const rpc::Reply& reply);
  void RetryLater(const OperationPtr& operation, int64_t delay_ms);
  void OnRetryTimer(uint64_t ticket);
  void Finish(const OperationPtr& operation, Status status);
  Status DeadlineStatus(const Operation& operation) const REQUIRES(mutex_);
  std::shared_ptr<rpc::FrameClient> CurrentClient(bool* made) REQUIRES(mutex_);
  // What to do after a failed attempt: which server next, and after which delay. Returns a client to be closed, if any.
  std::shared_ptr<rpc::FrameClient> PlanRetry(const OperationPtr& operation,
                                              const std::shared_ptr<rpc::FrameClient>& client, const rpc::Reply& reply,
                                              int64_t* delay_ms) REQUIRES(mutex_);
  void FollowLeader(const std::string& address) REQUIRES(mutex_);
  void Retire(std::shared_ptr<rpc::FrameClient> client) REQUIRES(mutex_);
  int64_t BackoffMs(uint32_t attempt, int64_t max_ms) REQUIRES(mutex_);
  proto::HelloRequest Hello() REQUIRES(mutex_);
  // True if a timer is to be started for it.
  bool BeginWatch() REQUIRES(mutex_);
  void StartWatchTimer();
  void OnWatchTimer();
  void OnLeaderFound(const std::string& address);

  // Immutable after construction.
  rpc::EventLoop* const loop_;
  const Clock* const clock_;
  Random* const random_;
  const MetadataChannelOptions options_;
  rpc::PushHandler push_handler_;           // set before the first call
  std::function<void()> connect_listener_;  // the same

  mutable Mutex mutex_;
  bool closed_ GUARDED_BY(mutex_) = false;
  SessionId session_ GUARDED_BY(mutex_);
  std::vector<std::string> addresses_ GUARDED_BY(mutex_);
  size_t address_index_ GUARDED_BY(mutex_) = 0;
  std::shared_ptr<rpc::FrameClient> client_ GUARDED_BY(mutex_);  // null: to be made by the next call
  uint64_t unanswered_ GUARDED_BY(mutex_) = 0;                   // by `client_`
  int64_t silent_since_ns_ GUARDED_BY(mutex_) = 0;               // if anything is unanswered
  bool watches_ GUARDED_BY(mutex_) = false;                      // a timer looks at the two above
  std::shared_ptr<LeaderProbe> probe_ GUARDED_BY(mutex_);
  // Left for another server while they still had requests in flight.
  std::vector<std::weak_ptr<rpc::FrameClient>> retired_ GUARDED_BY(mutex_);
  uint64_t requests_ GUARDED_BY(mutex_) = 0;
  uint64_t next_ticket_ GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, OperationPtr> waiting_ GUARDED_BY(mutex_);  // for their retry timer
};

}  // namespace tarn::client
