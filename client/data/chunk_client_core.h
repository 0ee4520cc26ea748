// What the requests of a chunk client share: routes, servers and connections, windows of writes, sequences, places to
// wait. Internal to the chunk client.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "client/data/chunk_client.h"
#include "client/data/group_sequences.h"
#include "client/data/hedge_policy.h"
#include "client/data/placement_routes.h"
#include "client/data/server_health.h"
#include "client/data/server_link.h"
#include "client/data/server_reach.h"
#include "client/data/slow_read_watch.h"
#include "common/base/mutex.h"
#include "proto/hello.pb.h"

namespace tarn::client {

class ChunkOperation;
using ChunkOperationPtr = std::shared_ptr<ChunkOperation>;

// The connections to a chunk server on one way. Reads and everything else go over connections of their own, so that a
// small read does not wait behind megabytes of writes.
struct ServerLinks {
  std::vector<std::shared_ptr<ServerLink>>
      reads;  // one for each loop, so that the loop that asks also hears the answer
  std::shared_ptr<ServerLink> writes;

  std::vector<std::shared_ptr<ServerLink>> all() const {
    std::vector<std::shared_ptr<ServerLink>> links = reads;
    links.push_back(writes);
    return links;
  }
};

// One chunk server. Immutable but for what its parts guard.
struct ChunkServer {
  std::string address;
  ServerLinks direct;
  ServerLinks relayed;  // through another server, whichever is chosen when they are made
  ServerReach reach;
  std::atomic<uint32_t> relay_turn{0};  // rises when the other server did not get there either
  ServerHealth health;
  std::atomic<int64_t> left_at_ns{0};  // when a newer map made another server primary of one of its groups
};

// Thread-safe.
class ChunkClient::Core : public std::enable_shared_from_this<ChunkClient::Core> {
 public:
  Core(const ChunkClientOptions& client_options, std::vector<rpc::EventLoop*> event_loops,
       std::shared_ptr<MetadataGate> metadata_gate, std::shared_ptr<const Clock> system_clock);

  // By the newest map. Null once closed.
  std::shared_ptr<const PlacementRoutes> Routes();
  // Asks for a newer map, at most every few hundred ms; what waits goes on at once when there is one.
  void WantNewerMap();
  // Null once closed. Nothing is connected before its first use.
  std::shared_ptr<ChunkServer> ServerAt(const std::string& address);
  SessionId Session();
  // Where the next request to a server goes: directly, or through another server.
  static const ServerLinks& LinksTo(const ChunkServer& server, int64_t now_ns) {
    return server.reach.WantsRelay(now_ns) ? server.relayed : server.direct;
  }
  // It is silent, or a connection to it broke: unless it was done just now, it is asked for a sign of life.
  void DoubtServer(const std::shared_ptr<ChunkServer>& server);
  // An answer came over one of its direct connections.
  void NoteDirectAnswer(ChunkServer& server);
  // The index of the calling loop, or of any if the caller is on none.
  size_t LoopForRead();

  // Lets a write begin, now or when there is room for it at its server (the operation is then queued and started
  // later).
  bool AdmitWrite(const std::string& address, uint64_t bytes, const ChunkOperationPtr& operation);
  // A write that was admitted is over, or goes to another server; starts those that fit now.
  void LeaveWrite(const std::string& address, uint64_t bytes);

  uint64_t BeginSequence(GroupId group);
  void EndSequence(GroupId group, uint64_t sequence);
  // The same for a write that failed, of which a copy may still be on its way to a server. `done` runs, perhaps at once,
  // when all earlier numbers are over as well: every later request of the group then says that this one is, and so the
  // copy is refused.
  void EndUncertainSequence(GroupId group, uint64_t sequence, std::function<void()> done);
  uint64_t AckedThrough(GroupId group);

  // An operation that waits for time to pass or for a map is parked; whoever unparks it (true) goes on with it.
  // False if the client is closed: it was not parked.
  bool Park(const ChunkOperationPtr& operation);
  bool Unpark(const ChunkOperationPtr& operation);

  // While calls other than reads of several copies are under way: looks for servers that are silent, whether others
  // have taken over, and whether those that are not reached directly are again.
  void WatchServers();

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

  // Thread-safe.
  HedgePolicy hedges;
  std::atomic<uint32_t> source_checks_under_way{0};
  ChunkClient::Counters counters;
  std::atomic<bool> has_elastic_targets{true};  // by the newest routes; before the first read there are none, and it may be

  // Each touched by its loop's thread only.
  std::vector<std::shared_ptr<SlowReadWatch>> slow_reads;

 private:
  struct WriteGate {
    uint64_t bytes = 0;
    uint32_t writes = 0;
    std::deque<std::pair<ChunkOperationPtr, uint64_t>> waiting;
  };
  struct GroupWrites {
    GroupSequences numbers;
    std::multimap<uint64_t, std::function<void()>> uncertain;  // failed, and waiting for what is before them
  };
  bool HasRoom(const WriteGate& gate, uint64_t bytes) const;
  void OnNewRoutes(const PlacementRoutes& older, const PlacementRoutes& newer);
  void ScheduleWatch();
  void LookAtServers();
  struct Look {
    bool busy = false;
    bool silent = false;
  };
  Look LookAtServer(const std::shared_ptr<ChunkServer>& server, int64_t now_ns);
  void OnProbed(const std::shared_ptr<ChunkServer>& server, int64_t began_ns, bool is_reached);
  // Null once closed.
  std::optional<proto::HelloRequest> MakeHello();
  std::shared_ptr<ServerLink> MakeDirectLink(const std::string& address, const proto::HelloRequest& hello,
                                             rpc::EventLoop* loop, int64_t unacknowledged_ms_max);
  std::shared_ptr<ServerLink> MakeRelayedLink(const std::shared_ptr<ChunkServer>& server,
                                              const proto::HelloRequest& hello, rpc::EventLoop* loop,
                                              int64_t unacknowledged_ms_max);
  // Null: nobody else is reached.
  std::shared_ptr<rpc::FrameClient> MakeRelayClient(const std::shared_ptr<ChunkServer>& server,
                                                    const proto::HelloRequest& hello, rpc::EventLoop* loop,
                                                    int64_t unacknowledged_ms_max);
  std::optional<std::string> ChooseRelay(const ChunkServer& server);

  std::atomic<bool> closed_{false};
  std::atomic<bool> watching_{false};
  std::atomic<size_t> next_loop_{0};

  Mutex mutex_;
  std::shared_ptr<const proto::ClusterMap> map_ GUARDED_BY(mutex_);  // what routes_ was made from
  std::shared_ptr<const PlacementRoutes> routes_ GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<ChunkServer>, std::less<>> servers_ GUARDED_BY(mutex_);
  std::map<std::string, WriteGate, std::less<>> write_gates_ GUARDED_BY(mutex_);
  std::unordered_map<GroupId, GroupWrites> sequences_ GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<rpc::FrameClient>> probes_ GUARDED_BY(mutex_);  // under way
  std::unordered_set<ChunkOperationPtr> parked_ GUARDED_BY(mutex_);
  int64_t map_wanted_ns_ GUARDED_BY(mutex_) = 0;  // when a newer map was last asked for; 0: never
  bool map_under_way_ GUARDED_BY(mutex_) = false;

  // Counted without a lock, since every read does it; only the last one after Close has somebody to tell.
  std::atomic<uint64_t> operations_{0};
  Mutex operations_mutex_;
  CondVar operations_over_;
};

}  // namespace tarn::client
