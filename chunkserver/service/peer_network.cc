#include "chunkserver/service/peer_network.h"

#include <vector>

#include "proto/types.pb.h"

namespace tarn::chunk {
namespace {

constexpr int64_t kConnectTimeoutMs = 1'000;
// More servers than any map has had for long: then those that are gone from it are forgotten.
constexpr size_t kConnectionsMax = 1'024;

}  // namespace

FramePeerNetwork::FramePeerNetwork(const ClusterView* view, rpc::EventLoop* loop, const Clock* clock, std::function<proto::HelloRequest()> hello)
    : view_(view), loop_(loop), clock_(clock), hello_(std::move(hello)) {}

FramePeerNetwork::~FramePeerNetwork() { Close(); }

FramePeerNetwork::Lane FramePeerNetwork::LaneOf(rpc::Method method) {
  switch (method) {
    case rpc::Method::kReplicate:
    case rpc::Method::kInstallChunk:
    case rpc::Method::kChunkSums:
    case rpc::Method::kInventory:
    case rpc::Method::kReadChunk: return Lane::kData;
    case rpc::Method::kRelay: return Lane::kRelayed;
    default: return Lane::kControl;
  }
}

void FramePeerNetwork::Call(TargetId to, rpc::Method method, const google::protobuf::MessageLite& request, std::span<const uint8_t> payload,
                            int64_t timeout_ms, replication::PeerCallback callback) {
  const std::string address = view_->groups()->AddressOf(to);
  std::shared_ptr<rpc::FrameClient> client;
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    if (!address.empty()) client = ClientOf({address, LaneOf(method)});
    if (client == nullptr) {
      Status failure(StatusCode::kUnavailable, address.empty() ? "target " + std::to_string(to.value()) + " is not in the cluster map"
                                                               : "the connection to " + address + " has just failed");
      loop_->Post([callback = std::move(callback), failure = std::move(failure)] { callback({.status = failure, .message = {}, .payload = {}}); });
      return;
    }
  }
  client->Call(method, request, {.timeout_ms = timeout_ms, .payload = payload, .payload_destination = {}},
               [callback = std::move(callback)](const rpc::Reply& reply) {
                 replication::PeerReply answer{.status = reply.status, .message = reply.message, .payload = reply.payload};
                 if (reply.status.code() == StatusCode::kStaleEpoch) answer.map_version = rpc::ParseErrorDetail(reply).map_version();
                 callback(answer);
               });
}

std::shared_ptr<rpc::FrameClient> FramePeerNetwork::ClientOf(const Key& key) {
  const int64_t now_ms = clock_->MonotonicMs();
  if (connections_.size() >= kConnectionsMax && !connections_.contains(key)) {
    std::erase_if(connections_, [](const auto& each) { return !each.second.client->usable(); });
  }
  Connection& connection = connections_[key];
  if (connection.client != nullptr) {
    if (connection.client->usable()) return connection.client;
    if (now_ms - connection.made_ms < kRemakePauseMs) return nullptr;
  }
  rpc::FrameClientOptions options;
  options.address = key.first;
  options.connect_timeout_ms = kConnectTimeoutMs;
  connection = {.client = rpc::FrameClient::Create(loop_, options, hello_()), .made_ms = now_ms};
  return connection.client;
}

void FramePeerNetwork::Close() {
  std::map<Key, Connection> connections;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    connections.swap(connections_);
  }
  for (const auto& [key, connection] : connections) connection.client->Close();
}

}  // namespace tarn::chunk
