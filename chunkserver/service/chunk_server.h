// A chunk server: the stores of its targets, the data service in front of them, and the link to the metadata server.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "chunkserver/service/cluster_view.h"
#include "chunkserver/service/data_service.h"
#include "chunkserver/service/metadata_link.h"
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
  ChunkServer() = default;
  void StopServing();

  // In the order of their making; each uses those above it.
  uint64_t incarnation_ = 0;
  std::atomic<bool> serving_ = false;  // requests that come before the service is there are refused
  std::unique_ptr<TargetSet> targets_;
  std::unique_ptr<ClusterView> view_;
  std::shared_ptr<BufferPool> buffers_;
  std::unique_ptr<rpc::EventLoop> loop_;
  std::unique_ptr<WriteBudget> write_budget_;
  std::unique_ptr<MetadataLink> link_;
  std::unique_ptr<DataService> service_;
  std::unique_ptr<rpc::FrameServer> frames_;
};

}  // namespace tarn::chunk
