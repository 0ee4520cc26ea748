// A server against peers that do not keep to the protocol: garbage, broken bounds, half a frame, no hello. It must
// answer with a status or close that connection, and serve the others as before.
#include <gmock/gmock.h>

#include <random>
#include <string>

#include "common/rpc/frame.h"
#include "common/rpc/frame_rpc_fixture.h"
#include "common/rpc/raw_peer.h"

namespace tarn::rpc {
namespace {

class FrameServerRobustness : public FrameRpc {
 protected:
  FrameServerRobustness() { StartServer(EchoHandler()); }
  void ExpectItServes() { EXPECT_TRUE(Connect()->CallAndWait(Method::kLookup, Named("x"), nullptr).ok()); }
};

TEST_F(FrameServerRobustness, GarbageEndsTheConnection) {
  RawPeer peer(server_->address());
  EXPECT_TRUE(peer.Send("GET / HTTP/1.1\r\nHost: tarn.example\r\n\r\n"));
  EXPECT_TRUE(peer.IsClosed());
  ExpectItServes();
}

TEST_F(FrameServerRobustness, ARequestBeforeTheHelloIsRefused) {
  RawPeer peer(server_->address());
  EXPECT_TRUE(peer.SendFrame({.kind = FrameKind::kRequest, .method = Method::kPing, .request_id = 5}, ""));
  EXPECT_EQ(peer.ReceiveStatus(), StatusCode::kInvalidArgument);
  EXPECT_THAT(peer.detail(), testing::HasSubstr("hello"));
  EXPECT_TRUE(peer.IsClosed());
}

TEST_F(FrameServerRobustness, VersionsThatCannotMeetAreNamed) {
  RawPeer peer(server_->address());
  proto::HelloRequest hello;
  hello.set_protocol_version(9);
  hello.set_protocol_version_min(7);
  EXPECT_TRUE(peer.SendFrame({.kind = FrameKind::kRequest, .method = Method::kHello, .request_id = 0},
                             hello.SerializeAsString()));
  EXPECT_EQ(peer.ReceiveStatus(), StatusCode::kNotSupported);
  EXPECT_EQ(peer.detail(), "the client speaks protocol versions 7 to 9, this server 1 to 1");
  EXPECT_TRUE(peer.IsClosed());
}

TEST_F(FrameServerRobustness, ARefusedPeerThatKeepsSendingIsReadOut) {
  RawPeer peer(server_->address());
  EXPECT_TRUE(peer.SendFrame({.kind = FrameKind::kRequest, .method = Method::kHello, .request_id = 0}, "\xff\xff"));
  (void)peer.Send(std::string(1 << 20, 'x'));
  EXPECT_EQ(peer.ReceiveStatus(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(peer.IsClosed());
  ExpectItServes();
}

TEST_F(FrameServerRobustness, ANewerClientIsAnsweredWithOurVersion) {
  RawPeer peer(server_->address());
  proto::HelloRequest hello;
  hello.set_protocol_version(9);
  hello.set_protocol_version_min(1);
  EXPECT_TRUE(peer.SendFrame({.kind = FrameKind::kRequest, .method = Method::kHello, .request_id = 0},
                             hello.SerializeAsString()));
  EXPECT_EQ(peer.ReceiveStatus(), StatusCode::kOk);
}

TEST_F(FrameServerRobustness, FramesPastTheirBoundsEndTheConnection) {
  RawPeer peer(server_->address());
  ASSERT_TRUE(peer.SayHello());
  auto bytes = EncodeFrameHeader({.kind = FrameKind::kRequest, .method = Method::kLookup, .request_id = 1});
  bytes[19] = 0x7f;  // a message of two GiB, and the sum is wrong now as well
  EXPECT_TRUE(peer.Send(std::string(bytes.begin(), bytes.end())));
  EXPECT_TRUE(peer.IsClosed());
  ExpectItServes();
}

TEST_F(FrameServerRobustness, ClientsSendRequestsOnly) {
  for (const FrameKind kind : {FrameKind::kReply, FrameKind::kPush}) {
    RawPeer peer(server_->address());
    ASSERT_TRUE(peer.SayHello());
    EXPECT_TRUE(peer.SendFrame({.kind = kind, .method = Method::kLookup, .request_id = 1}, ""));
    EXPECT_TRUE(peer.IsClosed());
  }
  ExpectItServes();
}

TEST_F(FrameServerRobustness, HalfAFrameAndTheEndAreNoRequest) {
  RawPeer peer(server_->address());
  ASSERT_TRUE(peer.SayHello());
  const auto header = EncodeFrameHeader({.kind = FrameKind::kRequest,
                                         .method = Method::kLookup,
                                         .request_id = 1,
                                         .message_bytes = 100,
                                         .payload_bytes = 1000});
  EXPECT_TRUE(peer.Send(std::string(header.begin(), header.end()) + std::string(500, 'x')));
  peer.EndSending();
  EXPECT_TRUE(peer.IsClosed());
  ExpectItServes();
}

TEST_F(FrameServerRobustness, RandomBytesNeverStopIt) {
  std::mt19937_64 random(20);
  for (int round = 0; round < 300; ++round) {
    RawPeer peer(server_->address());
    const bool hello_first = round % 2 == 0;
    if (hello_first) {
      ASSERT_TRUE(peer.SayHello());
    }
    for (int frame = 0; frame < 5; ++frame) {
      std::string bytes(random() % 3000, '\0');
      for (char& byte : bytes) byte = static_cast<char>(random());
      if (round % 3 != 0) {
        // A good header over a random message and payload.
        const FrameHeader header{.kind = static_cast<FrameKind>(1 + (random() % 8 == 0 ? random() % 3 : 0)),
                                 .method = static_cast<Method>(random() % 50),
                                 .request_id = random()};
        if (!peer.SendFrame(header, bytes, std::string(random() % 5000, 'p'))) break;
      } else if (!peer.Send(bytes)) {
        break;
      }
    }
    peer.EndSending();
    // Until the server has closed, whatever it answers must be frames.
    while (peer.ReceiveStatus().has_value()) {
    }
  }
  ExpectItServes();
}

TEST_F(FrameServerRobustness, FlippedBitsInGoodFramesNeverStopIt) {
  std::mt19937_64 random(21);
  proto::HelloRequest hello;
  hello.set_protocol_version(1);
  const auto good_hello = EncodeFrameHeader({.kind = FrameKind::kRequest,
                                             .method = Method::kHello,
                                             .request_id = 0,
                                             .message_bytes = static_cast<uint32_t>(hello.ByteSizeLong())});
  const std::string lookup = Named("name").SerializeAsString();
  const auto good_lookup = EncodeFrameHeader({.kind = FrameKind::kRequest,
                                              .method = Method::kLookup,
                                              .request_id = 1,
                                              .message_bytes = static_cast<uint32_t>(lookup.size())});
  const std::string good = std::string(good_hello.begin(), good_hello.end()) + hello.SerializeAsString() +
                           std::string(good_lookup.begin(), good_lookup.end()) + lookup;
  for (int round = 0; round < 300; ++round) {
    std::string bytes = good;
    bytes[random() % bytes.size()] ^= static_cast<char>(1 << random() % 8);
    RawPeer peer(server_->address());
    (void)peer.Send(bytes);
    peer.EndSending();
    while (peer.ReceiveStatus().has_value()) {
    }
  }
  ExpectItServes();
}

}  // namespace
}  // namespace tarn::rpc
