#include "client/meta/metadata_channel.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "proto/hello.pb.h"
#include "proto/types.pb.h"

namespace tarn::client {
namespace {

// A request that is sent to and fro between servers which point at each other waits after this many redirects.
constexpr uint32_t kImmediateRedirectsMax = 3;
// A cluster has few metadata servers; what a broken peer names beyond that is not remembered.
constexpr size_t kAddressesMax = 32;
constexpr int64_t kConnectTimeoutMs = 1'000;

bool Retryable(StatusCode code) {
  switch (code) {
    case StatusCode::kUnavailable:
    case StatusCode::kTimeout:
    case StatusCode::kNotLeader:
    case StatusCode::kResourceExhausted:
      return true;
    default:
      return false;
  }
}

std::string Join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += ", ";
    text += word;
  }
  return text;
}

}  // namespace

std::shared_ptr<MetadataChannel> MetadataChannel::Create(rpc::EventLoop* loop, const Clock* clock, Random* random,
                                                         const MetadataChannelOptions& options) {
  CHECK(!options.addresses.empty(), "a channel needs an address");
  return std::shared_ptr<MetadataChannel>(new MetadataChannel(loop, clock, random, options));
}

MetadataChannel::MetadataChannel(rpc::EventLoop* loop, const Clock* clock, Random* random,
                                 const MetadataChannelOptions& options)
    : loop_(loop), clock_(clock), random_(random), options_(options), addresses_(options.addresses) {}

void MetadataChannel::Call(rpc::Method method, std::shared_ptr<const google::protobuf::MessageLite> request, Done done,
                           int64_t deadline_ms) {
  auto operation = std::make_shared<Operation>();
  operation->method = method;
  operation->request = std::move(request);
  operation->done = std::move(done);
  operation->deadline_ms = deadline_ms > 0 ? deadline_ms : options_.retry_deadline_ms;
  operation->deadline_ns = clock_->MonotonicNs() + operation->deadline_ms * 1'000'000;
  Send(operation);
}

void MetadataChannel::Send(const OperationPtr& operation) {
  std::shared_ptr<rpc::FrameClient> client;
  bool begin_watch = false;
  bool made = false;
  {
    MutexLock lock(mutex_);
    if (!closed_) {
      client = CurrentClient(&made);
      ++requests_;
      if (unanswered_++ == 0) silent_since_ns_ = clock_->MonotonicNs();
      operation->sent_ns = clock_->MonotonicNs();
      begin_watch = BeginWatch();
    }
  }
  if (begin_watch) StartWatchTimer();
  if (client == nullptr) {
    Finish(operation, Status(StatusCode::kCancelled, "the client is shutting down"));
    return;
  }
  if (made && connect_listener_ != nullptr) connect_listener_();
  ++operation->attempts;
  const int64_t remaining_ms = (operation->deadline_ns - clock_->MonotonicNs()) / 1'000'000;
  rpc::CallOptions call_options;
  call_options.timeout_ms = std::clamp<int64_t>(remaining_ms, 1, options_.call_timeout_ms);
  client->Call(operation->method, *operation->request, call_options,
               [self = shared_from_this(), operation, client](const rpc::Reply& reply) {
                 self->OnReply(operation, client, reply);
               });
}

std::shared_ptr<rpc::FrameClient> MetadataChannel::CurrentClient(bool* made) {
  if (client_ == nullptr || !client_->usable()) {
    *made = true;
    rpc::FrameClientOptions client_options;
    client_options.push_handler = push_handler_;
    client_options.address = addresses_[address_index_];
    // Where there is another server to go to, none is worth waiting for long.
    if (addresses_.size() > 1) client_options.connect_timeout_ms = kConnectTimeoutMs;
    client_ = options_.connect(loop_, client_options, Hello());
    unanswered_ = 0;
  }
  return client_;
}

proto::HelloRequest MetadataChannel::Hello() {
  proto::HelloRequest hello;
  hello.set_role(proto::PEER_ROLE_CLIENT);
  hello.set_session(session_.value());
  hello.set_peer_name(options_.client_name);
  hello.set_token(options_.token);
  hello.set_connection_nonce(random_->NextNonZero());
  return hello;
}

bool MetadataChannel::BeginWatch() {
  if (watches_ || closed_ || unanswered_ == 0 || addresses_.size() < 2) return false;
  return watches_ = true;
}

void MetadataChannel::StartWatchTimer() {
  loop_->PostAfter(std::max<int64_t>(options_.silence_ms / 2, 1), [weak = weak_from_this()] {
    if (auto self = weak.lock()) self->OnWatchTimer();
  });
}

void MetadataChannel::OnWatchTimer() {
  std::vector<std::string> addresses;
  std::string silent_address;
  proto::HelloRequest hello;
  {
    MutexLock lock(mutex_);
    watches_ = false;
    if (!BeginWatch()) return;
    const bool silent = clock_->MonotonicNs() - silent_since_ns_ >= options_.silence_ms * 1'000'000;
    if (silent && client_ != nullptr && (probe_ == nullptr || probe_->ended())) {
      addresses = addresses_;
      silent_address = client_->address();
      hello = Hello();
    }
  }
  StartWatchTimer();
  if (addresses.empty()) return;
  hello.set_session(0);  // nothing is to be served there
  auto probe = LeaderProbe::Start(loop_, addresses, silent_address, hello, {options_.silence_ms, options_.connect},
                                  [weak = weak_from_this()](const std::string& address) {
                                    if (auto self = weak.lock()) self->OnLeaderFound(address);
                                  });
  {
    MutexLock lock(mutex_);
    if (!closed_) probe_.swap(probe);
  }
  if (probe != nullptr) probe->Close();
}

void MetadataChannel::OnLeaderFound(const std::string& address) {
  std::shared_ptr<rpc::FrameClient> to_close;
  {
    MutexLock lock(mutex_);
    const bool still_silent =
        unanswered_ > 0 && clock_->MonotonicNs() - silent_since_ns_ >= options_.silence_ms * 1'000'000;
    if (closed_ || !still_silent || client_ == nullptr || client_->address() == address) return;
    to_close = std::move(client_);
    client_ = nullptr;
    FollowLeader(address);
  }
  // Fails what waits there, and that sends it again.
  to_close->Close();
}

void MetadataChannel::NoteReply(const std::shared_ptr<rpc::FrameClient>& client, const rpc::Reply& reply) {
  MutexLock lock(mutex_);
  if (client != client_) return;
  --unanswered_;
  if (reply.status.code() != StatusCode::kTimeout) silent_since_ns_ = clock_->MonotonicNs();
}

void MetadataChannel::OnReply(const OperationPtr& operation, const std::shared_ptr<rpc::FrameClient>& client,
                              const rpc::Reply& reply) {
  NoteReply(client, reply);
  if (!Retryable(reply.status.code())) {
    operation->done(reply, operation->in_doubt);
    return;
  }
  int64_t delay_ms = 0;
  bool out_of_time = false;
  bool closed = false;
  Status error;
  std::shared_ptr<rpc::FrameClient> to_close;
  {
    MutexLock lock(mutex_);
    operation->last_error = reply.status;
    closed = closed_;
    if (!closed) {
      to_close = PlanRetry(operation, client, reply, &delay_ms);
      out_of_time = clock_->MonotonicNs() + delay_ms * 1'000'000 >= operation->deadline_ns;
      if (out_of_time) error = DeadlineStatus(*operation);
    }
  }
  if (to_close != nullptr) to_close->Close();
  if (closed) {
    Finish(operation, Status(StatusCode::kCancelled, "the client is shutting down"));
  } else if (out_of_time) {
    Finish(operation, std::move(error));
  } else if (delay_ms == 0) {
    Send(operation);
  } else {
    RetryLater(operation, delay_ms);
  }
}

std::shared_ptr<rpc::FrameClient> MetadataChannel::PlanRetry(const OperationPtr& operation,
                                                             const std::shared_ptr<rpc::FrameClient>& client,
                                                             const rpc::Reply& reply, int64_t* delay_ms) {
  // Others may have noticed first and moved on: then this request only follows them.
  const bool is_current = client == client_;
  std::shared_ptr<rpc::FrameClient> to_close;
  switch (reply.status.code()) {
    case StatusCode::kNotLeader: {
      const std::string leader = rpc::ParseErrorDetail(reply).leader_address();
      const bool hint_is_new = !leader.empty() && leader != client->address();
      if (is_current) {
        // The connection itself is sound: what else is in flight on it gets its own answer.
        Retire(std::move(client_));
        client_ = nullptr;
        if (hint_is_new) {
          FollowLeader(leader);
        } else {
          address_index_ = (address_index_ + 1) % addresses_.size();
        }
      }
      const bool at_once = (hint_is_new || !is_current) && operation->redirects < kImmediateRedirectsMax;
      ++operation->redirects;
      *delay_ms = at_once ? 0 : BackoffMs(operation->attempts, options_.failover_backoff_max_ms);
      break;
    }
    case StatusCode::kResourceExhausted:
      *delay_ms = BackoffMs(operation->attempts, options_.backoff_max_ms);
      break;
    case StatusCode::kTimeout:
      // The server answers others: it is this answer that is late or lost.
      if (is_current && silent_since_ns_ > operation->sent_ns) {
        operation->in_doubt = true;
        break;
      }
      [[fallthrough]];
    default:  // the connection, or the server behind it, is of no use
      operation->in_doubt = true;
      if (is_current) {
        to_close = std::move(client_);
        client_ = nullptr;
        address_index_ = (address_index_ + 1) % addresses_.size();
      }
      // The first round over the servers goes without a pause.
      *delay_ms = operation->attempts < addresses_.size()
                      ? 0
                      : BackoffMs(operation->attempts - static_cast<uint32_t>(addresses_.size()) + 1,
                                  options_.failover_backoff_max_ms);
      break;
  }
  return to_close;
}

void MetadataChannel::FollowLeader(const std::string& address) {
  auto known = std::find(addresses_.begin(), addresses_.end(), address);
  if (known == addresses_.end()) {
    if (addresses_.size() >= kAddressesMax) addresses_.pop_back();
    known = addresses_.insert(addresses_.end(), address);
  }
  address_index_ = static_cast<size_t>(known - addresses_.begin());
}

void MetadataChannel::Retire(std::shared_ptr<rpc::FrameClient> client) {
  std::erase_if(retired_, [](const std::weak_ptr<rpc::FrameClient>& old) { return old.expired(); });
  retired_.push_back(client);
}

int64_t MetadataChannel::BackoffMs(uint32_t attempt, int64_t max_ms) {
  const uint32_t doublings = std::min<uint32_t>(attempt > 0 ? attempt - 1 : 0, 16);
  const int64_t full = std::min(options_.backoff_first_ms << doublings, max_ms);
  // Between half and all of it, so that many waiting clients do not come back in step.
  const int64_t half = full / 2;
  return std::max<int64_t>(1, full - half + static_cast<int64_t>(random_->Next() % static_cast<uint64_t>(half + 1)));
}

void MetadataChannel::RetryLater(const OperationPtr& operation, int64_t delay_ms) {
  uint64_t ticket = 0;
  {
    MutexLock lock(mutex_);
    if (!closed_) {
      ticket = next_ticket_++;
      waiting_.emplace(ticket, operation);
    }
  }
  if (ticket == 0) {
    Finish(operation, Status(StatusCode::kCancelled, "the client is shutting down"));
    return;
  }
  loop_->PostAfter(delay_ms, [weak = weak_from_this(), ticket] {
    if (auto self = weak.lock()) self->OnRetryTimer(ticket);
  });
}

void MetadataChannel::OnRetryTimer(uint64_t ticket) {
  OperationPtr operation;
  {
    MutexLock lock(mutex_);
    auto found = waiting_.find(ticket);
    if (found == waiting_.end()) return;  // closed meanwhile
    operation = std::move(found->second);
    waiting_.erase(found);
  }
  Send(operation);
}

void MetadataChannel::Finish(const OperationPtr& operation, Status status) {
  rpc::Reply reply;
  reply.status = std::move(status);
  operation->done(reply, operation->in_doubt);
}

Status MetadataChannel::DeadlineStatus(const Operation& operation) const {
  std::string text = addresses_.size() == 1 ? "metadata server " : "metadata servers ";
  text += Join(addresses_) + " did not answer within " + std::to_string(operation.deadline_ms) + " ms";
  if (!operation.last_error.message().empty()) text += " (last error: " + operation.last_error.message() + ")";
  return Status(StatusCode::kUnavailable, std::move(text));
}

void MetadataChannel::SetSession(SessionId session) {
  MutexLock lock(mutex_);
  session_ = session;
}

void MetadataChannel::AddAddresses(const std::vector<std::string>& addresses) {
  MutexLock lock(mutex_);
  for (const std::string& address : addresses) {
    const bool known = std::find(addresses_.begin(), addresses_.end(), address) != addresses_.end();
    if (!address.empty() && !known && addresses_.size() < kAddressesMax) addresses_.push_back(address);
  }
}

std::vector<std::string> MetadataChannel::addresses() const {
  MutexLock lock(mutex_);
  return addresses_;
}

uint64_t MetadataChannel::requests() const {
  MutexLock lock(mutex_);
  return requests_;
}

void MetadataChannel::Close() {
  std::vector<std::shared_ptr<rpc::FrameClient>> clients;
  std::map<uint64_t, OperationPtr> waiting;
  std::shared_ptr<LeaderProbe> probe;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    probe.swap(probe_);
    if (client_ != nullptr) clients.push_back(std::move(client_));
    client_ = nullptr;
    for (const auto& retired : retired_) {
      if (auto client = retired.lock()) clients.push_back(std::move(client));
    }
    waiting.swap(waiting_);
  }
  if (probe != nullptr) probe->Close();
  for (const auto& client : clients) client->Close();
  for (auto& [ticket, operation] : waiting) {
    Finish(operation, Status(StatusCode::kCancelled, "the client is shutting down"));
  }
}

}  // namespace tarn::client
