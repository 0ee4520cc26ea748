// Messages between members over real connections of this process: they arrive, they are bounded, and what changed hands
// or was removed is noticed.
#include "metaserver/service/peer_transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <future>
#include <map>
#include <optional>

#include "common/rpc/frame_server.h"
#include "metaserver/service/member_table.h"

namespace tarn::meta {
namespace {

constexpr auto kPatience = std::chrono::seconds(10);

// Another member: takes messages and answers as told.
class FakeMember {
 public:
  explicit FakeMember(uint64_t id) : id_(id) {
    auto server = rpc::FrameServer::Start(
        {},
        [this](const proto::HelloRequest& request, proto::HelloReply* reply) {
          if (request.cluster_id() != "cluster") return Status(StatusCode::kInvalidArgument, "another cluster");
          reply->set_server_id(id_);
          return Status::Ok();
        },
        [this](rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
          proto::RaftMessageHeader header;
          CHECK(rpc::ParseRequest(request, &header).ok(), "a header");
          const auto payload = request.payload.span();
          MutexLock lock(mutex_);
          messages_.emplace_back(header, std::string(payload.begin(), payload.end()));
          arrived_.NotifyAll();
          if (holds_back_) {
            held_.push_back(std::move(responder));
          } else if (removed_) {
            responder->Fail(Status(StatusCode::kNotFound, "removed"));
          } else {
            responder->Reply(proto::RaftMessageReply());
          }
        });
    CHECK(server.ok(), server.status().ToString());
    server_ = std::move(*server);
  }
  // nullopt: none came.
  std::optional<std::pair<proto::RaftMessageHeader, std::string>> Next() {
    MutexLock lock(mutex_);
    while (messages_.empty()) {
      if (!arrived_.WaitFor(lock, kPatience)) return std::nullopt;
    }
    auto message = std::move(messages_.front());
    messages_.pop_front();
    return message;
  }
  void HoldBack() {
    MutexLock lock(mutex_);
    holds_back_ = true;
  }
  void SayRemoved() {
    MutexLock lock(mutex_);
    removed_ = true;
  }
  const std::string& address() const { return server_->address(); }

 private:
  const uint64_t id_;
  Mutex mutex_;
  CondVar arrived_;
  bool holds_back_ GUARDED_BY(mutex_) = false;
  bool removed_ GUARDED_BY(mutex_) = false;
  std::deque<std::pair<proto::RaftMessageHeader, std::string>> messages_ GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<rpc::Responder>> held_ GUARDED_BY(mutex_);
  std::unique_ptr<rpc::FrameServer> server_;
};

class PeerTransportTest : public ::testing::Test {
 protected:
  PeerTransportTest() : loop_(std::move(rpc::EventLoop::Start("peers")).value()) {
    options_.cluster_id = "cluster";
    options_.member_id = 1;
    options_.address = "me:1";
    options_.grpc_address = "me:2";
    options_.pid = 77;
    options_.reconnect_pause_ms = 0;
  }
  void Start() {
    transport_ = std::make_unique<PeerTransport>(
        options_, loop_.get(), &clock_, [this](uint64_t member) { return addresses_[member]; },
        [this](const Status&) { removed_.set_value(); });
  }

  SystemClock clock_;
  PeerTransportOptions options_;
  std::map<uint64_t, std::string> addresses_;  // not changed while anything is sent
  std::promise<void> removed_;
  std::unique_ptr<rpc::EventLoop> loop_;
  std::unique_ptr<PeerTransport> transport_;
};

TEST_F(PeerTransportTest, MessageSaysWhereItComesFrom) {
  FakeMember peer(2);
  Start();
  addresses_[2] = peer.address();
  transport_->Send(2, "member-2", "vote for me");
  const auto message = peer.Next();
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->second, "vote for me");
  EXPECT_EQ(message->first.from(), 1u);
  EXPECT_EQ(message->first.to(), 2u);
  EXPECT_EQ(message->first.from_address(), "me:1");
  EXPECT_EQ(message->first.from_grpc_address(), "me:2");
  EXPECT_EQ(message->first.from_pid(), 77u);
}

TEST_F(PeerTransportTest, UnknownMemberGetsNothing) {
  Start();
  transport_->Send(2, "member-2", "hello");
  FakeMember peer(3);
  addresses_[3] = peer.address();
  transport_->Announce(3);
  const auto message = peer.Next();
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->second, "");
}

TEST_F(PeerTransportTest, WhatIsUnansweredIsBounded) {
  options_.unanswered_bytes_max = 3000;
  FakeMember peer(2);
  peer.HoldBack();
  Start();
  addresses_[2] = peer.address();
  for (char c = 'a'; c < 'h'; ++c) transport_->Send(2, "member-2", std::string(1000, c));
  for (const char c : {'a', 'b', 'c'}) {
    const auto message = peer.Next();
    ASSERT_TRUE(message.has_value());
    EXPECT_EQ(message->second[0], c);
  }
  FakeMember other(3);
  addresses_[3] = other.address();
  transport_->Send(3, "member-3", "each member has its own bound");
  EXPECT_TRUE(other.Next().has_value());
}

TEST_F(PeerTransportTest, BrokenConnectionIsMadeAgain) {
  Start();
  auto peer = std::make_unique<FakeMember>(2);
  addresses_[2] = peer->address();
  transport_->Send(2, "member-2", "first");
  ASSERT_TRUE(peer->Next().has_value());
  peer.reset();
  FakeMember again(2);
  addresses_[2] = again.address();
  transport_->Send(2, "member-2", "second");
  EXPECT_TRUE(again.Next().has_value());
}

TEST_F(PeerTransportTest, RemovedMemberHearsOfIt) {
  FakeMember peer(2);
  peer.SayRemoved();
  Start();
  addresses_[2] = peer.address();
  transport_->Send(2, "member-2", "vote for me");
  EXPECT_EQ(removed_.get_future().wait_for(kPatience), std::future_status::ready);
}

proto::RaftMessageHeader From(uint64_t member, const std::string& address) {
  proto::RaftMessageHeader header;
  header.set_from(member);
  header.set_from_address(address);
  header.set_from_grpc_address(address + "0");
  header.set_from_pid(5);
  return header;
}

class MemberTableTest : public ::testing::Test {
 protected:
  void InMap(const std::string& address) {
    auto map = std::make_shared<proto::ClusterMap>();
    proto::MetaserverMember* member = map->add_metaservers();
    member->set_id(2);
    member->set_address(address);
    member->set_grpc_address(address + "0");
    map_ = std::move(map);
  }

  FakeClock clock_;
  std::shared_ptr<const proto::ClusterMap> map_ = std::make_shared<proto::ClusterMap>();
  MemberTable table_{&clock_, [this] { return map_; }};
};

TEST_F(MemberTableTest, WhatWasHeardCountsUntilTheMapSaysSomethingNew) {
  EXPECT_EQ(table_.Find(2).address(), "");
  table_.Hear(From(2, "b:1"));
  EXPECT_EQ(table_.Find(2).address(), "b:1") << "a member that the map does not have yet";
  InMap("b:1");
  EXPECT_TRUE(table_.Moved().empty());
  table_.Hear(From(2, "b:2"));
  EXPECT_EQ(table_.Find(2).address(), "b:2");
  ASSERT_EQ(table_.Moved().size(), 1u);
  EXPECT_EQ(table_.Moved()[0].grpc_address(), "b:20");
  InMap("b:3");
  EXPECT_EQ(table_.Find(2).address(), "b:3");
  EXPECT_TRUE(table_.Moved().empty());
  EXPECT_EQ(table_.Find(2).pid(), 5u);
}

}  // namespace
}  // namespace tarn::meta
