// The metadata client against servers that lose replies, restart, redirect, time out and forget sessions.
#include "client/meta/metadata_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "client/blocking.h"
#include "client/testing/scripted_metadata_server.h"
#include "proto/types.pb.h"

namespace tarn::client {
namespace {

using ::testing::HasSubstr;
using testing::ReceivedRequest;
using testing::ScriptedMetadataServer;

// The answer of a call that the test goes on to serve.
template <typename T>
using Answer = std::future<Result<T>>;

template <typename T>
std::pair<Answer<T>, Callback<T>> MakeAnswer() {
  auto promise = std::make_shared<std::promise<Result<T>>>();
  return {promise->get_future(), [promise](Result<T> result) { promise->set_value(std::move(result)); }};
}

class MetadataClientTest : public ::testing::Test {
 protected:
  MetadataClientTest() : loop_(*rpc::EventLoop::Start("test-loop")) {}

  void Connect(std::vector<std::string> addresses, int64_t deadline_ms = 20'000, int64_t call_timeout_ms = 10'000) {
    MetadataChannelOptions options;
    options.addresses = std::move(addresses);
    options.client_name = "test";
    options.retry_deadline_ms = deadline_ms;
    options.call_timeout_ms = call_timeout_ms;
    options.backoff_max_ms = 20;
    options.failover_backoff_max_ms = 20;
    options.silence_ms = silence_ms_;
    client_ = std::make_unique<MetadataClient>(loop_.get(), &clock_, &random_, options);
  }
  void ConnectWithSession(ScriptedMetadataServer& server, uint64_t session = 7) {
    Connect({server.address()});
    OpenSession(server, session);
  }
  void OpenSession(ScriptedMetadataServer& server, uint64_t session) {
    std::promise<Status> opened;
    client_->OpenSession(VolumeId(1), [&](Status status) { opened.set_value(std::move(status)); });
    server.AnswerOpenSession(session);
    ASSERT_TRUE(opened.get_future().get().ok());
  }
  Answer<proto::MutationReply> Mkdir(const std::string& name, bool batched = false) {
    proto::Mutation mutation;
    mutation.mutable_mkdir()->set_name(name);
    auto [answer, callback] = MakeAnswer<proto::MutationReply>();
    if (batched) {
      client_->MutateBatched(std::move(mutation), callback);
    } else {
      client_->Mutate(std::move(mutation), callback);
    }
    return std::move(answer);
  }
  Answer<Attributes> GetAttributes(uint64_t inode) {
    auto [answer, callback] = MakeAnswer<Attributes>();
    client_->GetAttributes(InodeId(inode), callback);
    return std::move(answer);
  }
  static void AnswerGetAttr(ReceivedRequest request) {
    proto::GetAttrReply reply;
    reply.mutable_attributes()->set_inode(request.As<proto::GetAttrRequest>().inode());
    request.responder->Reply(reply);
  }
  static void AnswerMutation(ReceivedRequest request, uint64_t inode = 1) {
    proto::MutationReply reply;
    reply.mutable_attributes()->set_inode(inode);
    request.responder->Reply(reply);
  }
  static void SayNotLeader(ReceivedRequest request, const std::string& leader) {
    proto::ErrorDetail detail;
    detail.set_leader_address(leader);
    request.responder->Fail(Status(StatusCode::kNotLeader, "I do not lead"), detail);
  }
  // Nobody answers the session's end in these tests.
  void TearDown() override {
    if (client_ != nullptr) client_->Shutdown(1);
  }

  int64_t silence_ms_ = 60'000;
  SystemClock clock_;
  SystemRandom random_;
  std::unique_ptr<rpc::EventLoop> loop_;
  std::unique_ptr<MetadataClient> client_;
};

TEST_F(MetadataClientTest, AnswersReads) {
  ScriptedMetadataServer server;
  Connect({server.address()});
  auto answer = GetAttributes(42);
  AnswerGetAttr(server.Next());
  EXPECT_EQ(answer.get()->inode, InodeId(42));
}

// Answers nothing until somebody asks who leads.
ReceivedRequest NextProbe(ScriptedMetadataServer& server) {
  ReceivedRequest request = server.Next();
  CHECK(request.method == rpc::Method::kGetClusterMap, "a probe asks for a map");
  return request;
}

TEST_F(MetadataClientTest, SilentServerIsLeftForTheOneThatLeads) {
  silence_ms_ = 40;
  ScriptedMetadataServer stopped;
  ScriptedMetadataServer follower;
  ScriptedMetadataServer leader;
  Connect({stopped.address(), follower.address()});
  auto answer = GetAttributes(42);
  ReceivedRequest unanswered = stopped.Next();
  SayNotLeader(NextProbe(follower), stopped.address());  // still believes in the old one
  SayNotLeader(NextProbe(follower), leader.address());
  NextProbe(leader).responder->Reply(proto::GetClusterMapReply());
  AnswerGetAttr(leader.Next());
  EXPECT_EQ(answer.get()->inode, InodeId(42));
}

TEST_F(MetadataClientTest, SlowLeaderKeepsItsRequests) {
  silence_ms_ = 40;
  ScriptedMetadataServer leader;
  ScriptedMetadataServer follower;
  Connect({leader.address(), follower.address()});
  auto answer = GetAttributes(42);
  ReceivedRequest slow = leader.Next();
  for (int i = 0; i < 3; ++i) SayNotLeader(NextProbe(follower), leader.address());
  EXPECT_EQ(leader.waiting(), 0u) << "nothing was sent twice";
  AnswerGetAttr(std::move(slow));
  EXPECT_EQ(answer.get()->inode, InodeId(42));
  EXPECT_EQ(client_->requests(), 1u);
}

TEST_F(MetadataClientTest, ErrorsOfTheServerAreNotRetried) {
  ScriptedMetadataServer server;
  Connect({server.address()});
  auto answer = GetAttributes(42);
  server.Next().responder->Fail(Status(StatusCode::kNotFound, "no inode 42"));
  const Result<Attributes> result = answer.get();
  EXPECT_EQ(result.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(result.status().message(), HasSubstr("no inode 42"));
  EXPECT_EQ(client_->requests(), 1u);
}

TEST_F(MetadataClientTest, ReadsSurviveARestartOfTheServer) {
  auto server = std::make_unique<ScriptedMetadataServer>();
  const std::string address = server->address();
  Connect({address});
  auto answer = GetAttributes(42);
  ReceivedRequest lost = server->Next();
  server.reset();
  server = std::make_unique<ScriptedMetadataServer>(address);
  AnswerGetAttr(server->Next());
  EXPECT_TRUE(answer.get().ok());
}

TEST_F(MetadataClientTest, FollowsTheLeaderItIsTold) {
  ScriptedMetadataServer follower;
  ScriptedMetadataServer leader;
  Connect({follower.address()});
  auto answer = GetAttributes(42);
  SayNotLeader(follower.Next(), leader.address());
  AnswerGetAttr(leader.Next());
  EXPECT_TRUE(answer.get().ok());
  // And stays there.
  auto second = GetAttributes(43);
  AnswerGetAttr(leader.Next());
  EXPECT_TRUE(second.get().ok());
  EXPECT_EQ(client_->addresses().size(), 2u);
}

TEST_F(MetadataClientTest, WithoutAHintTheNextServerIsAsked) {
  ScriptedMetadataServer first;
  ScriptedMetadataServer second;
  Connect({first.address(), second.address()});
  auto answer = GetAttributes(42);
  SayNotLeader(first.Next(), "");
  AnswerGetAttr(second.Next());
  EXPECT_TRUE(answer.get().ok());
}

TEST_F(MetadataClientTest, AServerThatIsNotThereIsPassedOver) {
  ScriptedMetadataServer alive;
  std::string dead;
  { dead = ScriptedMetadataServer().address(); }
  Connect({dead, alive.address()});
  auto answer = GetAttributes(42);
  AnswerGetAttr(alive.Next());
  EXPECT_TRUE(answer.get().ok());
}

TEST_F(MetadataClientTest, GivesUpAtTheDeadlineNamingTheAddresses) {
  std::string dead;
  { dead = ScriptedMetadataServer().address(); }
  Connect({dead}, /*deadline_ms=*/150);
  const Result<Attributes> result = GetAttributes(42).get();
  EXPECT_EQ(result.status().code(), StatusCode::kUnavailable);
  EXPECT_THAT(result.status().message(), HasSubstr(dead));
  EXPECT_THAT(result.status().message(), HasSubstr("150 ms"));
}

TEST_F(MetadataClientTest, AServerThatDoesNotAnswerIsAskedAgainOnANewConnection) {
  ScriptedMetadataServer server;
  Connect({server.address()}, /*deadline_ms=*/20'000, /*call_timeout_ms=*/50);
  auto answer = GetAttributes(42);
  ReceivedRequest ignored = server.Next();
  AnswerGetAttr(server.Next());
  EXPECT_TRUE(answer.get().ok());
}

TEST_F(MetadataClientTest, ALateAnswerEndsNoConnectionThatServesOthers) {
  ScriptedMetadataServer server;
  Connect({server.address()}, /*deadline_ms=*/20'000, /*call_timeout_ms=*/100);
  auto late = GetAttributes(42);
  ReceivedRequest first = server.Next();
  auto other = GetAttributes(43);
  AnswerGetAttr(server.Next());
  EXPECT_TRUE(other.get().ok());
  ReceivedRequest again = server.Next();
  EXPECT_EQ(again.As<proto::GetAttrRequest>().inode(), 42u);
  EXPECT_EQ(again.peer, first.peer);
  // Both answers come; the first one finds nobody any more.
  AnswerGetAttr(std::move(first));
  AnswerGetAttr(std::move(again));
  EXPECT_EQ(late.get()->inode, InodeId(42));
  auto next = GetAttributes(44);
  AnswerGetAttr(server.Next());
  EXPECT_EQ(next.get()->inode, InodeId(44));
}

TEST_F(MetadataClientTest, BusyServersAreAskedAgain) {
  ScriptedMetadataServer server;
  ConnectWithSession(server);
  auto answer = Mkdir("a");
  ReceivedRequest first = server.Next();
  const proto::Mutation sent = first.mutation();
  first.responder->Fail(Status(StatusCode::kResourceExhausted, "busy"));
  ReceivedRequest second = server.Next();
  EXPECT_EQ(second.mutation().sequence(), sent.sequence());
  AnswerMutation(std::move(second));
  EXPECT_TRUE(answer.get().ok());
}

TEST_F(MetadataClientTest, ARepeatedMutationCarriesTheSameSequence) {
  auto server = std::make_unique<ScriptedMetadataServer>();
  const std::string address = server->address();
  ConnectWithSession(*server, 7);
  auto answer = Mkdir("a");
  const ReceivedRequest lost = server->Next();
  const proto::Mutation first = lost.mutation();
  server.reset();
  server = std::make_unique<ScriptedMetadataServer>(address);
  ReceivedRequest again = server->Next();
  const proto::Mutation second = again.mutation();
  EXPECT_EQ(first.session(), 7u);
  EXPECT_EQ(first.sequence(), 1u);
  EXPECT_EQ(second.SerializeAsString(), first.SerializeAsString());
  AnswerMutation(std::move(again), 99);
  EXPECT_EQ(answer.get()->attributes().inode(), 99u);
}

TEST_F(MetadataClientTest, ARepeatedOpenOfTheSessionCarriesTheSameNonce) {
  auto server = std::make_unique<ScriptedMetadataServer>();
  const std::string address = server->address();
  Connect({address});
  std::promise<Status> opened;
  client_->OpenSession(VolumeId(3), [&](Status status) { opened.set_value(std::move(status)); });
  const ReceivedRequest lost = server->Next();
  const proto::Mutation first = lost.mutation();
  server.reset();
  server = std::make_unique<ScriptedMetadataServer>(address);
  ReceivedRequest again = server->Next();
  EXPECT_EQ(again.mutation().open_session().nonce(), first.open_session().nonce());
  EXPECT_EQ(again.mutation().open_session().volume(), 3u);
  proto::MutationReply reply;
  reply.set_session(5);
  again.responder->Reply(reply);
  EXPECT_TRUE(opened.get_future().get().ok());
  EXPECT_EQ(client_->session(), SessionId(5));
}

TEST_F(MetadataClientTest, AckedThroughFollowsTheAnswers) {
  ScriptedMetadataServer server;
  ConnectWithSession(server);
  auto a = Mkdir("a");
  auto b = Mkdir("b");
  ReceivedRequest first = server.Next();
  ReceivedRequest second = server.Next();
  EXPECT_EQ(second.mutation().acked_through(), 0u);
  AnswerMutation(std::move(second));
  (void)b.get();
  auto c = Mkdir("c");
  ReceivedRequest third = server.Next();
  EXPECT_EQ(third.mutation().sequence(), 3u);
  EXPECT_EQ(third.mutation().acked_through(), 0u);  // the first is still out
  // An error is an answer too.
  first.responder->Fail(Status(StatusCode::kExists, "the name exists"));
  EXPECT_EQ(a.get().status().code(), StatusCode::kExists);
  auto d = Mkdir("d");
  ReceivedRequest fourth = server.Next();
  EXPECT_EQ(fourth.mutation().acked_through(), 2u);
  AnswerMutation(std::move(third));
  AnswerMutation(std::move(fourth));
  (void)c.get();
  (void)d.get();
}

TEST_F(MetadataClientTest, AMutationThatWasGivenUpNoLongerHoldsBackTheWindow) {
  auto server = std::make_unique<ScriptedMetadataServer>();
  const std::string address = server->address();
  Connect({address}, /*deadline_ms=*/200);
  OpenSession(*server, 7);
  auto answer = Mkdir("a");
  const ReceivedRequest lost = server->Next();
  server.reset();
  EXPECT_EQ(answer.get().status().code(), StatusCode::kUnavailable);
  server = std::make_unique<ScriptedMetadataServer>(address);
  auto next = Mkdir("b");
  ReceivedRequest request = server->Next();
  EXPECT_EQ(request.mutation().sequence(), 2u);
  EXPECT_EQ(request.mutation().acked_through(), 1u);
  AnswerMutation(std::move(request));
  EXPECT_TRUE(next.get().ok());
}

TEST_F(MetadataClientTest, ARefusedMutationGoesOnUnderANewSession) {
  ScriptedMetadataServer server;
  ConnectWithSession(server, 7);
  auto answer = Mkdir("a");
  ReceivedRequest refused = server.Next();
  EXPECT_EQ(refused.mutation().session(), 7u);
  refused.responder->Fail(Status(StatusCode::kUnknownSession, "no session 7"));
  server.AnswerOpenSession(8);
  ReceivedRequest again = server.Next();
  EXPECT_EQ(again.mutation().session(), 8u);
  EXPECT_EQ(again.mutation().sequence(), 1u);
  EXPECT_EQ(again.mutation().mkdir().name(), "a");
  AnswerMutation(std::move(again));
  EXPECT_TRUE(answer.get().ok());
  EXPECT_EQ(client_->session(), SessionId(8));
  EXPECT_EQ(client_->sessions_lost(), 1u);
}

TEST_F(MetadataClientTest, AMutationInDoubtFailsWhenTheSessionIsLost) {
  auto server = std::make_unique<ScriptedMetadataServer>();
  const std::string address = server->address();
  ConnectWithSession(*server, 7);
  auto in_doubt = Mkdir("a");
  const ReceivedRequest lost = server->Next();
  server.reset();
  server = std::make_unique<ScriptedMetadataServer>(address);
  server->Next().responder->Fail(Status(StatusCode::kUnknownSession, "no session 7"));
  const Result<proto::MutationReply> result = in_doubt.get();
  EXPECT_EQ(result.status().code(), StatusCode::kIoError);
  EXPECT_THAT(result.status().message(), HasSubstr("session expired"));
  // What comes later goes on.
  server->AnswerOpenSession(8);
  auto later = Mkdir("b");
  ReceivedRequest request = server->Next();
  EXPECT_EQ(request.mutation().session(), 8u);
  AnswerMutation(std::move(request));
  EXPECT_TRUE(later.get().ok());
}

TEST_F(MetadataClientTest, KeepAlivesFindALostSession) {
  ScriptedMetadataServer server;
  Connect({server.address()});
  std::promise<Status> opened;
  client_->OpenSession(VolumeId(1), [&](Status status) { opened.set_value(std::move(status)); });
  server.AnswerOpenSession(7, /*lease_ms=*/30);
  ASSERT_TRUE(opened.get_future().get().ok());
  ReceivedRequest alive = server.Next();
  ASSERT_EQ(alive.method, rpc::Method::kKeepAlive);
  EXPECT_EQ(alive.As<proto::KeepAliveRequest>().session(), 7u);
  proto::KeepAliveReply reply;
  reply.set_lease_ms(30);
  alive.responder->Reply(reply);
  ReceivedRequest next = server.Next();
  ASSERT_EQ(next.method, rpc::Method::kKeepAlive);
  next.responder->Fail(Status(StatusCode::kUnknownSession, "no session 7"));
  server.AnswerOpenSession(8);
}

TEST_F(MetadataClientTest, KeepAlivesMentionNewClusterMaps) {
  ScriptedMetadataServer server;
  Connect({server.address()});
  std::promise<Status> opened;
  client_->OpenSession(VolumeId(1), [&](Status status) { opened.set_value(std::move(status)); });
  server.AnswerOpenSession(7, /*lease_ms=*/30);
  ASSERT_TRUE(opened.get_future().get().ok());
  ReceivedRequest alive = server.Next();
  proto::KeepAliveReply reply;
  reply.set_lease_ms(600'000);
  reply.set_map_version(4);
  alive.responder->Reply(reply);
  ReceivedRequest fetch = server.Next();
  ASSERT_EQ(fetch.method, rpc::Method::kGetClusterMap);
  proto::GetClusterMapReply map;
  map.mutable_map()->set_version(4);
  fetch.responder->Reply(map);
  EXPECT_TRUE(WaitStatus([&](StatusCallback done) { client_->RefreshClusterMap(4, std::move(done)); }).ok());
  EXPECT_EQ(client_->cluster_map()->version(), 4u);
}

TEST_F(MetadataClientTest, WaitingMutationsShareAFrame) {
  ScriptedMetadataServer server;
  ConnectWithSession(server);
  std::vector<Answer<proto::MutationReply>> answers;
  for (int i = 0; i < 6; ++i) answers.push_back(Mkdir("d" + std::to_string(i), /*batched=*/true));
  ReceivedRequest first = server.Next();
  ReceivedRequest second = server.Next();
  EXPECT_EQ(first.As<proto::MutateBatchRequest>().mutations_size(), 1);
  EXPECT_EQ(second.As<proto::MutateBatchRequest>().mutations_size(), 1);
  proto::MutateBatchReply reply;
  reply.add_replies()->mutable_attributes()->set_inode(100);
  first.responder->Reply(reply);
  EXPECT_EQ(answers[0].get()->attributes().inode(), 100u);
  ReceivedRequest rest = server.Next();
  const auto batch = rest.As<proto::MutateBatchRequest>();
  ASSERT_EQ(batch.mutations_size(), 4);
  EXPECT_EQ(batch.mutations(0).sequence(), 3u);
  EXPECT_EQ(batch.mutations(3).sequence(), 6u);
  // Each has a result of its own.
  proto::MutateBatchReply mixed;
  for (int i = 0; i < 4; ++i) mixed.add_replies();
  mixed.mutable_replies(1)->set_status(static_cast<uint32_t>(StatusCode::kExists));
  mixed.mutable_replies(1)->set_message("the name exists");
  rest.responder->Reply(mixed);
  second.responder->Reply(reply);
  EXPECT_TRUE(answers[2].get().ok());
  EXPECT_EQ(answers[3].get().status().code(), StatusCode::kExists);
  EXPECT_TRUE(answers[4].get().ok());
  EXPECT_TRUE(answers[1].get().ok());
}

TEST_F(MetadataClientTest, ABatchGoesOnUnderANewSession) {
  ScriptedMetadataServer server;
  ConnectWithSession(server, 7);
  auto answer = Mkdir("a", /*batched=*/true);
  proto::MutateBatchReply refused;
  refused.add_replies()->set_status(static_cast<uint32_t>(StatusCode::kUnknownSession));
  server.Next().responder->Reply(refused);
  server.AnswerOpenSession(8);
  ReceivedRequest again = server.Next();
  EXPECT_EQ(again.method, rpc::Method::kMutate);
  EXPECT_EQ(again.mutation().session(), 8u);
  AnswerMutation(std::move(again));
  EXPECT_TRUE(answer.get().ok());
}

TEST_F(MetadataClientTest, ShutdownFailsWhatIsUnderWay) {
  ScriptedMetadataServer server;
  ConnectWithSession(server);
  auto mutation = Mkdir("a");
  auto read = GetAttributes(42);
  ReceivedRequest first = server.Next();
  ReceivedRequest second = server.Next();
  client_->Shutdown(/*deadline_ms=*/1);
  EXPECT_EQ(mutation.get().status().code(), StatusCode::kCancelled);
  EXPECT_EQ(read.get().status().code(), StatusCode::kCancelled);
  EXPECT_EQ(GetAttributes(1).get().status().code(), StatusCode::kCancelled);
  EXPECT_EQ(Mkdir("b").get().status().code(), StatusCode::kCancelled);
}

TEST_F(MetadataClientTest, ShutdownClosesTheSession) {
  ScriptedMetadataServer server;
  ConnectWithSession(server, 7);
  std::thread shutdown([&] { client_->Shutdown(/*deadline_ms=*/10'000); });
  ReceivedRequest request = server.Next();
  EXPECT_EQ(request.mutation().close_session().session(), 7u);
  request.responder->Reply(proto::MutationReply());
  shutdown.join();
}

}  // namespace
}  // namespace tarn::client
