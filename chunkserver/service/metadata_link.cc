#include "chunkserver/service/metadata_link.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/base/named_thread.h"
#include "common/rpc/frame_client.h"
#include "common/rpc/grpc_status.h"
#include "common/rpc/leader_hint.h"
#include "proto/cluster.grpc.pb.h"
#include "proto/hello.pb.h"

namespace tarn::chunk {
namespace {

constexpr int64_t kRetryPauseMs = 100;
constexpr int64_t kCallTimeoutMs = 5'000;
constexpr int64_t kConnectTimeoutMs = 3'000;
// Where there is another server to go to.
constexpr int64_t kShortCallTimeoutMs = 1'500;
constexpr int64_t kShortConnectTimeoutMs = 1'000;
constexpr int kHintsMax = 3;
constexpr size_t kAddressesMax = 32;

// What no retry mends: the directory is not this cluster's, or the cluster does not know it.
bool IsFinal(const Status& status) {
  switch (status.code()) {
    case StatusCode::kPermission:
    case StatusCode::kNotPermitted:
    case StatusCode::kInvalidArgument:
    case StatusCode::kNotFound:
    case StatusCode::kExists:
    case StatusCode::kNotSupported:
    case StatusCode::kUnknownSession: return true;
    default: return false;
  }
}

}  // namespace

// Keeps gRPC out of the header.
class MetadataLinkStub {
 public:
  MetadataLinkStub(const std::string& address, int64_t call_timeout_ms) : stub_(proto::ClusterService::NewStub(Channel(address))), call_timeout_ms_(call_timeout_ms) {}

  Status RegisterServer(const proto::RegisterServerRequest& request, proto::RegisterServerReply* reply) {
    return Call([&](grpc::ClientContext* context) { return stub_->RegisterServer(context, request, reply); });
  }
  Status Heartbeat(const proto::HeartbeatRequest& request, proto::HeartbeatReply* reply) {
    return Call([&](grpc::ClientContext* context) { return stub_->Heartbeat(context, request, reply); });
  }
  // The gRPC address that the last refusal named; empty if none.
  const std::string& leader_hint() const { return leader_hint_; }

 private:
  // A connection of its own: a shared one that has failed makes everybody wait for its back-off.
  static std::shared_ptr<grpc::Channel> Channel(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  }
  template <typename Method>
  Status Call(Method method) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(call_timeout_ms_));
    const grpc::Status status = method(&context);
    leader_hint_ = rpc::LeaderHint(status);
    return rpc::FromGrpcStatus(status);
  }

  const std::unique_ptr<proto::ClusterService::Stub> stub_;
  const int64_t call_timeout_ms_;
  std::string leader_hint_;
};

std::unique_ptr<MetadataLink> MetadataLink::Start(MetadataLinkOptions options, store::ChunkStore* store, rpc::EventLoop* loop, const Clock* clock) {
  std::unique_ptr<MetadataLink> link(new MetadataLink(std::move(options), store, loop, clock));
  link->thread_ = StartNamedThread("metadata-link", [raw = link.get()] { raw->Run(); });
  return link;
}

MetadataLink::MetadataLink(MetadataLinkOptions options, store::ChunkStore* store, rpc::EventLoop* loop, const Clock* clock)
    : options_(std::move(options)), store_(store), loop_(loop), clock_(clock), addresses_(options_.metaservers), groups_(std::make_shared<GroupTable>()) {}

MetadataLink::~MetadataLink() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
  RunRefreshCallbacks();
}

std::shared_ptr<const GroupTable> MetadataLink::groups() const {
  MutexLock lock(mutex_);
  return groups_;
}

void MetadataLink::Refresh(std::function<void()> done) {
  MutexLock lock(mutex_);
  refresh_callbacks_.push_back(std::move(done));
  changed_.NotifyAll();
}

void MetadataLink::Run() {
  int64_t pause_ms = 0;
  while (WaitForNextRound(pause_ms)) {
    pause_ms = kRetryPauseMs;
    if (stub_ == nullptr && !Connect()) {
      RunRefreshCallbacks();
      continue;
    }
    const Status status = registered_ ? Heartbeat() : Register();
    RunRefreshCallbacks();
    if (status.ok()) {
      pause_ms = heartbeat_interval_ms_;
    } else if (registered_ && IsFinal(status)) {
      // A metadata server that restarted may have forgotten what registrations tell it.
      spdlog::info("registers again reason=\"{}\"", status.message());
      registered_ = false;
      pause_ms = 0;
    } else if (IsFinal(status)) {
      options_.on_failure(status);
      return;
    } else {
      FollowHint(status);
      if (stub_ != nullptr) pause_ms = 0;
    }
  }
}

void MetadataLink::FollowHint(const Status& status) {
  const std::string hint = stub_->leader_hint();
  stub_.reset();
  if (!hint.empty() && hints_followed_++ < kHintsMax) {
    stub_ = std::make_unique<MetadataLinkStub>(hint, kShortCallTimeoutMs);
    return;
  }
  hints_followed_ = 0;
  if (!std::exchange(reported_unreachable_, true)) spdlog::warn("metadata server does not answer reason=\"{}\"", status.message());
}

bool MetadataLink::WaitForNextRound(int64_t pause_ms) {
  MutexLock lock(mutex_);
  const int64_t until_ms = clock_->MonotonicMs() + pause_ms;
  while (!stop_ && (refresh_callbacks_.empty() || pause_ms == kRetryPauseMs)) {
    const int64_t left_ms = until_ms - clock_->MonotonicMs();
    if (left_ms <= 0) break;
    changed_.WaitFor(lock, std::chrono::milliseconds(left_ms));
  }
  return !stop_;
}

void MetadataLink::RunRefreshCallbacks() {
  std::vector<std::function<void()>> callbacks;
  {
    MutexLock lock(mutex_);
    callbacks.swap(refresh_callbacks_);
  }
  for (const auto& callback : callbacks) callback();
}

bool MetadataLink::Connect() {
  const std::string address = addresses_[next_address_++ % addresses_.size()];
  const bool has_others = addresses_.size() > 1;
  proto::HelloRequest hello;
  hello.set_role(proto::PEER_ROLE_CHUNKSERVER);
  hello.set_peer_name("tarn-chunkserver " + options_.advertise);
  rpc::FrameClientOptions client_options;
  client_options.address = address;
  const auto client = rpc::FrameClient::Create(loop_, client_options, hello);
  const Status status = client->CallAndWait(rpc::Method::kPing, proto::HelloRequest(), nullptr, has_others ? kShortConnectTimeoutMs : kConnectTimeoutMs);
  if (!status.ok()) {
    client->Close();
    if (!std::exchange(reported_unreachable_, true)) spdlog::warn("metadata server is not reachable address={} reason=\"{}\"", address, status.message());
    return false;
  }
  const proto::HelloReply reply = client->hello_reply();
  client->Close();
  if (Status fits = CheckCluster(reply.cluster_id(), address); !fits.ok()) {
    // One of several may have been set up anew by mistake, and the others be right.
    if (!has_others) {
      options_.on_failure(fits);
    } else if (!std::exchange(reported_unreachable_, true)) {
      spdlog::error("a metadata server is passed over: {}", fits.message());
    }
    return false;
  }
  stub_ = std::make_unique<MetadataLinkStub>(reply.grpc_address(), has_others ? kShortCallTimeoutMs : kCallTimeoutMs);
  return true;
}

Status MetadataLink::CheckCluster(const std::string& cluster_id, const std::string& address) {
  const store::TargetIdentity identity = store_->identity();
  if (identity.cluster_id.empty() || cluster_id.empty() || identity.cluster_id == cluster_id) return Status::Ok();
  return Status(StatusCode::kPermission, options_.directory + "/TARGET belongs to another cluster than the metadata server at " + address);
}

void MetadataLink::FillReport(proto::TargetReport* report) {
  report->set_id(store_->identity().target.value());
  report->set_clean_shutdown(store_->was_clean());
  report->set_checksum_errors(store_->metrics().checksum_errors);
  if (const Result<store::SpaceReport> space = store_->Space(); space.ok()) {
    report->set_capacity_bytes(space->capacity_bytes);
    report->set_used_bytes(space->used_bytes);
    report->set_available_bytes(space->available_bytes);
    report->set_chunk_count(space->chunk_count);
  } else {
    spdlog::error("space of the target is unknown: {}", space.status().ToString());
  }
}

Status MetadataLink::Register() {
  const store::TargetIdentity identity = store_->identity();
  proto::RegisterServerRequest request;
  request.set_cluster_id(identity.cluster_id);
  request.set_server_id(identity.server.value());
  request.set_incarnation(options_.incarnation);
  request.set_address(options_.advertise);
  request.set_node(options_.node);
  request.set_zone(options_.zone);
  request.set_software_version(options_.software_version);
  request.set_pid(options_.pid);
  FillReport(request.add_targets());
  proto::RegisterServerReply reply;
  RETURN_IF_ERROR(stub_->RegisterServer(request, &reply));
  if (reply.target_ids_size() != 1) return Status(StatusCode::kInternal, "the metadata server answered the registration without a target id");
  RETURN_IF_ERROR(store_->Adopt(reply.cluster_id(), ServerId(reply.server_id()), TargetId(reply.target_ids(0))));
  if (reply.heartbeat_interval_ms() > 0) heartbeat_interval_ms_ = reply.heartbeat_interval_ms();
  registered_ = true;
  reported_unreachable_ = false;
  hints_followed_ = 0;
  AdoptMap(reply.map());
  spdlog::info("registered server={} target={} map_version={}", reply.server_id(), reply.target_ids(0), reply.map().version());
  return Status::Ok();
}

Status MetadataLink::Heartbeat() {
  const store::TargetIdentity identity = store_->identity();
  proto::HeartbeatRequest request;
  request.set_cluster_id(identity.cluster_id);
  request.set_server_id(identity.server.value());
  request.set_incarnation(options_.incarnation);
  request.set_map_version(groups()->version());
  proto::TargetReport* report = request.add_targets();
  FillReport(report);
  std::vector<uint64_t> reclaimed;
  {
    MutexLock lock(mutex_);
    reclaimed = reclaimed_;
  }
  for (const uint64_t data : reclaimed) report->add_reclaimed_data_ids(data);
  proto::HeartbeatReply reply;
  RETURN_IF_ERROR(stub_->Heartbeat(request, &reply));
  {
    MutexLock lock(mutex_);
    reclaimed_.erase(reclaimed_.begin(), reclaimed_.begin() + static_cast<ptrdiff_t>(reclaimed.size()));
  }
  hints_followed_ = 0;
  if (std::exchange(reported_unreachable_, false)) spdlog::info("metadata server answers again");
  if (reply.has_map()) AdoptMap(reply.map());
  DeleteDead(reply);
  return Status::Ok();
}

void MetadataLink::AdoptMap(const proto::ClusterMap& map) {
  for (const proto::MetaserverMember& member : map.metaservers()) {
    const bool known = std::find(addresses_.begin(), addresses_.end(), member.address()) != addresses_.end();
    if (!known && !member.address().empty() && addresses_.size() < kAddressesMax) addresses_.push_back(member.address());
  }
  auto groups = std::make_shared<const GroupTable>(map, store_->identity().target);
  MutexLock lock(mutex_);
  if (groups->version() >= groups_->version()) groups_ = std::move(groups);
}

void MetadataLink::DeleteDead(const proto::HeartbeatReply& reply) {
  std::vector<DataId> dead;
  for (const proto::DeadData& entry : reply.dead_data()) {
    if (TargetId(entry.target()) != store_->identity().target) continue;
    for (const uint64_t data : entry.data_ids()) dead.emplace_back(data);
  }
  if (dead.empty()) return;
  Status status = store_->DeleteData(dead);
  // Reported only when it is durable: what is named again until then is deleted again, which does no harm.
  if (status.ok()) status = store_->Commit();
  if (!status.ok()) {
    spdlog::error("dead data stays for now count={} reason=\"{}\"", dead.size(), status.message());
    return;
  }
  MutexLock lock(mutex_);
  for (const DataId data : dead) reclaimed_.push_back(data.value());
}

}  // namespace tarn::chunk
