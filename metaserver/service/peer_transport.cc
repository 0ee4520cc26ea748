#include "metaserver/service/peer_transport.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <span>
#include <utility>

namespace tarn::meta {

struct PeerTransport::Shared : std::enable_shared_from_this<Shared> {
  struct Peer {
    std::string address;
    std::shared_ptr<rpc::FrameClient> client;
    uint64_t unanswered_bytes = 0;  // of all connections to it
    int64_t silent_until_ns = 0;    // no new connection before
    bool reported = false;          // that it cannot be reached
  };

  Shared(const PeerTransportOptions& transport_options, rpc::EventLoop* transport_loop, const Clock* transport_clock,
         AddressOf find_address, Removed on_removed)
      : options(transport_options),
        loop(transport_loop),
        clock(transport_clock),
        address_of(std::move(find_address)),
        removed(std::move(on_removed)) {}

  std::shared_ptr<rpc::FrameClient> ClientFor(uint64_t member, const std::string& address, size_t bytes);
  void OnAnswer(uint64_t member, const std::shared_ptr<rpc::FrameClient>& client, size_t bytes, const Status& status);
  void CloseAll();

  const PeerTransportOptions options;
  rpc::EventLoop* const loop;
  const Clock* const clock;
  const AddressOf address_of;
  const Removed removed;

  Mutex mutex;
  bool closed GUARDED_BY(mutex) = false;
  std::unordered_map<uint64_t, Peer> peers GUARDED_BY(mutex);
};

PeerTransport::PeerTransport(const PeerTransportOptions& options, rpc::EventLoop* loop, const Clock* clock,
                             AddressOf address_of, Removed removed)
    : shared_(std::make_shared<Shared>(options, loop, clock, std::move(address_of), std::move(removed))) {}

PeerTransport::~PeerTransport() { Close(); }

void PeerTransport::Close() { shared_->CloseAll(); }

void PeerTransport::Shared::CloseAll() {
  std::unordered_map<uint64_t, Peer> closing;
  {
    MutexLock lock(mutex);
    closed = true;
    closing.swap(peers);
  }
  for (auto& [member, peer] : closing) {
    if (peer.client != nullptr) peer.client->Close();
  }
}

// Null: the message is dropped. Else its bytes count as unanswered.
std::shared_ptr<rpc::FrameClient> PeerTransport::Shared::ClientFor(uint64_t member, const std::string& address,
                                                                   size_t bytes) {
  std::shared_ptr<rpc::FrameClient> left;
  std::shared_ptr<rpc::FrameClient> client;
  {
    MutexLock lock(mutex);
    if (closed) return nullptr;
    Peer& peer = peers[member];
    if (peer.client != nullptr && (peer.address != address || !peer.client->usable())) left = std::move(peer.client);
    if (peer.address != address) peer.silent_until_ns = 0;
    peer.address = address;
    if (peer.client == nullptr && clock->MonotonicNs() >= peer.silent_until_ns) {
      peer.silent_until_ns = clock->MonotonicNs() + options.reconnect_pause_ms * 1'000'000;
      rpc::FrameClientOptions client_options;
      client_options.address = address;
      client_options.connect_timeout_ms = options.connect_timeout_ms;
      proto::HelloRequest hello;
      hello.set_role(proto::PEER_ROLE_METASERVER);
      hello.set_cluster_id(options.cluster_id);
      hello.set_peer_name("metadata server " + std::to_string(options.member_id) + " at " + options.address);
      peer.client = rpc::FrameClient::Create(loop, client_options, hello);
    }
    if (peer.client != nullptr && peer.unanswered_bytes + bytes <= options.unanswered_bytes_max) {
      peer.unanswered_bytes += bytes;
      client = peer.client;
    }
  }
  if (left != nullptr) left->Close();
  return client;
}

void PeerTransport::Send(uint64_t to_member, const std::string& /*address*/, std::string message) {
  const std::string address = shared_->address_of(to_member);
  if (address.empty()) return;
  const std::shared_ptr<rpc::FrameClient> client = shared_->ClientFor(to_member, address, message.size());
  if (client == nullptr) return;
  proto::RaftMessageHeader header;
  header.set_cluster_id(shared_->options.cluster_id);
  header.set_from(shared_->options.member_id);
  header.set_to(to_member);
  header.set_from_address(shared_->options.address);
  header.set_from_grpc_address(shared_->options.grpc_address);
  header.set_from_pid(shared_->options.pid);
  const auto payload = std::make_shared<const std::string>(std::move(message));
  rpc::CallOptions call_options;
  call_options.timeout_ms = shared_->options.answer_timeout_ms;
  call_options.payload = {reinterpret_cast<const uint8_t*>(payload->data()), payload->size()};
  client->Call(rpc::Method::kRaftMessage, header, call_options,
               [shared = shared_, to_member, client, payload](const rpc::Reply& reply) {
                 shared->OnAnswer(to_member, client, payload->size(), reply.status);
               });
}

void PeerTransport::Shared::OnAnswer(uint64_t member, const std::shared_ptr<rpc::FrameClient>& client, size_t bytes,
                                     const Status& status) {
  const uint64_t answering_member = client->hello_reply().server_id();
  const bool wrong_member = answering_member != 0 && answering_member != member;
  bool was_removed = false;
  bool report = false;
  bool report_back = false;
  {
    MutexLock lock(mutex);
    if (closed) return;
    Peer& peer = peers[member];
    peer.unanswered_bytes -= std::min<uint64_t>(bytes, peer.unanswered_bytes);
    if (peer.client == client) {
      if (wrong_member) {
        peer.client = nullptr;
        peer.silent_until_ns = clock->MonotonicNs() + options.wrong_member_pause_ms * 1'000'000;
      }
      if (status.ok() && !wrong_member) {
        report_back = std::exchange(peer.reported, false);
      } else if (status.code() == StatusCode::kNotFound && answering_member == member) {
        was_removed = true;  // a name that cannot be resolved is kNotFound as well, but then nobody answered
      } else if (status.code() != StatusCode::kResourceExhausted) {
        report = !std::exchange(peer.reported, true);
      }
    }
  }
  if (wrong_member) client->Close();
  if (was_removed) removed(status);
  if (report_back) spdlog::info("metadata server answers again member={} address={}", member, client->address());
  if (report && wrong_member) {
    spdlog::warn("metadata server is not where it should be member={} address={} there={}", member, client->address(),
                 answering_member);
  } else if (report) {
    spdlog::warn("metadata server does not answer member={} address={} reason=\"{}\"", member, client->address(),
                 status.message());
  }
}

}  // namespace tarn::meta
