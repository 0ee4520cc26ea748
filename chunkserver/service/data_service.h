// The data protocol (proto/data.proto): answers reads, writes, truncations and commits of the targets of this server.
//
// Reads that are in the page cache are answered on the connection's loop thread, small ones by copying, large ones with sendfile(2). What lies on
// the disk is brought by the loop's io_uring, so that no other thread has to be woken, as long as the target's disk answers; everything else that
// may wait for the disk, and all of it where there is no io_uring, goes to a bounded pool of workers. Whether this copy may answer, and every change, is up to the target's replication. A request for a group whose map
// is not here yet waits for one refresh of the map.
#pragma once

#include <atomic>
#include <memory>

#include "chunkserver/service/cluster_view.h"
#include "chunkserver/service/metadata_link.h"
#include "chunkserver/service/target_set.h"
#include "chunkserver/service/write_budget.h"
#include "chunkserver/store/chunk_store.h"
#include "common/base/buffer_pool.h"
#include "common/rpc/frame_server.h"
#include "proto/data.pb.h"

namespace tarn::chunk {

// Everything outlives the service and its last request.
struct DataServiceParts {
  TargetSet* targets = nullptr;
  ClusterView* view = nullptr;
  MetadataLink* link = nullptr;
  BufferPool* buffers = nullptr;
  WriteBudget* write_budget = nullptr;
  uint64_t incarnation = 0;
  bool may_use_io_uring = true;
};

// Thread-safe.
class DataService {
 public:
  explicit DataService(const DataServiceParts& parts) : parts_(parts) {}

  void Handle(rpc::Request request, std::unique_ptr<rpc::Responder> responder);

 private:
  // Shared, since the tasks that carry it are copyable functions; answered once all the same.
  using ResponderPtr = std::shared_ptr<rpc::Responder>;
  struct WritePayload {
    std::unique_ptr<WriteBudget::Share> share;
    Buffer bytes;
  };

  // A read, as far as it has been parsed.
  struct ReadCall {
    store::ReadRequest request;
    GroupId group;
    Epoch epoch;
    bool verify_at_source = false;
    bool primary_is_silent = false;
    rpc::EventLoop* loop = nullptr;  // of the connection
  };

  // Runs `serve` when the address fits to the map (perhaps after a refresh), else answers why not.
  void WithCurrentGroup(const proto::ChunkAddress& address, const ResponderPtr& responder, std::function<void(HostedTarget&)> serve);
  // The target if it can be served, else null and the request is answered.
  HostedTarget* FindOrFail(TargetId id, rpc::Responder& responder);
  static void OnWorker(HostedTarget& target, const ResponderPtr& responder, std::function<void()> work);

  void HandleRead(const rpc::Request& request, const ResponderPtr& responder);
  void ReadElastic(const proto::ReadChunkRequest& message, const ResponderPtr& responder);
  void ReadAdmitted(HostedTarget& target, const ReadCall& read, const ResponderPtr& responder);
  void Read(HostedTarget& target, const ReadCall& read, const ResponderPtr& responder);
  // On a connection's loop: answers at once from memory, or later from the disk. False: a worker has to do it.
  bool ReadOnLoop(HostedTarget& target, const ReadCall& read, const ResponderPtr& responder);
  bool ReadFromDisk(HostedTarget& target, const ReadCall& read, store::ReadPlan plan, Buffer bytes, const ResponderPtr& responder);
  void ReadOnWorker(HostedTarget& target, const store::ReadRequest& read, const ResponderPtr& responder);
  void ReadBlocking(HostedTarget& target, const store::ReadRequest& read, const ResponderPtr& responder);
  // What is damaged is first brought back from another copy, if there is one.
  void ReadVerified(HostedTarget& target, const ReadCall& read, bool may_repair, const ResponderPtr& responder);
  void AdmitWrite(const std::shared_ptr<proto::WriteChunkRequest>& request, Buffer payload, const ResponderPtr& responder);
  void Write(HostedTarget& target, const std::shared_ptr<proto::WriteChunkRequest>& request, std::shared_ptr<WritePayload> payload,
             const ResponderPtr& responder);
  void Truncate(HostedTarget& target, const std::shared_ptr<proto::TruncateChunkRequest>& request, const ResponderPtr& responder);
  void Commit(const proto::CommitTargetRequest& request, const ResponderPtr& responder);
  static void ListData(HostedTarget& target, const proto::ListDataRequest& request, rpc::Responder& responder);
  void StatData(HostedTarget& target, const proto::StatDataRequest& request, const ResponderPtr& responder);

  const DataServiceParts parts_;
  std::atomic<bool> io_uring_refused_{false};  // and logged
};

}  // namespace tarn::chunk
