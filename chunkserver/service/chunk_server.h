// A chunk server: its targets, the services in front of them, the link to the metadata server and the connections to other chunk servers.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "chunkserver/service/group_survey.h"
#include "chunkserver/service/cluster_view.h"
#include "chunkserver/service/data_service.h"
#include "chunkserver/service/group_reporter.h"
#include "chunkserver/service/metadata_link.h"
#include "chunkserver/service/peer_network.h"
#include "chunkserver/service/peer_service.h"
#include "chunkserver/service/relay_service.h"
#include "chunkserver/service/target_set.h"
#include "chunkserver/store/chunk_store.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_server.h"

namespace tarn::chunk {

struct ChunkServerOptions {
  TargetSetOptions targets;
  std::string listen;
  std::string advertise;  // empty: the address it listens on
  std::vector<std::string> metaservers;
  std::string node;
  std::string zone;
  std::string software_version;
  uint32_t loop_threads = 1;
  bool may_use_io_uring = true;  // for reads of what is not in memory
  uint32_t change_threads = 8;  // for each target: writes of clients and of other members, copies
  replication::ReplicationOptions replication;
  GroupSurveyOptions survey;
  int64_t fault_delay_ms = 0;  // of kFaultDelayAnswer
  std::function<void(Status)> on_failure;  // see MetadataLinkOptions
};

// Thread-safe.
class ChunkServer {
 public:
  // Opens the stores, listens, and begins to register. Refusals are one line that names the file or the address.
  static Result<std::unique_ptr<ChunkServer>> Start(const ChunkServerOptions& options, const store::StoreEnvironment& environment);
  // As after a crash, but that no thread is left.
  ~ChunkServer();
  ChunkServer(const ChunkServer&) = delete;
  ChunkServer& operator=(const ChunkServer&) = delete;

  // Stops serving and closes the stores cleanly. Once.
  Status Stop();
  const std::string& address() const { return frames_->address(); }

 private:
  ChunkServer(const ChunkServerOptions& options, const store::StoreEnvironment& environment);
  Status Listen();
  void MakeLink();
  void Handle(rpc::Request request, std::unique_ptr<rpc::Responder> responder);
  Status AnswerHello(const proto::HelloRequest& request, proto::HelloReply* reply) const;
  // On the link's thread, when the targets have their ids.
  void StartReplication();
  void StopServing();

  const ChunkServerOptions options_;
  const store::StoreEnvironment environment_;
  const Incarnation incarnation_;
  std::atomic<bool> serving_ = false;  // requests that come before everything is there are refused

  // In the order of their making; each uses those above it. StopServing ends them.
  std::unique_ptr<TargetSet> targets_;
  std::unique_ptr<GroupSurvey> survey_;
  std::unique_ptr<ClusterView> view_;
  std::shared_ptr<BufferPool> buffers_;
  WriteBudget write_budget_;
  WriteBudget peer_budget_;
  std::unique_ptr<rpc::EventLoop> link_loop_;  // connections to metadata servers
  std::unique_ptr<rpc::EventLoop> peer_loop_;  // connections to other chunk servers, timers of replication
  std::unique_ptr<rpc::FrameServer> frames_;
  std::unique_ptr<MetadataLink> link_;
  std::unique_ptr<GroupReporter> reporter_;
  std::unique_ptr<FramePeerNetwork> network_;
  std::unique_ptr<PeerService> peer_service_;
  std::unique_ptr<DataService> service_;
  std::unique_ptr<RelayService> relay_;
};

}  // namespace tarn::chunk
