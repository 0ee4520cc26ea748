// What all requests to chunk servers have in common: the shared state of the client, and one request with its retries.
// Internal to the chunk client.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "client/data/chunk_client.h"
#include "client/data/placement_routes.h"
#include "client/data/server_link.h"
#include "client/data/target_sequences.h"
#include "common/base/mutex.h"
#include "common/rpc/frame_client.h"

namespace tarn::client {

class ChunkOperation;
using ChunkOperationPtr = std::shared_ptr<ChunkOperation>;

// Reads and writes go over connections of their own, so that a small read does not wait behind megabytes of writes.
enum class LinkPurpose : uint8_t { kRead, kWrite };

// Thread-safe.
class ChunkClient::Core : public std::enable_shared_from_this<ChunkClient::Core> {
 public:
  Core(const ChunkClientOptions& client_options, std::vector<rpc::EventLoop*> event_loops,
       std::shared_ptr<MetadataGate> metadata_gate, std::shared_ptr<const Clock> system_clock);

  // Null once closed.
  std::shared_ptr<const PlacementRoutes> Routes();
  // Null once closed. For reads one of the calling loop's own, so that the loop that asks also hears the answer.
  std::shared_ptr<ServerLink> LinkTo(const std::string& address, LinkPurpose purpose);

  // Lets a write begin, now or when there is room for it at its server (the operation is then queued and started
  // later).
  bool AdmitWrite(const std::string& address, uint64_t bytes, const ChunkOperationPtr& operation);
  // A write that was admitted is over; starts those that fit now.
  void LeaveWrite(const std::string& address, uint64_t bytes);

  uint64_t BeginSequence(TargetId target);
  void EndSequence(TargetId target, uint64_t sequence);
  uint64_t AckedThrough(TargetId target);

  // An operation that waits for time to pass or for a map is parked; whoever unparks it (true) goes on with it.
  // False if the client is closed: it was not parked.
  bool Park(const ChunkOperationPtr& operation);
  bool Unpark(const ChunkOperationPtr& operation);
  rpc::EventLoop* TimerLoop() const { return loops.front(); }

  // Every operation calls them once: when it is made, and when its callback has returned.
  void OperationBegins();
  void OperationOver();

  void Close();
  // After Close: until the last operation is over.
  void AwaitOperations();
  bool closed() const { return closed_.load(std::memory_order_acquire); }

  // Immutable after construction.
  const ChunkClientOptions options;
  const std::vector<rpc::EventLoop*> loops;
  const std::shared_ptr<MetadataGate> metadata;
  const std::shared_ptr<const Clock> clock;

  ChunkClient::Counters counters;

 private:
  struct WriteGate {
    uint64_t bytes = 0;
    uint32_t writes = 0;
    std::deque<std::pair<ChunkOperationPtr, uint64_t>> waiting;
  };
  struct ServerLinks {
    std::vector<std::shared_ptr<ServerLink>> reads;  // one for each loop
    std::shared_ptr<ServerLink> writes;
    size_t first_loop = 0;  // of the writes; reads from threads that are no loop's take the one after it
  };
  bool HasRoom(const WriteGate& gate, uint64_t bytes) const;
  std::shared_ptr<ServerLink> Choose(const ServerLinks& links, LinkPurpose purpose) const;

  std::atomic<bool> closed_{false};

  Mutex mutex_;
  std::shared_ptr<const proto::ClusterMap> map_ GUARDED_BY(mutex_);  // what routes_ was made from
  std::shared_ptr<const PlacementRoutes> routes_ GUARDED_BY(mutex_);
  std::map<std::string, ServerLinks, std::less<>> links_ GUARDED_BY(mutex_);
  std::map<std::string, WriteGate, std::less<>> write_gates_ GUARDED_BY(mutex_);
  std::unordered_map<TargetId, TargetSequences> sequences_ GUARDED_BY(mutex_);
  std::unordered_set<ChunkOperationPtr> parked_ GUARDED_BY(mutex_);

  // Counted without a lock, since every read does it; only the last one after Close has somebody to tell.
  std::atomic<uint64_t> operations_{0};
  Mutex operations_mutex_;
  CondVar operations_over_;
};

// One request, from its start to its single end. Its steps follow one another, on whatever thread: no two run at once.
class ChunkOperation : public std::enable_shared_from_this<ChunkOperation> {
 public:
  explicit ChunkOperation(std::shared_ptr<ChunkClient::Core> core);
  virtual ~ChunkOperation() = default;

  // Tries; ends, or tries again, by itself.
  void Attempt();
  // Ends it.
  void Fail(const Status& status);
  // There is room for it at its server now: goes on.
  virtual void Admitted() {}

 protected:
  virtual Result<Route> FindRoute(const PlacementRoutes& routes) const = 0;
  virtual LinkPurpose purpose() const = 0;
  // Before the first attempt: false if it has to wait (until Admitted).
  virtual bool Admit() { return true; }
  // Builds the message for route() and calls; the answer goes to OnReply.
  virtual void Send(rpc::FrameClient& client, rpc::CallOptions options) = 0;
  // An answer that the server calls good: ok if the operation is finished, otherwise why it is not. kUnavailable tries
  // again.
  virtual Status OnGood(const rpc::Reply& reply) = 0;
  // An answer other than good that is no reason to try again in general: true if this operation wants another attempt
  // all the same.
  virtual bool RetryAfterRefusal(const Status&) { return false; }
  virtual void Finish(const Status& status) = 0;
  // "write chunk 17:3".
  virtual std::string Describe() const = 0;

  rpc::ReplyCallback MakeReplyCallback();
  // "chunk 17:3 at target 4 (127.0.0.1:7410)" in the words of the operation.
  std::string Where() const;

  const std::shared_ptr<ChunkClient::Core> core_;
  Route route_;

 private:
  void OnReply(const rpc::Reply& reply);
  void End(const Status& status);
  void AwaitMap(uint64_t version, const Status& reason);
  void RetryAfter(int64_t delay_ms, const Status& reason);
  bool Expired(int64_t now_ns) const;
  int64_t NextDelayMs();

  std::shared_ptr<ServerLink> link_;
  std::shared_ptr<rpc::FrameClient> client_;
  const int64_t started_ns_;
  int64_t first_attempt_ns_ = 0;
  int64_t sent_ns_ = 0;
  int64_t delay_ms_ = 0;
  uint32_t attempts_ = 0;
  Status last_error_;
};

}  // namespace tarn::client
