#include "chunkserver/service/leader_connection.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/rpc/frame_client.h"
#include "common/rpc/grpc_status.h"
#include "common/rpc/leader_hint.h"
#include "proto/cluster.grpc.pb.h"
#include "proto/hello.pb.h"

namespace tarn::chunk {
namespace {

constexpr int64_t kCallTimeoutMs = 5'000;
constexpr int64_t kConnectTimeoutMs = 3'000;
// Where there is another server to go to. A silent leader must not use up the targets' lease (docs/replication.md, "Leases").
constexpr int64_t kShortCallTimeoutMs = 1'000;
constexpr int64_t kShortConnectTimeoutMs = 500;
constexpr int kHintsMax = 3;
constexpr size_t kAddressesMax = 32;

}  // namespace

// Keeps gRPC out of the header.
class LeaderConnection::Stub {
 public:
  Stub(const std::string& address, int64_t call_timeout_ms) : stub_(proto::ClusterService::NewStub(Channel(address))), call_timeout_ms_(call_timeout_ms) {}

  template <typename Method>
  Status Call(Method method) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(call_timeout_ms_));
    const grpc::Status status = method(stub_.get(), &context);
    leader_hint_ = rpc::LeaderHint(status);
    return rpc::FromGrpcStatus(status);
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

  const std::unique_ptr<proto::ClusterService::Stub> stub_;
  const int64_t call_timeout_ms_;
  std::string leader_hint_;
};

LeaderConnection::LeaderConnection(LeaderConnectionOptions options, rpc::EventLoop* loop)
    : options_(std::move(options)), loop_(loop), addresses_(options_.metaservers) {}

LeaderConnection::~LeaderConnection() = default;

Status LeaderConnection::Connect() {
  if (stub_ != nullptr) return Status::Ok();
  const std::string address = addresses_[next_address_++ % addresses_.size()];
  const bool has_others = addresses_.size() > 1;
  proto::HelloRequest hello;
  hello.set_role(proto::PEER_ROLE_CHUNKSERVER);
  hello.set_peer_name(options_.peer_name);
  rpc::FrameClientOptions client_options;
  client_options.address = address;
  const auto client = rpc::FrameClient::Create(loop_, client_options, hello);
  const Status reached = client->CallAndWait(rpc::Method::kPing, proto::HelloRequest(), nullptr, has_others ? kShortConnectTimeoutMs : kConnectTimeoutMs);
  const proto::HelloReply reply = client->hello_reply();
  client->Close();
  if (!reached.ok()) {
    if (!std::exchange(told_unreachable_, true)) spdlog::warn("metadata server is not reachable address={} reason=\"{}\"", address, reached.message());
    return Status(StatusCode::kUnavailable, reached.message());
  }
  if (Status fits = options_.check_cluster(reply.cluster_id(), address); !fits.ok()) {
    // One of several may have been set up anew by mistake, and the others be right.
    if (!has_others) return fits;
    if (!std::exchange(told_unreachable_, true)) spdlog::error("a metadata server is passed over: {}", fits.message());
    return Status(StatusCode::kUnavailable, fits.message());
  }
  stub_ = std::make_unique<Stub>(reply.grpc_address(), has_others ? kShortCallTimeoutMs : kCallTimeoutMs);
  return Status::Ok();
}

void LeaderConnection::Learn(const proto::ClusterMap& map) {
  for (const proto::MetaserverMember& member : map.metaservers()) {
    const bool known = std::find(addresses_.begin(), addresses_.end(), member.address()) != addresses_.end();
    if (!known && !member.address().empty() && addresses_.size() < kAddressesMax) addresses_.push_back(member.address());
  }
}

Status LeaderConnection::RegisterServer(const proto::RegisterServerRequest& request, proto::RegisterServerReply* reply) {
  return Answered(stub_->Call([&](auto* stub, grpc::ClientContext* context) { return stub->RegisterServer(context, request, reply); }));
}

Status LeaderConnection::Heartbeat(const proto::HeartbeatRequest& request, proto::HeartbeatReply* reply) {
  return Answered(stub_->Call([&](auto* stub, grpc::ClientContext* context) { return stub->Heartbeat(context, request, reply); }));
}

Status LeaderConnection::ReportGroups(const proto::ReportGroupsRequest& request, proto::ReportGroupsReply* reply) {
  return Answered(stub_->Call([&](auto* stub, grpc::ClientContext* context) { return stub->ReportGroups(context, request, reply); }));
}

Status LeaderConnection::Answered(Status status) {
  if (!status.ok()) return status;
  hints_followed_ = 0;
  if (std::exchange(told_unreachable_, false)) spdlog::info("metadata server answers again");
  return status;
}

bool LeaderConnection::Redirect(const Status& failure) {
  const std::string hint = stub_->leader_hint();
  stub_.reset();
  if (!hint.empty() && hints_followed_++ < kHintsMax) {
    stub_ = std::make_unique<Stub>(hint, kShortCallTimeoutMs);
    return true;
  }
  hints_followed_ = 0;
  if (!std::exchange(told_unreachable_, true)) spdlog::warn("metadata server does not answer reason=\"{}\"", failure.message());
  return false;
}

}  // namespace tarn::chunk
