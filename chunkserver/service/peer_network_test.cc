#include "chunkserver/service/peer_network.h"

#include <gtest/gtest.h>

#include <future>
#include <vector>

#include "chunkserver/service/service_fixture.h"
#include "proto/data.pb.h"
#include "proto/types.pb.h"

namespace tarn::chunk {
namespace {

constexpr TargetId kPeer{20};
constexpr int64_t kTimeoutMs = 5'000;

struct Answer {
  Status status;
  uint64_t map_version = 0;
  std::string payload;
};

class PeerNetworkTest : public TargetDirectories {
 protected:
  PeerNetworkTest() {
    auto loop = rpc::EventLoop::Start("peers");
    CHECK(loop.ok(), loop.status().ToString());
    loop_ = *std::move(loop);
    targets_ = Open({"own"});
    view_ = std::make_unique<ClusterView>(targets_.get(), [](const ClusterView::MapPtr&) {});
    network_ = std::make_unique<FramePeerNetwork>(view_.get(), loop_.get(), &clock_, [] {
      proto::HelloRequest hello;
      hello.set_role(proto::PEER_ROLE_CHUNKSERVER);
      return hello;
    });
  }
  ~PeerNetworkTest() override {
    network_->Close();
    peer_.reset();
    loop_.reset();
    targets_->StopWorkers();
  }

  void StartPeer(rpc::RequestHandler handler, const std::string& listen = "127.0.0.1:0") {
    rpc::FrameServerOptions options;
    options.listen = listen;
    auto server = rpc::FrameServer::Start(
        options,
        [this](const proto::HelloRequest& request, proto::HelloReply*) {
          ++hellos_;
          return request.role() == proto::PEER_ROLE_CHUNKSERVER ? Status::Ok() : Status(StatusCode::kPermission, "no peer");
        },
        std::move(handler));
    CHECK(server.ok(), server.status().ToString());
    peer_ = *std::move(server);
    proto::ClusterMap map;
    map.set_version(view_->groups()->version() + 1);
    proto::Target* target = map.add_targets();
    target->set_id(kPeer.value());
    target->set_address(peer_->address());
    view_->Adopt(map);
  }
  // Sends the payload back.
  static void Echo(rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
    responder->Reply(proto::ReplicateReply(), std::move(request.payload));
  }

  Answer Call(TargetId to, rpc::Method method = rpc::Method::kReplicate, const std::string& payload = "", int64_t timeout_ms = kTimeoutMs) {
    std::promise<Answer> promise;
    const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(payload.data()), payload.size());
    network_->Call(to, method, proto::ReplicateRequest(), bytes, timeout_ms, [&](const replication::PeerReply& reply) {
      promise.set_value({reply.status, reply.map_version, std::string(reply.payload.begin(), reply.payload.end())});
    });
    return promise.get_future().get();
  }

  std::unique_ptr<rpc::EventLoop> loop_;
  std::unique_ptr<TargetSet> targets_;
  std::unique_ptr<ClusterView> view_;
  std::unique_ptr<FramePeerNetwork> network_;
  std::atomic<int> hellos_ = 0;
  std::unique_ptr<rpc::FrameServer> peer_;
};

TEST_F(PeerNetworkTest, CallsTheServerOfTheTarget) {
  StartPeer(Echo);
  const Answer answer = Call(kPeer, rpc::Method::kReplicate, "bytes");
  EXPECT_TRUE(answer.status.ok()) << answer.status.ToString();
  EXPECT_EQ(answer.payload, "bytes");
}

TEST_F(PeerNetworkTest, DataAndControlHaveOneConnectionEach) {
  StartPeer(Echo);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(Call(kPeer, rpc::Method::kReplicate).status.ok());
    EXPECT_TRUE(Call(kPeer, rpc::Method::kReadGrant).status.ok());
    EXPECT_TRUE(Call(kPeer, rpc::Method::kReconcile).status.ok());
  }
  EXPECT_EQ(hellos_, 2);
}

TEST_F(PeerNetworkTest, ATargetThatTheMapDoesNotKnowIsUnavailable) {
  EXPECT_EQ(Call(TargetId(99)).status.code(), StatusCode::kUnavailable);
}

TEST_F(PeerNetworkTest, TellsTheMapVersionOfAPeerThatKnowsMore) {
  StartPeer([](rpc::Request, std::unique_ptr<rpc::Responder> responder) {
    proto::ErrorDetail detail;
    detail.set_map_version(17);
    responder->Fail(Status(StatusCode::kStaleEpoch, "older"), detail);
  });
  const Answer answer = Call(kPeer);
  EXPECT_EQ(answer.status.code(), StatusCode::kStaleEpoch);
  EXPECT_EQ(answer.map_version, 17u);
}

TEST_F(PeerNetworkTest, APeerThatDoesNotAnswerIsATimeout) {
  std::vector<std::unique_ptr<rpc::Responder>> held;  // by the peer's one loop thread, until it has ended
  StartPeer([&](rpc::Request, std::unique_ptr<rpc::Responder> responder) { held.push_back(std::move(responder)); });
  EXPECT_EQ(Call(kPeer, rpc::Method::kReplicate, "", /*timeout_ms=*/50).status.code(), StatusCode::kTimeout);
  peer_.reset();
}

TEST_F(PeerNetworkTest, ABrokenConnectionIsMadeAnew) {
  StartPeer(Echo);
  ASSERT_TRUE(Call(kPeer).status.ok());
  const std::string address = peer_->address();
  peer_.reset();
  EXPECT_EQ(Call(kPeer).status.code(), StatusCode::kUnavailable);
  StartPeer(Echo, address);
  const int64_t give_up_ms = clock_.MonotonicMs() + kTimeoutMs;
  Answer answer;
  do {
    answer = Call(kPeer);
  } while (!answer.status.ok() && clock_.MonotonicMs() < give_up_ms);
  EXPECT_TRUE(answer.status.ok()) << answer.status.ToString();
}

TEST_F(PeerNetworkTest, ClosingFailsWhatIsUnderWay) {
  std::promise<void> arrived;
  std::vector<std::unique_ptr<rpc::Responder>> held;
  StartPeer([&](rpc::Request, std::unique_ptr<rpc::Responder> responder) {
    held.push_back(std::move(responder));
    arrived.set_value();
  });
  std::promise<StatusCode> code;
  network_->Call(kPeer, rpc::Method::kReplicate, proto::ReplicateRequest(), {}, kTimeoutMs,
                 [&](const replication::PeerReply& reply) { code.set_value(reply.status.code()); });
  arrived.get_future().wait();
  network_->Close();
  EXPECT_EQ(code.get_future().get(), StatusCode::kUnavailable);
  network_->Call(kPeer, rpc::Method::kReplicate, proto::ReplicateRequest(), {}, kTimeoutMs, [](const auto&) { FAIL(); });
  peer_.reset();
}

}  // namespace
}  // namespace tarn::chunk
