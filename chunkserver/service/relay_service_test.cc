// What is passed on for clients, over a network that does what the test says.
#include "chunkserver/service/relay_service.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "chunkserver/service/service_fixture.h"
#include "proto/data.pb.h"
#include "proto/types.pb.h"

namespace tarn::chunk {
namespace {

constexpr TargetId kOwn{10};
constexpr TargetId kOther{20};
constexpr Incarnation kIncarnation{77};

struct Answer {
  StatusCode code = StatusCode::kOk;
  std::string message;
  std::string payload;
};

class RecordingResponder final : public rpc::Responder {
 public:
  explicit RecordingResponder(std::optional<Answer>* answer) : answer_(answer) {}
  void Reply(const google::protobuf::MessageLite& message) override { *answer_ = {StatusCode::kOk, message.SerializeAsString(), ""}; }
  void Reply(const google::protobuf::MessageLite& message, Buffer payload) override {
    *answer_ = {StatusCode::kOk, message.SerializeAsString(), std::string(payload.data(), payload.data() + payload.size())};
  }
  void ReplyFile(const google::protobuf::MessageLite& message, std::vector<rpc::FilePayload> parts) override {
    *answer_ = {StatusCode::kOk, message.SerializeAsString(), std::to_string(parts.size()) + " parts"};
  }
  void Fail(const Status& status) override { *answer_ = {status.code(), status.message(), ""}; }
  void Fail(const Status& status, proto::ErrorDetail) override { Fail(status); }

 private:
  std::optional<Answer>* const answer_;
};

class FakePeer final : public rpc::Peer {
 public:
  explicit FakePeer(proto::PeerRole role) { hello_.set_role(role); }
  const proto::HelloRequest& hello() const override { return hello_; }
  const std::string& address() const override { return address_; }
  void Push(rpc::Method, const google::protobuf::MessageLite&) override {}
  bool connected() const override { return true; }

 private:
  proto::HelloRequest hello_;
  const std::string address_ = "test";
};

struct SentCall {
  TargetId to;
  rpc::Method method;
  std::string message;
  std::string payload;
  int64_t timeout_ms;
  replication::PeerCallback callback;
};

class RecordingNetwork final : public replication::PeerNetwork {
 public:
  void Call(TargetId to, rpc::Method method, const google::protobuf::MessageLite& request, std::span<const uint8_t> payload, int64_t timeout_ms,
            replication::PeerCallback callback) override {
    calls.push_back({to, method, request.SerializeAsString(), std::string(payload.begin(), payload.end()), timeout_ms, std::move(callback)});
  }
  std::vector<SentCall> calls;
};

class RelayServiceTest : public TargetDirectories {
 protected:
  RelayServiceTest() {
    targets_ = Open({"own"});
    const Status adopted = targets_->Adopt({.cluster_id = "cluster", .server = ServerId(1)}, std::vector<TargetId>{kOwn});
    CHECK(adopted.ok(), adopted.ToString());
    relay_ = std::make_unique<RelayService>(RelayServiceParts{.targets = targets_.get(),
                                                              .network = &network_,
                                                              .buffers = buffers_.get(),
                                                              .clock = &clock_,
                                                              .incarnation = kIncarnation,
                                                              .serve = [this](rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
                                                                served_.emplace_back(request.message.begin(), request.message.end());
                                                                served_method_ = request.method;
                                                                serve_(*responder);
                                                              }});
  }
  ~RelayServiceTest() override { Close(std::move(targets_)); }

  static proto::RelayRequest Wrapped(TargetId target, rpc::Method method = rpc::Method::kWriteChunk) {
    proto::RelayRequest request;
    request.set_target(target.value());
    request.set_incarnation(kIncarnation.value());
    request.set_method(static_cast<uint32_t>(method));
    request.set_message("wrapped");
    request.set_timeout_ms(500);
    return request;
  }
  void Handle(const proto::RelayRequest& message, std::optional<Answer>* answer, const std::string& payload = "",
              proto::PeerRole role = proto::PEER_ROLE_CLIENT) {
    const std::string bytes = message.SerializeAsString();
    Buffer buffer(payload.size());
    std::copy(payload.begin(), payload.end(), buffer.data());
    relay_->Handle(rpc::Request{.method = rpc::Method::kRelay,
                                .peer = std::make_shared<FakePeer>(role),
                                .message = {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()},
                                .payload = std::move(buffer)},
                   std::make_unique<RecordingResponder>(answer));
  }
  StatusCode CodeOf(const proto::RelayRequest& message, proto::PeerRole role = proto::PEER_ROLE_CLIENT) {
    std::optional<Answer> answer;
    Handle(message, &answer, "", role);
    return answer ? answer->code : StatusCode::kTimeout;
  }
  static void Deliver(const SentCall& call, const Status& status, const std::string& message, const std::string& payload) {
    call.callback({.status = status,
                   .map_version = 0,
                   .message = {reinterpret_cast<const uint8_t*>(message.data()), message.size()},
                   .payload = {reinterpret_cast<const uint8_t*>(payload.data()), payload.size()}});
  }

  std::shared_ptr<BufferPool> buffers_ = BufferPool::Create(1 << 20);
  std::unique_ptr<TargetSet> targets_;
  RecordingNetwork network_;
  std::function<void(rpc::Responder&)> serve_ = [](rpc::Responder& responder) { responder.Reply(proto::WriteChunkReply()); };
  std::vector<std::string> served_;
  rpc::Method served_method_ = rpc::Method::kPing;
  std::unique_ptr<RelayService> relay_;
};

TEST_F(RelayServiceTest, PassesOnAsItCameAndBringsTheReplyBack) {
  std::optional<Answer> answer;
  proto::RelayRequest request = Wrapped(kOther);
  request.set_reply_bytes_max(4);
  Handle(request, &answer, "payload");
  ASSERT_EQ(network_.calls.size(), 1u);
  const SentCall& call = network_.calls.front();
  EXPECT_EQ(call.to, kOther);
  EXPECT_EQ(call.method, rpc::Method::kRelay);
  EXPECT_EQ(call.message, request.SerializeAsString());
  EXPECT_EQ(call.payload, "payload");
  EXPECT_EQ(call.timeout_ms, 500);
  EXPECT_FALSE(answer.has_value());
  proto::RelayReply reply;
  reply.set_status(static_cast<uint32_t>(StatusCode::kNoSpace));
  reply.set_message("what the server says");
  Deliver(call, Status::Ok(), reply.SerializeAsString(), "back");
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->code, StatusCode::kOk);
  EXPECT_EQ(answer->message, reply.SerializeAsString());
  EXPECT_EQ(answer->payload, "back");
  EXPECT_EQ(relay_->passed_on(), 1u);
}

TEST_F(RelayServiceTest, SaysThatNothingCameBack) {
  struct Row {
    Status status;
    std::string message, payload;
    StatusCode expected;
  };
  const std::vector<Row> rows = {{Status(StatusCode::kUnavailable, "no connection"), "", "", StatusCode::kUnavailable},
                                 {Status(StatusCode::kTimeout, "late"), "", "", StatusCode::kTimeout},
                                 {Status(StatusCode::kNotSupported, "an older server"), "", "", StatusCode::kNotSupported},
                                 {Status::Ok(), "\xff", "", StatusCode::kInternal},
                                 {Status::Ok(), "", "more than was asked for", StatusCode::kInternal}};
  for (const Row& row : rows) {
    std::optional<Answer> answer;
    Handle(Wrapped(kOther), &answer);
    Deliver(network_.calls.back(), row.status, row.message, row.payload);
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->code, row.expected);
  }
}

TEST_F(RelayServiceTest, ServesWhatIsMeantForItselfAsIfItHadComeDirectly) {
  std::optional<Answer> answer;
  Handle(Wrapped(kOwn), &answer, "", proto::PEER_ROLE_CHUNKSERVER);
  EXPECT_EQ(served_, std::vector<std::string>{"wrapped"});
  EXPECT_EQ(served_method_, rpc::Method::kWriteChunk);
  ASSERT_TRUE(answer.has_value());
  proto::RelayReply reply;
  ASSERT_TRUE(reply.ParseFromString(answer->message));
  EXPECT_EQ(reply.status(), 0u);

  serve_ = [](rpc::Responder& responder) {
    proto::ErrorDetail detail;
    detail.set_map_version(9);
    responder.Fail(Status(StatusCode::kStaleEpoch, "newer"), detail);
  };
  Handle(Wrapped(kOwn), &answer);
  EXPECT_EQ(answer->code, StatusCode::kOk) << "it came back";
  ASSERT_TRUE(reply.ParseFromString(answer->message));
  EXPECT_EQ(reply.status(), static_cast<uint32_t>(StatusCode::kStaleEpoch));
  proto::ErrorDetail detail;
  ASSERT_TRUE(detail.ParseFromString(reply.message()));
  EXPECT_EQ(detail.message(), "newer");
  EXPECT_EQ(detail.map_version(), 9u);
  EXPECT_TRUE(network_.calls.empty());
}

TEST_F(RelayServiceTest, TakesNothingThatIsMeantForAnotherProcess) {
  proto::RelayRequest request = Wrapped(kOwn);
  request.set_incarnation(kIncarnation.value() - 1);
  EXPECT_EQ(CodeOf(request), StatusCode::kUnavailable);
  EXPECT_TRUE(served_.empty());
}

TEST_F(RelayServiceTest, PassesOnOnceOnlyAndNothingButWhatClientsAsk) {
  EXPECT_EQ(CodeOf(Wrapped(kOther), proto::PEER_ROLE_CHUNKSERVER), StatusCode::kWrongIncarnation);
  for (const rpc::Method method : {rpc::Method::kReplicate, rpc::Method::kInstallChunk, rpc::Method::kListData, rpc::Method::kRelay, rpc::Method::kPing}) {
    EXPECT_EQ(CodeOf(Wrapped(kOther, method)), StatusCode::kNotSupported);
    EXPECT_EQ(CodeOf(Wrapped(kOwn, method)), StatusCode::kNotSupported);
  }
  proto::RelayRequest request = Wrapped(kOther);
  request.set_reply_bytes_max(rpc::kPayloadBytesMax + 1);
  EXPECT_EQ(CodeOf(request), StatusCode::kInvalidArgument);
  EXPECT_TRUE(network_.calls.empty());
}

TEST_F(RelayServiceTest, WhatIsUnderWayIsBounded) {
  std::vector<std::unique_ptr<std::optional<Answer>>> answers;
  const auto handle_until_refused = [&](uint32_t reply_bytes_max, const std::string& payload) {
    const size_t before = network_.calls.size();
    for (;;) {
      answers.push_back(std::make_unique<std::optional<Answer>>());
      proto::RelayRequest request = Wrapped(kOther);
      request.set_reply_bytes_max(reply_bytes_max);
      Handle(request, answers.back().get(), payload);
      if (answers.back()->has_value()) break;
    }
    EXPECT_EQ((*answers.back())->code, StatusCode::kResourceExhausted);
    return network_.calls.size() - before;
  };
  EXPECT_EQ(handle_until_refused(0, ""), RelayService::kBytesMax / RelayService::kRequestBytes);
  for (const SentCall& call : network_.calls) Deliver(call, Status::Ok(), "", "");
  network_.calls.clear();  // with what they hold
  EXPECT_EQ(handle_until_refused(1 << 20, ""), RelayService::kBytesMax / (RelayService::kRequestBytes + (1 << 20)));
  network_.calls.clear();
  EXPECT_EQ(handle_until_refused(0, std::string(2 << 20, 'x')), RelayService::kBytesMax / (RelayService::kRequestBytes + (2 << 20)));
  network_.calls.clear();
}

}  // namespace
}  // namespace tarn::chunk
