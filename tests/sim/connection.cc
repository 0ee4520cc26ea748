#include "tests/sim/connection.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "common/base/check.h"
#include "proto/coherence.pb.h"
#include "proto/metadata.pb.h"
#include "proto/types.pb.h"

namespace tarn::sim {
namespace {

constexpr int64_t kLeaseFactorPlanted = 20;

std::span<const uint8_t> Bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

// Frames of the connection wait here for their turn, and for a member that is stopped.
class Connection::ServerEnd final : public rpc::Peer, public std::enable_shared_from_this<ServerEnd> {
 public:
  ServerEnd(const std::shared_ptr<Connection>& connection, Member* member)
      : connection_(connection), member_(member), life_(member->life()), hello_(connection->hello_) {}

  // False: the process that it was connected to is gone.
  bool Take(uint64_t call, rpc::Method method, const std::string& request) {
    if (!member_->alive() || member_->life() != life_) return false;
    waiting_.push_back([this, call, method, request] {
      auto answer = [weak = connection_, call](const Answer& what) {
        const auto connection = weak.lock();
        if (connection == nullptr) return;
        connection->cluster_->network->SendInOrder(
            &connection->to_client_, connection->member_, connection->client_, "answer",
            [connection, call, what] { connection->process_->Run([connection, call, what] { connection->OnAnswer(call, what); }); });
      };
      member_->ReceiveFrame(life_, shared_from_this(), method, request, answer, [self = shared_from_this()] {
        self->handling_ = false;
        self->Handle();
      });
    });
    Handle();
    return true;
  }

  const proto::HelloRequest& hello() const override { return hello_; }
  const std::string& address() const override { return address_; }
  void Push(rpc::Method method, const google::protobuf::MessageLite& message) override {
    const auto connection = connection_.lock();
    if (connection == nullptr) return;
    connection->cluster_->network->SendInOrder(
        &connection->to_client_, connection->member_, connection->client_, "push",
        [connection, method, bytes = message.SerializeAsString()] {
          connection->process_->Run([connection, method, bytes] { connection->OnPush(method, bytes); });
        });
  }
  bool connected() const override { return !connection_.expired(); }

 private:
  void Handle() {
    if (handling_ || waiting_.empty()) return;
    handling_ = true;
    auto next = std::move(waiting_.front());
    waiting_.pop_front();
    next();
  }

  const std::weak_ptr<Connection> connection_;
  Member* const member_;
  const uint64_t life_;
  const proto::HelloRequest hello_;
  const std::string address_ = "client";
  std::deque<std::function<void()>> waiting_;
  bool handling_ = false;
};

Connection::Connection(Cluster* cluster, std::shared_ptr<SimProcess> process, Endpoint client,
                       const rpc::FrameClientOptions& options, const proto::HelloRequest& hello)
    : cluster_(cluster),
      process_(std::move(process)),
      client_(client),
      member_(MemberOf(options.address)),
      options_(options),
      hello_(hello) {}

rpc::ConnectFunction Connection::Connector(Cluster* cluster, std::shared_ptr<SimProcess> process, Endpoint client) {
  return [cluster, process = std::move(process), client](rpc::EventLoop*, const rpc::FrameClientOptions& options,
                                                         const proto::HelloRequest& hello) {
    return std::make_shared<Connection>(cluster, process, client, options, hello);
  };
}

// ---- The client's end ----

void Connection::Call(rpc::Method method, const google::protobuf::MessageLite& request, const rpc::CallOptions& options,
                      rpc::ReplyCallback callback) {
  if (process_->closing()) {
    rpc::Reply reply;
    reply.status = Status(StatusCode::kUnknownSession, "the run is over");
    return callback(reply);
  }
  const uint64_t call = next_call_++;
  pending_[call] = {method, request.SerializeAsString(), std::move(callback)};
  if (broken_) return process_->Post([self = self(), call] { self->Finish(call, {.status = Status(StatusCode::kUnavailable, "broken"), .message = {}, .payload = {}}); });
  if (pending_.size() > options_.requests_in_flight_max) {
    return process_->Post([self = self(), call] { self->Finish(call, {.status = Status(StatusCode::kResourceExhausted, "too many"), .message = {}, .payload = {}}); });
  }
  cluster_->network->SendInOrder(&to_member_, client_, member_, "request",
                                 [self = self(), call, method, bytes = Falsified(method, pending_[call].request)] {
                                   self->OnFrame(call, method, bytes);
                                 });
  process_->PostAfter(options.timeout_ms, [self = self(), call] {
    self->Finish(call, {.status = Status(StatusCode::kTimeout, "no answer"), .message = {}, .payload = {}});
  });
}

void Connection::Close() { Break(); }

void Connection::Break() {
  if (std::exchange(broken_, true)) return;
  std::vector<uint64_t> calls;
  for (const auto& [call, pending] : pending_) calls.push_back(call);
  process_->Post([self = self(), calls] {
    for (const uint64_t call : calls) {
      self->Finish(call, {.status = Status(StatusCode::kUnavailable, "the connection is at its end"), .message = {}, .payload = {}});
    }
  });
}

void Connection::Finish(uint64_t call, const rpc::Reply& reply) {
  auto found = pending_.extract(call);
  if (found.empty()) return;
  found.mapped().callback(reply);
}

void Connection::OnAnswer(uint64_t call, const Answer& answer) {
  const auto found = pending_.find(call);
  if (broken_ || found == pending_.end()) return;
  const Pending pending = found->second;
  proto::ErrorDetail detail;
  detail.set_message(answer.status.message());
  if (answer.leader != 0) detail.set_leader_address(AddressOf(answer.leader));
  const std::string message =
      answer.status.ok() ? FalsifiedAnswer(pending.method, answer) : detail.SerializeAsString();
  rpc::Reply reply;
  reply.status = answer.status;
  reply.message = Bytes(message);
  Finish(call, reply);
  // What it did is known from here on.
  if (pending.method == rpc::Method::kMutate) cluster_->oracle->NoteAnswered(pending.request);
}

void Connection::OnPush(rpc::Method method, const std::string& message) {
  if (broken_ || !options_.push_handler) return;
  if (SwallowsPush(message)) return;
  options_.push_handler(method, Bytes(message));
}

// ---- The member's end ----

void Connection::OnFrame(uint64_t call, rpc::Method method, const std::string& request) {
  Member* const member = (*cluster_->members)[member_ - 1].get();
  const auto reset = [weak = std::weak_ptr<Connection>(self())] {
    const auto connection = weak.lock();
    if (connection == nullptr) return;
    connection->cluster_->network->SendInOrder(
        &connection->to_client_, connection->member_, connection->client_, "reset",
        [connection] { connection->process_->Run([connection] { connection->Break(); }); });
  };
  if (server_ == nullptr && member->alive()) {
    server_ = std::make_shared<ServerEnd>(self(), member);
    // A machine that is gone says nothing.
    if (cluster_->scheduler->dice().Chance(0.8)) member->WhenGone(reset);
  }
  if (server_ == nullptr || !server_->Take(call, method, request)) reset();
}

// ---- Planted bugs ----

std::string Connection::Falsified(rpc::Method method, std::string request) const {
  if (cluster_->plan->plant == Plant::kHideOpen && method == rpc::Method::kAckPush) {
    proto::AckPushRequest message;
    CHECK(message.ParseFromString(request), "a request is what its method says");
    message.clear_open_inodes();
    return message.SerializeAsString();
  }
  if (cluster_->plan->plant == Plant::kHideWritten && method == rpc::Method::kKeepAlive) {
    proto::KeepAliveRequest message;
    CHECK(message.ParseFromString(request), "a request is what its method says");
    message.clear_written_inodes();
    return message.SerializeAsString();
  }
  return request;
}

// A recall is acknowledged in the client's stead, which does not hear of it.
bool Connection::SwallowsPush(const std::string& message) {
  if (cluster_->plan->plant != Plant::kIgnoreRecall) return false;
  proto::InvalidatePush push;
  if (!push.ParseFromString(message)) return false;
  if (std::ranges::none_of(push.items(), [](const auto& item) { return item.recall_write(); })) return false;
  proto::AckPushRequest acknowledgement;
  acknowledgement.set_session(push.session());
  acknowledgement.set_term(push.term());
  acknowledgement.add_pushes(push.push());
  Call(rpc::Method::kAckPush, acknowledgement, {}, [](const rpc::Reply&) {});
  return true;
}

std::string Connection::FalsifiedAnswer(rpc::Method method, const Answer& answer) const {
  if (cluster_->plan->plant != Plant::kBelieveLonger || method != rpc::Method::kKeepAlive) return answer.message;
  proto::KeepAliveReply reply;
  CHECK(reply.ParseFromString(answer.message), "an answer is what its method says");
  reply.set_lease_ms(static_cast<uint32_t>(reply.lease_ms() * kLeaseFactorPlanted));
  return reply.SerializeAsString();
}

}  // namespace tarn::sim
