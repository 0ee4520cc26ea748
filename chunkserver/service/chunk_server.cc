#include "chunkserver/service/chunk_server.h"

#include <unistd.h>

#include <utility>

#include "chunkserver/service/delayed_responder.h"
#include "chunkserver/service/target_executor.h"
#include "proto/hello.pb.h"

namespace tarn::chunk {
namespace {

constexpr size_t kPooledBytesMax = 64u << 20;
// Of payloads that wait for the disk or for other members, of all connections together: four of them at full stretch. More are refused and
// come again. Clients and chunk servers have as much each.
constexpr uint64_t kWriteBytesHeldMax = 4 * rpc::kUnansweredBytesMax;

}  // namespace

ChunkServer::ChunkServer(const ChunkServerOptions& options, const store::StoreEnvironment& environment)
    : options_(options),
      environment_(environment),
      incarnation_(environment.random->NextNonZero()),
      buffers_(BufferPool::Create(kPooledBytesMax)),
      write_budget_(kWriteBytesHeldMax),
      peer_budget_(kWriteBytesHeldMax) {}

Result<std::unique_ptr<ChunkServer>> ChunkServer::Start(const ChunkServerOptions& options, const store::StoreEnvironment& environment) {
  std::unique_ptr<ChunkServer> server(new ChunkServer(options, environment));
  TargetSetOptions targets = options.targets;
  ASSIGN_OR_RETURN(server->targets_, TargetSet::Open(targets, environment));
  server->survey_ = std::make_unique<GroupSurvey>(server->targets_.get(), environment.clock, options.survey);
  server->view_ = std::make_unique<ClusterView>(server->targets_.get(), [raw = server.get()](const ClusterView::MapPtr& map) {
    raw->survey_->SetMap(map);
    raw->targets_->AdoptMap(map);
  });
  ASSIGN_OR_RETURN(server->link_loop_, rpc::EventLoop::Start("metadata-link"));
  ASSIGN_OR_RETURN(server->peer_loop_, rpc::EventLoop::Start("peers"));
  // The port is taken before the link tells anyone of it; no request passes before the services are there.
  RETURN_IF_ERROR(server->Listen());
  server->MakeLink();
  server->network_ = std::make_unique<FramePeerNetwork>(server->view_.get(), server->peer_loop_.get(), environment.clock, [raw = server.get()] {
    proto::HelloRequest hello;
    hello.set_role(proto::PEER_ROLE_CHUNKSERVER);
    hello.set_peer_name("tarn-chunkserver " + raw->address());
    hello.set_cluster_id(raw->targets_->identity().cluster_id);
    return hello;
  });
  for (const auto& target : server->targets_->targets()) {
    if (!options.targets.elastic || target->workers() == nullptr) continue;
    target->StartElastic(server->network_.get(), server->buffers_.get(), environment.clock, [link = server->link_.get()](uint64_t version) { link->WantMap(version); });
  }
  server->peer_service_ = std::make_unique<PeerService>(server->targets_.get(), &server->peer_budget_, environment.faults, server->survey_.get());
  server->service_ = std::make_unique<DataService>(DataServiceParts{.targets = server->targets_.get(),
                                                                    .view = server->view_.get(),
                                                                    .link = server->link_.get(),
                                                                    .buffers = server->buffers_.get(),
                                                                    .write_budget = &server->write_budget_,
                                                                    .incarnation = server->incarnation_.value(),
                                                                    // Faults are those of the threads' way.
                                                                    .may_use_io_uring = options.may_use_io_uring && !environment.faults->armed()});
  server->relay_ = std::make_unique<RelayService>(RelayServiceParts{
      .targets = server->targets_.get(),
      .network = server->network_.get(),
      .buffers = server->buffers_.get(),
      .clock = environment.clock,
      .incarnation = server->incarnation_,
      .serve = [service = server->service_.get()](rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
        service->Handle(std::move(request), std::move(responder));
      }});
  server->serving_ = true;
  server->link_->Start();
  return server;
}

Status ChunkServer::Listen() {
  rpc::FrameServerOptions options;
  options.listen = options_.listen;
  options.loop_threads = options_.loop_threads;
  options.thread_name = "data";
  options.buffers = buffers_;
  ASSIGN_OR_RETURN(frames_, rpc::FrameServer::Start(
                                options, [this](const proto::HelloRequest& request, proto::HelloReply* reply) { return AnswerHello(request, reply); },
                                [this](rpc::Request request, std::unique_ptr<rpc::Responder> responder) { Handle(std::move(request), std::move(responder)); }));
  return Status::Ok();
}

Status ChunkServer::AnswerHello(const proto::HelloRequest& request, proto::HelloReply* reply) const {
  const ServerIdentity identity = targets_->identity();
  if (!request.cluster_id().empty() && !identity.cluster_id.empty() && request.cluster_id() != identity.cluster_id) {
    return Status(StatusCode::kPermission, "this chunk server belongs to another cluster");
  }
  reply->set_role(proto::PEER_ROLE_CHUNKSERVER);
  reply->set_cluster_id(identity.cluster_id);
  reply->set_server_id(identity.server.value());
  reply->set_incarnation(incarnation_.value());
  reply->set_software_version(options_.software_version);
  return Status::Ok();
}

void ChunkServer::Handle(rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
  if (!serving_) return responder->Fail(Status(StatusCode::kUnavailable, "the chunk server is starting"));
  if (environment_.faults->Fires(kFaultDelayAnswer)) {
    responder = std::make_unique<DelayedResponder>(std::move(responder), link_loop_.get(), options_.fault_delay_ms);
  }
  if (request.method == rpc::Method::kRelay) {
    relay_->Handle(std::move(request), std::move(responder));
  } else if (PeerService::Serves(request)) {
    peer_service_->Handle(std::move(request), std::move(responder));
  } else {
    service_->Handle(std::move(request), std::move(responder));
  }
}

void ChunkServer::MakeLink() {
  MetadataLinkOptions options;
  options.metaservers = options_.metaservers;
  options.advertise = options_.advertise.empty() ? frames_->address() : options_.advertise;
  options.node = options_.node;
  options.zone = options_.zone;
  options.software_version = options_.software_version;
  options.incarnation = incarnation_.value();
  options.pid = static_cast<uint64_t>(getpid());
  options.on_registered = [this] { StartReplication(); };
  options.on_lease = [this](int64_t sent_ns, int64_t lease_ms) { targets_->ExtendLeases(sent_ns, lease_ms); };
  options.on_start_scrub = [this] { targets_->StartScrub(); };
  options.add_to_report = [this](proto::TargetReport* report) { survey_->FillReport(report); };
  options.on_heartbeat = [this](const proto::HeartbeatReply& reply) { survey_->Step(reply.remove_leftovers()); };
  options.on_failure = options_.on_failure;
  link_ = std::make_unique<MetadataLink>(std::move(options), targets_.get(), view_.get(), link_loop_.get(), environment_.clock);

  GroupReporterOptions reporter;
  reporter.leader.metaservers = options_.metaservers;
  reporter.leader.peer_name = "tarn-chunkserver " + frames_->address() + " reports";
  reporter.leader.check_cluster = [this](const std::string& cluster_id, const std::string& address) { return link_->CheckCluster(cluster_id, address); };
  reporter.incarnation = incarnation_.value();
  reporter.want_map = [this](uint64_t version) { link_->WantMap(version); };
  reporter_ = std::make_unique<GroupReporter>(std::move(reporter), targets_.get(), view_.get(), link_loop_.get(), environment_.clock);
}

void ChunkServer::StartReplication() {
  for (const auto& target : targets_->targets()) {
    if (target->store() == nullptr || !target->id().valid() || target->replication() != nullptr) continue;
    auto executor = std::make_unique<TargetExecutor>(options_.change_threads, peer_loop_.get(), environment_.clock);
    auto engine = replication::TargetReplication::Create(options_.replication, target->id(), target->store(), network_.get(), reporter_.get(), executor.get());
    engine->SetIncarnation(incarnation_);
    target->StartReplication(std::move(executor), std::move(engine));
  }
}

// First what brings requests and maps, then what they wait for; then the threads that still run their tasks and callbacks; and only when no
// such can come any more, what these would have used.
void ChunkServer::StopServing() {
  frames_.reset();
  if (link_ != nullptr) link_->Stop();
  if (reporter_ != nullptr) reporter_->Stop();
  targets_->StopReplication();
  if (network_ != nullptr) network_->Close();
  targets_->StopWorkers();
  peer_loop_.reset();
  link_loop_.reset();
  targets_->EndReplication();
}

ChunkServer::~ChunkServer() {
  if (targets_ != nullptr) StopServing();
}

Status ChunkServer::Stop() {
  StopServing();
  return targets_->Close();
}

}  // namespace tarn::chunk
