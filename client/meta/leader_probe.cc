#include "client/meta/leader_probe.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "proto/metadata.pb.h"
#include "proto/types.pb.h"

namespace tarn::client {
namespace {

constexpr size_t kServersAskedMax = 32;

}  // namespace

std::shared_ptr<LeaderProbe> LeaderProbe::Start(rpc::EventLoop* loop, const std::vector<std::string>& addresses,
                                                const std::string& silent, const proto::HelloRequest& hello,
                                                const Options& options, Found found) {
  std::shared_ptr<LeaderProbe> probe(new LeaderProbe(loop, silent, hello, options, std::move(found)));
  for (const std::string& address : addresses) probe->Ask(address);
  return probe;
}

LeaderProbe::LeaderProbe(rpc::EventLoop* loop, const std::string& silent, const proto::HelloRequest& hello,
                         const Options& options, Found found)
    : loop_(loop), silent_(silent), hello_(hello), options_(options), found_(std::move(found)) {}

void LeaderProbe::Ask(const std::string& address) {
  if (address == silent_) return;
  rpc::FrameClientOptions options;
  options.address = address;
  options.connect_timeout_ms = options_.timeout_ms;
  const std::shared_ptr<rpc::FrameClient> client = options_.connect(loop_, options, hello_);
  {
    MutexLock lock(mutex_);
    const bool known = std::find(asked_.begin(), asked_.end(), address) != asked_.end();
    if (!found_ || known || asked_.size() >= kServersAskedMax) return;
    asked_.push_back(address);
    clients_.push_back(client);
    ++unanswered_;
  }
  // A map that cannot be newer: the answer is empty, and only a leader gives it.
  proto::GetClusterMapRequest request;
  request.set_newer_than(std::numeric_limits<uint64_t>::max());
  rpc::CallOptions call_options;
  call_options.timeout_ms = options_.timeout_ms;
  client->Call(rpc::Method::kGetClusterMap, request, call_options,
               [self = shared_from_this(), address](const rpc::Reply& reply) { self->OnReply(address, reply); });
}

void LeaderProbe::OnReply(const std::string& address, const rpc::Reply& reply) {
  if (reply.status.code() == StatusCode::kNotLeader) {
    const std::string leader = rpc::ParseErrorDetail(reply).leader_address();
    if (!leader.empty()) Ask(leader);
  }
  Found found;
  {
    MutexLock lock(mutex_);
    --unanswered_;
    if (reply.status.ok()) found = std::exchange(found_, nullptr);
  }
  if (!found) return;
  found(address);
  Close();
}

void LeaderProbe::Close() {
  std::vector<std::shared_ptr<rpc::FrameClient>> clients;
  {
    MutexLock lock(mutex_);
    found_ = nullptr;
    clients.swap(clients_);
  }
  for (const auto& client : clients) client->Close();
}

bool LeaderProbe::ended() const {
  MutexLock lock(mutex_);
  return unanswered_ == 0 || !found_;
}

}  // namespace tarn::client
