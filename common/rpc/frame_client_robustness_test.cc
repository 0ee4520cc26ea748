// A client against servers that stall, answer half, answer late, or send what is no answer.
#include <gmock/gmock.h>

#include <algorithm>
#include <future>
#include <string>
#include <vector>

#include "common/rpc/frame_rpc_fixture.h"
#include "common/rpc/raw_peer.h"
#include "proto/data.pb.h"

namespace tarn::rpc {
namespace {

using testing::HasSubstr;

class FrameClientRobustness : public FrameRpc {
 protected:
  std::shared_ptr<FrameClient> ConnectTo(const RawListener& listener, int64_t connect_timeout_ms = 10'000) {
    FrameClientOptions options;
    options.address = listener.address();
    options.connect_timeout_ms = connect_timeout_ms;
    return Connect(options);
  }

  static std::future<Status> Start(FrameClient& client, const CallOptions& options) {
    auto answered = std::make_shared<std::promise<Status>>();
    client.Call(Method::kReadChunk, proto::ReadChunkRequest(), options,
                [answered](const Reply& reply) { answered->set_value(reply.status); });
    return answered->get_future();
  }
};

TEST_F(FrameClientRobustness, AServerThatNeverAnswersTheHelloIsUnavailable) {
  RawListener listener;
  const auto client = ConnectTo(listener, 30);
  const Status status = client->CallAndWait(Method::kLookup, Named("x"), nullptr);
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("no answer to the hello within 30 ms"));
}

TEST_F(FrameClientRobustness, CallsMayTimeOutBeforeTheConnectionStands) {
  RawListener listener;
  const auto client = ConnectTo(listener);
  EXPECT_EQ(client->CallAndWait(Method::kLookup, Named("x"), nullptr, 10).code(), StatusCode::kTimeout);
  EXPECT_TRUE(client->usable());
}

TEST_F(FrameClientRobustness, GarbageFromTheServerEndsTheConnection) {
  RawListener listener;
  const auto client = ConnectTo(listener);
  auto answer = Start(*client, {});
  RawPeer server = listener.Accept();
  ASSERT_TRUE(server.AnswerHello());
  ASSERT_TRUE(server.Send("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"));
  const Status status = answer.get();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("bad magic"));
}

TEST_F(FrameClientRobustness, AnAnswerToAnotherMethodEndsTheConnection) {
  RawListener listener;
  const auto client = ConnectTo(listener);
  auto answer = Start(*client, {});
  RawPeer server = listener.Accept();
  ASSERT_TRUE(server.AnswerHello());
  const auto request = server.ReceiveFrame();
  ASSERT_TRUE(request.has_value());
  ASSERT_TRUE(
      server.SendFrame({.kind = FrameKind::kReply, .method = Method::kLookup, .request_id = request->request_id}, ""));
  EXPECT_EQ(answer.get().code(), StatusCode::kCorruption);
  EXPECT_TRUE(server.IsClosed());
  EXPECT_FALSE(client->usable());
}

TEST_F(FrameClientRobustness, AnswersToNobodyAreDropped) {
  RawListener listener;
  const auto client = ConnectTo(listener);
  auto answer = Start(*client, {});
  RawPeer server = listener.Accept();
  ASSERT_TRUE(server.AnswerHello());
  const auto request = server.ReceiveFrame();
  ASSERT_TRUE(request.has_value());
  for (const uint64_t id : {request->request_id + 1, request->request_id + (uint64_t{1} << 32), ~uint64_t{0}}) {
    ASSERT_TRUE(server.SendFrame({.kind = FrameKind::kReply, .method = Method::kReadChunk, .request_id = id}, "",
                                 std::string(100'000, 'x')));
  }
  ASSERT_TRUE(server.SendFrame(
      {.kind = FrameKind::kReply, .method = Method::kReadChunk, .request_id = request->request_id}, ""));
  EXPECT_TRUE(answer.get().ok());
}

TEST_F(FrameClientRobustness, AfterATimeOutNobodyWritesIntoTheDestination) {
  RawListener listener;
  const auto client = ConnectTo(listener);
  std::vector<uint8_t> destination(1'000'000);
  auto answer = Start(*client, {.timeout_ms = 100, .payload = {}, .payload_destination = destination});
  RawPeer server = listener.Accept();
  ASSERT_TRUE(server.AnswerHello());
  const auto request = server.ReceiveFrame();
  ASSERT_TRUE(request.has_value());
  const auto header = EncodeFrameHeader({.kind = FrameKind::kReply,
                                         .method = Method::kReadChunk,
                                         .request_id = request->request_id,
                                         .message_bytes = 0,
                                         .payload_bytes = 1'000'000});
  ASSERT_TRUE(server.Send(std::string(header.begin(), header.end()) + std::string(400'000, 'a')));
  EXPECT_EQ(answer.get().code(), StatusCode::kTimeout);
  std::fill(destination.begin(), destination.end(), 0x77);
  // The rest comes, and after it the answer to the next call.
  auto next = Start(*client, {});
  ASSERT_TRUE(server.Send(std::string(600'000, 'b')));
  const auto next_request = server.ReceiveFrame();
  ASSERT_TRUE(next_request.has_value());
  ASSERT_TRUE(server.SendFrame(
      {.kind = FrameKind::kReply, .method = Method::kReadChunk, .request_id = next_request->request_id}, ""));
  EXPECT_TRUE(next.get().ok());
  EXPECT_EQ(destination, std::vector<uint8_t>(1'000'000, 0x77));
}

TEST_F(FrameClientRobustness, AWithdrawnCallEndsAtOnceAndNobodyWritesIntoItsDestination) {
  RawListener listener;
  const auto client = ConnectTo(listener);
  std::vector<uint8_t> destination(1'000'000);
  auto answer = Start(*client, {.payload = {}, .payload_destination = destination});
  RawPeer server = listener.Accept();
  ASSERT_TRUE(server.AnswerHello());
  const auto request = server.ReceiveFrame();
  ASSERT_TRUE(request.has_value());
  const auto header = EncodeFrameHeader({.kind = FrameKind::kReply,
                                         .method = Method::kReadChunk,
                                         .request_id = request->request_id,
                                         .message_bytes = 0,
                                         .payload_bytes = 1'000'000});
  ASSERT_TRUE(server.Send(std::string(header.begin(), header.end()) + std::string(400'000, 'a')));
  // Also from places that no call knows.
  std::vector<uint8_t> elsewhere(10);
  std::promise<StatusCode> ended;
  client_loop_->Post([&] {
    client->Withdraw(elsewhere);
    client->Withdraw(destination);
    const bool over = answer.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    std::fill(destination.begin(), destination.end(), 0x77);
    client->Withdraw(destination);
    ended.set_value(over ? answer.get().code() : StatusCode::kOk);
  });
  EXPECT_EQ(ended.get_future().get(), StatusCode::kCancelled);
  auto next = Start(*client, {});
  ASSERT_TRUE(server.Send(std::string(600'000, 'b')));
  const auto next_request = server.ReceiveFrame();
  ASSERT_TRUE(next_request.has_value());
  ASSERT_TRUE(server.SendFrame(
      {.kind = FrameKind::kReply, .method = Method::kReadChunk, .request_id = next_request->request_id}, ""));
  EXPECT_TRUE(next.get().ok());
  EXPECT_EQ(destination, std::vector<uint8_t>(1'000'000, 0x77));
}

TEST_F(FrameClientRobustness, AfterATimeOutThePayloadIsNotReadAnyMore) {
  RawListener listener;
  const auto client = ConnectTo(listener);
  // More than the sockets take while the server does not read: the first frames are sent in part or not at all when
  // their time is up.
  constexpr int kCalls = 6;
  std::vector<std::vector<uint8_t>> payloads(kCalls, std::vector<uint8_t>(kPayloadBytesMax, 'p'));
  std::vector<std::future<Status>> answers;
  RawPeer server = [&] {
    for (auto& payload : payloads)
      answers.push_back(Start(*client, {.timeout_ms = 200, .payload = payload, .payload_destination = {}}));
    return listener.Accept();
  }();
  ASSERT_TRUE(server.AnswerHello());
  for (auto& answer : answers) EXPECT_EQ(answer.get().code(), StatusCode::kTimeout);
  for (auto& payload : payloads) std::fill(payload.begin(), payload.end(), 'X');
  payloads.clear();
  // What had begun comes whole and unchanged; what had not, never.
  auto next = Start(*client, {});
  int whole = 0;
  std::optional<FrameHeader> request = server.ReceiveFrame();
  while (request.has_value() && request->payload_bytes > 0) {
    EXPECT_EQ(server.payload(), std::string(kPayloadBytesMax, 'p'));
    ++whole;
    request = server.ReceiveFrame();
  }
  EXPECT_LT(whole, kCalls);
  ASSERT_TRUE(request.has_value());
  ASSERT_TRUE(server.SendFrame(
      {.kind = FrameKind::kReply, .method = Method::kReadChunk, .request_id = request->request_id}, ""));
  EXPECT_TRUE(next.get().ok());
}

TEST_F(FrameClientRobustness, AConnectionWhoseBytesNobodyTakesEnds) {
  RawListener listener;
  FrameClientOptions options;
  options.address = listener.address();
  options.unacknowledged_ms_max = 50;
  const auto client = Connect(options);
  const std::vector<uint8_t> payload(kPayloadBytesMax, 'p');
  std::vector<std::future<Status>> answers;
  // More than the buffers of both ends take.
  for (int i = 0; i < 8; ++i) answers.push_back(Start(*client, {.timeout_ms = 3'000, .payload = payload, .payload_destination = {}}));
  RawPeer server = listener.Accept();
  ASSERT_TRUE(server.AnswerHello());
  for (auto& answer : answers) EXPECT_EQ(answer.get().code(), StatusCode::kUnavailable);
  EXPECT_FALSE(client->usable());
}

TEST_F(FrameClientRobustness, ClosingWhileThreadsWriteFailsEveryCallOnce) {
  for (int round = 0; round < 30; ++round) {
    RawListener listener;
    const auto client = ConnectTo(listener);
    // The server never reads, so that writers meet a full socket.
    auto first = Start(*client, {});
    RawPeer server = listener.Accept();
    ASSERT_TRUE(server.AnswerHello());
    CallCounter counter;
    std::vector<std::thread> threads;
    constexpr int kThreads = 3;
    constexpr int kCallsPerThread = 40;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < kCallsPerThread; ++i) {
          auto payload = std::make_shared<std::vector<uint8_t>>(100'000, 'p');
          client->Call(Method::kWriteChunk, proto::WriteChunkRequest(),
                       {.timeout_ms = 60'000, .payload = *payload, .payload_destination = {}},
                       [&counter, payload](const Reply& reply) mutable {
                         EXPECT_FALSE(reply.status.ok());
                         // Writing it here shows (to a sanitizer) whether anybody still reads it.
                         payload->assign(payload->size(), 'X');
                         payload.reset();
                         counter.Add();
                       });
          if (i == kCallsPerThread / 2) client->Close();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    counter.Wait(kThreads * kCallsPerThread);
    EXPECT_FALSE(first.get().ok());
  }
}

}  // namespace
}  // namespace tarn::rpc
