#include "chunkserver/service/chunk_server.h"

#include <unistd.h>

#include <utility>

#include "proto/hello.pb.h"

namespace tarn::chunk {
namespace {

constexpr size_t kPooledBytesMax = 64u << 20;
// Of payloads that wait for the disk, of all connections together: four of them at full stretch. More are refused and come again.
constexpr uint64_t kWriteBytesHeldMax = 4 * rpc::kUnansweredBytesMax;

}  // namespace

Result<std::unique_ptr<ChunkServer>> ChunkServer::Start(const ChunkServerOptions& options, const store::StoreEnvironment& environment) {
  std::unique_ptr<ChunkServer> server(new ChunkServer());
  server->incarnation_ = environment.random->NextNonZero();
  ASSIGN_OR_RETURN(server->targets_, TargetSet::Open(options.targets, environment));
  server->view_ = std::make_unique<ClusterView>(server->targets_.get(), [](const ClusterView::MapPtr&) {});
  server->buffers_ = BufferPool::Create(kPooledBytesMax);
  ASSIGN_OR_RETURN(server->loop_, rpc::EventLoop::Start("metadata-link"));
  server->write_budget_ = std::make_unique<WriteBudget>(kWriteBytesHeldMax);

  rpc::FrameServerOptions frame_options;
  frame_options.listen = options.listen;
  frame_options.loop_threads = options.loop_threads;
  frame_options.thread_name = "data";
  frame_options.buffers = server->buffers_;
  // The port is taken before the link tells anyone of it; no request passes before the link has a map.
  ChunkServer* raw = server.get();
  const auto hello = [raw, version = options.software_version](const proto::HelloRequest& request, proto::HelloReply* reply) {
    const ServerIdentity identity = raw->targets_->identity();
    if (!request.cluster_id().empty() && !identity.cluster_id.empty() && request.cluster_id() != identity.cluster_id) {
      return Status(StatusCode::kPermission, "this chunk server belongs to another cluster");
    }
    reply->set_role(proto::PEER_ROLE_CHUNKSERVER);
    reply->set_cluster_id(identity.cluster_id);
    reply->set_server_id(identity.server.value());
    reply->set_incarnation(raw->incarnation_);
    reply->set_software_version(version);
    return Status::Ok();
  };
  const auto handle = [raw](rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
    if (!raw->serving_) return responder->Fail(Status(StatusCode::kUnavailable, "the chunk server is starting"));
    raw->service_->Handle(std::move(request), std::move(responder));
  };
  ASSIGN_OR_RETURN(server->frames_, rpc::FrameServer::Start(frame_options, hello, handle));

  MetadataLinkOptions link_options;
  link_options.metaservers = options.metaservers;
  link_options.advertise = options.advertise.empty() ? server->frames_->address() : options.advertise;
  link_options.node = options.node;
  link_options.zone = options.zone;
  link_options.software_version = options.software_version;
  link_options.incarnation = server->incarnation_;
  link_options.pid = static_cast<uint64_t>(getpid());
  link_options.on_registered = [] {};
  link_options.on_lease = [](int64_t, int64_t) {};
  link_options.on_failure = options.on_failure;
  server->link_ = MetadataLink::Start(std::move(link_options), server->targets_.get(), server->view_.get(), server->loop_.get(), environment.clock);
  server->service_ = std::make_unique<DataService>(DataServiceParts{.targets = server->targets_.get(),
                                                                    .view = server->view_.get(),
                                                                    .link = server->link_.get(),
                                                                    .buffers = server->buffers_.get(),
                                                                    .write_budget = server->write_budget_.get(),
                                                                    .incarnation = server->incarnation_});
  server->serving_ = true;
  return server;
}

// The link may still run requests that waited for a map, and those go to the workers: so the source of requests ends first, then the link, then the workers.
void ChunkServer::StopServing() {
  frames_.reset();
  link_.reset();
  targets_->StopWorkers();
  service_.reset();
}

ChunkServer::~ChunkServer() {
  if (targets_ != nullptr) StopServing();
}

Status ChunkServer::Stop() {
  StopServing();
  return targets_->Close();
}

}  // namespace tarn::chunk
