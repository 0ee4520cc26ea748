// A whole metadata server in this process, spoken to over its sockets.
#include "metaserver/service/metadata_server.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "common/base/posix_io.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "common/rpc/frame_server.h"
#include "common/rpc/grpc_status.h"
#include "proto/admin.grpc.pb.h"
#include "proto/cluster.grpc.pb.h"
#include "proto/hello.pb.h"
#include "proto/metadata.pb.h"

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;
using rpc::Method;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class MetadataServerTest : public ::testing::Test {
 protected:
  MetadataServerTest() {
    std::string pattern = (fs::temp_directory_path() / "metadata_server_test.XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    loop_ = std::move(rpc::EventLoop::Start("test client")).value();
  }
  ~MetadataServerTest() override {
    Disconnect();
    server_.reset();
    fs::remove_all(directory_);
  }

  MetadataServerOptions Options() {
    MetadataServerOptions options;
    options.directory = directory_ + "/meta";
    options.listen = "127.0.0.1:0";
    options.memory_bytes = 64 << 20;
    options.reclaim_delay_ms = 0;
    options.faults = faults_.get();
    options.on_failure = [](const Status& status) { ADD_FAILURE() << status.ToString(); };
    return options;
  }

  void StartServer() {
    auto started = MetadataServer::Start(Options(), &clock_, &random_);
    ASSERT_TRUE(started.ok()) << started.status().ToString();
    server_ = std::move(*started);
    Connect();
  }

  void Connect() {
    proto::HelloRequest hello;
    hello.set_protocol_version(1);
    hello.set_protocol_version_min(1);
    rpc::FrameClientOptions options;
    options.address = server_->address();
    client_ = rpc::FrameClient::Create(loop_.get(), options, hello);
    const auto channel = grpc::CreateChannel(server_->grpc_address(), grpc::InsecureChannelCredentials());
    admin_ = proto::AdminService::NewStub(channel);
    cluster_ = proto::ClusterService::NewStub(channel);
    // A server that has only just started does not lead yet.
    proto::ListVolumesReply reply;
    Status status;
    do {
      status = Call(Method::kListVolumes, proto::ListVolumesRequest(), &reply);
    } while (status.code() == StatusCode::kNotLeader || status.code() == StatusCode::kResourceExhausted);
  }

  void Disconnect() {
    if (client_) client_->Close();
    client_.reset();
  }

  void RestartServer() {
    Disconnect();
    server_.reset();
    StartServer();
  }

  Status Call(Method method, const google::protobuf::MessageLite& request, google::protobuf::MessageLite* reply) {
    return client_->CallAndWait(method, request, reply);
  }

  Status Mutate(proto::Mutation mutation, proto::MutationReply* reply) {
    if (mutation.op_case() != proto::Mutation::kOpenSession) {
      if (mutation.session() == 0) mutation.set_session(session_);
      if (mutation.sequence() == 0) mutation.set_sequence(++sequence_);
    }
    return Call(Method::kMutate, mutation, reply);
  }

  void OpenSession() {
    proto::Mutation mutation;
    mutation.mutable_open_session()->set_nonce(random_.NextNonZero());
    proto::MutationReply reply;
    ASSERT_EQ(Mutate(mutation, &reply).ToString(), "kOk");
    EXPECT_GT(reply.lease_ms(), 0u);
    session_ = reply.session();
    sequence_ = 0;
  }

  uint64_t CreateVolume(const std::string& name) {
    grpc::ClientContext call;
    proto::CreateVolumeRequest request;
    request.mutable_volume()->set_name(name);
    proto::VolumeReply reply;
    const grpc::Status status = admin_->CreateVolume(&call, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply.volume().root();
  }

  proto::Mutation Mkdir(uint64_t parent, const std::string& name) {
    proto::Mutation mutation;
    mutation.mutable_mkdir()->set_parent(parent);
    mutation.mutable_mkdir()->set_name(name);
    mutation.mutable_mkdir()->set_mode(0755);
    return mutation;
  }

  Status Lookup(uint64_t parent, const std::string& name, proto::LookupReply* reply) {
    proto::LookupRequest request;
    request.set_parent(parent);
    request.set_name(name);
    return Call(Method::kLookup, request, reply);
  }

  proto::RegisterServerReply RegisterServer(uint64_t incarnation, const proto::RegisterServerReply& earlier = {}) {
    grpc::ClientContext call;
    proto::RegisterServerRequest request;
    request.set_cluster_id(earlier.cluster_id());
    request.set_server_id(earlier.server_id());
    request.set_incarnation(incarnation);
    request.set_address(chunk_server_ != nullptr ? chunk_server_->address() : "127.0.0.1:7410");
    request.set_node("node");
    proto::TargetReport* target = request.add_targets();
    target->set_capacity_bytes(1000);
    target->set_available_bytes(900);
    if (earlier.target_ids_size() != 0) target->set_id(earlier.target_ids(0));
    proto::RegisterServerReply reply;
    const grpc::Status status = cluster_->RegisterServer(&call, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply;
  }

  Status Heartbeat(const proto::RegisterServerReply& server, uint64_t incarnation, proto::HeartbeatReply* reply) {
    grpc::ClientContext call;
    proto::HeartbeatRequest request;
    request.set_cluster_id(server.cluster_id());
    request.set_server_id(server.server_id());
    request.set_incarnation(incarnation);
    proto::TargetReport* target = request.add_targets();
    target->set_id(server.target_ids(0));
    target->set_capacity_bytes(1000);
    target->set_available_bytes(700);
    return rpc::FromGrpcStatus(cluster_->Heartbeat(&call, request, reply));
  }

  proto::StatusReply ClusterStatus() {
    grpc::ClientContext call;
    proto::StatusReply reply;
    const grpc::Status status = admin_->Status(&call, {}, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply;
  }

  std::string directory_;
  SystemClock clock_;
  SystemRandom random_;
  std::unique_ptr<fault::FaultPoints> faults_;
  std::unique_ptr<rpc::EventLoop> loop_;
  std::unique_ptr<rpc::FrameServer> chunk_server_;  // where a played one is said to live
  std::unique_ptr<MetadataServer> server_;
  std::shared_ptr<rpc::FrameClient> client_;
  std::unique_ptr<proto::AdminService::Stub> admin_;
  std::unique_ptr<proto::ClusterService::Stub> cluster_;
  uint64_t session_ = 0;
  uint64_t sequence_ = 0;
};

TEST_F(MetadataServerTest, HelloTellsWhoItIs) {
  StartServer();
  const proto::HelloReply hello = client_->hello_reply();
  EXPECT_EQ(hello.role(), proto::PEER_ROLE_METASERVER);
  EXPECT_EQ(hello.cluster_id(), server_->cluster_id());
  EXPECT_THAT(hello.cluster_id(), SizeIs(16));
  EXPECT_EQ(hello.grpc_address(), server_->grpc_address());
  EXPECT_EQ(hello.server_id(), 1u);
}

TEST_F(MetadataServerTest, HelloOfAnotherClusterIsRefused) {
  StartServer();
  proto::HelloRequest hello;
  hello.set_protocol_version(1);
  hello.set_protocol_version_min(1);
  hello.set_cluster_id("another cluster!");
  rpc::FrameClientOptions options;
  options.address = server_->address();
  const auto client = rpc::FrameClient::Create(loop_.get(), options, hello);
  proto::ListVolumesReply reply;
  const Status status = client->CallAndWait(Method::kListVolumes, proto::ListVolumesRequest(), &reply);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("another cluster"));
}

TEST_F(MetadataServerTest, MadeDirectoryIsFoundAndSurvivesARestart) {
  StartServer();
  OpenSession();
  const uint64_t root = CreateVolume("data");
  proto::MutationReply made;
  ASSERT_EQ(Mutate(Mkdir(root, "images"), &made).ToString(), "kOk");
  proto::LookupReply found;
  ASSERT_EQ(Lookup(root, "images", &found).ToString(), "kOk");
  EXPECT_EQ(found.attributes().inode(), made.attributes().inode());
  RestartServer();
  ASSERT_EQ(Lookup(root, "images", &found).ToString(), "kOk");
  EXPECT_EQ(found.attributes().inode(), made.attributes().inode());
  proto::MutationReply second;
  ASSERT_EQ(Mutate(Mkdir(root, "labels"), &second).ToString(), "kOk") << "the session survives as well";
  EXPECT_NE(second.attributes().inode(), made.attributes().inode());
}

TEST_F(MetadataServerTest, RepeatedSequenceGetsTheFirstAnswer) {
  StartServer();
  OpenSession();
  const uint64_t root = CreateVolume("data");
  proto::Mutation mutation = Mkdir(root, "images");
  mutation.set_session(session_);
  mutation.set_sequence(1);
  proto::MutationReply first;
  ASSERT_EQ(Mutate(mutation, &first).ToString(), "kOk");
  proto::MutationReply second;
  ASSERT_EQ(Mutate(mutation, &second).ToString(), "kOk");
  EXPECT_EQ(second.attributes().inode(), first.attributes().inode());
  RestartServer();
  ASSERT_EQ(Mutate(mutation, &second).ToString(), "kOk");
  EXPECT_EQ(second.attributes().inode(), first.attributes().inode());
  mutation.set_sequence(2);
  EXPECT_EQ(Mutate(mutation, &second).code(), StatusCode::kExists);
}

TEST_F(MetadataServerTest, LostAnswerIsFoundByTheRetry) {
  const fault::FaultPointName known[] = {{"meta.lose_reply/mkdir"}};
  faults_ = std::move(fault::FaultPoints::Parse("meta.lose_reply/mkdir=always", known)).value();
  StartServer();
  OpenSession();
  const uint64_t root = CreateVolume("data");
  proto::Mutation mutation = Mkdir(root, "images");
  mutation.set_session(session_);
  mutation.set_sequence(1);
  proto::MutationReply reply;
  EXPECT_EQ(Mutate(mutation, &reply).code(), StatusCode::kUnavailable);
  EXPECT_EQ(Mutate(mutation, &reply).ToString(), "kOk");
}

TEST_F(MetadataServerTest, BatchGivesOneReplyEach) {
  StartServer();
  OpenSession();
  const uint64_t root = CreateVolume("data");
  proto::MutateBatchRequest batch;
  for (const char* name : {"a", "b", "a"}) {
    proto::Mutation mutation = Mkdir(root, name);
    mutation.set_session(session_);
    mutation.set_sequence(++sequence_);
    *batch.add_mutations() = mutation;
  }
  proto::MutateBatchReply reply;
  ASSERT_EQ(Call(Method::kMutateBatch, batch, &reply).ToString(), "kOk");
  ASSERT_EQ(reply.replies_size(), 3);
  EXPECT_EQ(reply.replies(0).status(), 0u);
  EXPECT_EQ(reply.replies(1).status(), 0u);
  EXPECT_EQ(reply.replies(2).status(), static_cast<uint32_t>(StatusCode::kExists));
}

TEST_F(MetadataServerTest, WhatClientsMayNotSendIsRefused) {
  StartServer();
  OpenSession();
  proto::MutationReply reply;
  proto::Mutation mutation;
  EXPECT_EQ(Mutate(mutation, &reply).code(), StatusCode::kInvalidArgument);
  mutation.mutable_add_groups();
  EXPECT_EQ(Mutate(mutation, &reply).code(), StatusCode::kInvalidArgument);
  mutation.mutable_close_session()->set_session(session_);
  mutation.mutable_close_session()->set_expired(true);
  EXPECT_EQ(Mutate(mutation, &reply).code(), StatusCode::kInvalidArgument);
  mutation = Mkdir(1, "a");
  mutation.set_session(session_ + 1);
  EXPECT_EQ(Mutate(mutation, &reply).code(), StatusCode::kUnknownSession);
  proto::KeepAliveRequest keep_alive;
  keep_alive.set_session(session_ + 1);
  proto::KeepAliveReply kept;
  EXPECT_EQ(Call(Method::kKeepAlive, keep_alive, &kept).code(), StatusCode::kUnknownSession);
  EXPECT_EQ(Call(Method::kReadChunk, keep_alive, &kept).code(), StatusCode::kNotSupported);
}

TEST_F(MetadataServerTest, ClosedSessionIsUnknown) {
  StartServer();
  OpenSession();
  proto::Mutation mutation;
  mutation.mutable_close_session()->set_session(session_);
  proto::MutationReply reply;
  ASSERT_EQ(Mutate(mutation, &reply).ToString(), "kOk");
  EXPECT_EQ(Mutate(Mkdir(1, "a"), &reply).code(), StatusCode::kUnknownSession);
}

TEST_F(MetadataServerTest, RegisteredServerGetsGroupsAndTheClusterIsOk) {
  StartServer();
  EXPECT_EQ(ClusterStatus().health(), "unavailable");
  const proto::RegisterServerReply server = RegisterServer(77);
  ASSERT_EQ(server.target_ids_size(), 1);
  EXPECT_EQ(server.cluster_id(), server_->cluster_id());
  proto::HeartbeatReply beat;
  while (ClusterStatus().health() != "ok") ASSERT_EQ(Heartbeat(server, 77, &beat).ToString(), "kOk");
  const proto::StatusReply status = ClusterStatus();
  EXPECT_EQ(status.placement_groups(), 16u);
  ASSERT_EQ(status.targets_size(), 1);
  EXPECT_EQ(status.targets(0).available_bytes(), 700u) << "usage comes from heartbeats";
  ASSERT_EQ(status.metaservers_size(), 1);
  EXPECT_EQ(status.metaservers(0).role(), "leader");
  EXPECT_EQ(status.metaservers(0).address(), server_->address());

  proto::GetClusterMapRequest request;
  proto::GetClusterMapReply map;
  ASSERT_EQ(Call(Method::kGetClusterMap, request, &map).ToString(), "kOk");
  EXPECT_EQ(map.map().groups_size(), 16);
  request.set_newer_than(map.map().version());
  ASSERT_EQ(Call(Method::kGetClusterMap, request, &map).ToString(), "kOk");
  EXPECT_FALSE(map.has_map());
}

TEST_F(MetadataServerTest, DataHasNoPlaceYetWhileAClusterIsSetUp) {
  StartServer();
  const uint64_t root = CreateVolume("v");
  OpenSession();
  proto::Mutation create;
  create.mutable_create()->set_parent(root);
  create.mutable_create()->set_name("f");
  create.mutable_create()->set_type(proto::FILE_TYPE_REGULAR);
  proto::MutationReply reply;
  ASSERT_EQ(Mutate(create, &reply).ToString(), "kOk");
  proto::Mutation allocate;
  allocate.set_sequence(++sequence_);
  allocate.mutable_allocate_data()->set_inode(reply.attributes().inode());
  proto::Mutation reserve;
  reserve.set_sequence(++sequence_);
  reserve.mutable_reserve_data_ids()->set_volume(reply.attributes().volume());
  reserve.mutable_reserve_data_ids()->set_count(3);
  // Under the same numbers, as a client asks again: nothing of it is remembered.
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Mutate(allocate, &reply).code(), StatusCode::kResourceExhausted);
    EXPECT_EQ(Mutate(reserve, &reply).code(), StatusCode::kResourceExhausted);
  }
  (void)RegisterServer(77);
  Status status;
  while ((status = Mutate(allocate, &reply)).code() == StatusCode::kResourceExhausted) std::this_thread::yield();
  ASSERT_EQ(status.ToString(), "kOk");
  EXPECT_EQ(reply.status(), 0) << reply.message();
  EXPECT_NE(reply.attributes().data_id(), 0u);
  ASSERT_EQ(Mutate(reserve, &reply).ToString(), "kOk");
  EXPECT_EQ(reply.data_id_count(), 3u) << reply.message();
}

TEST_F(MetadataServerTest, ReturningServerKeepsItsIdsAndAnOldLifeIsRefused) {
  StartServer();
  const proto::RegisterServerReply first = RegisterServer(77);
  RestartServer();
  // The new leader does not know whether the process before has its lease: it looks who is there.
  rpc::FrameServerOptions options;
  options.listen = "127.0.0.1:0";
  auto living = rpc::FrameServer::Start(
      options,
      [](const proto::HelloRequest&, proto::HelloReply* reply) {
        reply->set_protocol_version(1);
        reply->set_incarnation(78);
        return Status::Ok();
      },
      [](rpc::Request, std::unique_ptr<rpc::Responder> responder) { responder->Fail(Status(StatusCode::kNotSupported, "only a hello")); });
  ASSERT_TRUE(living.ok()) << living.status().ToString();
  chunk_server_ = std::move(*living);
  const proto::RegisterServerReply second = RegisterServer(78, first);
  EXPECT_EQ(second.server_id(), first.server_id());
  ASSERT_EQ(second.target_ids_size(), 1);
  EXPECT_EQ(second.target_ids(0), first.target_ids(0));
  proto::HeartbeatReply beat;
  EXPECT_EQ(Heartbeat(second, 78, &beat).ToString(), "kOk");
  EXPECT_EQ(Heartbeat(first, 77, &beat).code(), StatusCode::kWrongIncarnation);
}

TEST_F(MetadataServerTest, DeletedVolumeIsGoneAtOnceAndPurged) {
  StartServer();
  OpenSession();
  const uint64_t root = CreateVolume("data");
  proto::MutationReply made;
  ASSERT_EQ(Mutate(Mkdir(root, "images"), &made).ToString(), "kOk");
  grpc::ClientContext call;
  proto::DeleteVolumeRequest request;
  request.set_name("data");
  proto::VolumeReply reply;
  EXPECT_EQ(rpc::FromGrpcStatus(admin_->DeleteVolume(&call, request, &reply)).code(), StatusCode::kNotEmpty);
  request.set_recursive(true);
  grpc::ClientContext second_call;
  EXPECT_EQ(rpc::FromGrpcStatus(admin_->DeleteVolume(&second_call, request, &reply)).ToString(), "kOk");
  EXPECT_EQ(ClusterStatus().volumes_size(), 0);
  // The purge runs by itself.
  proto::GetAttrRequest get;
  get.set_inode(made.attributes().inode());
  proto::GetAttrReply attributes;
  while (Call(Method::kGetAttr, get, &attributes).ok()) std::this_thread::yield();
}

TEST_F(MetadataServerTest, StatFsTellsTheServersSpaceUnlessThereIsAQuota) {
  StartServer();
  RegisterServer(77);
  CreateVolume("data");
  proto::GetVolumeRequest get;
  get.set_name("data");
  proto::GetVolumeReply volume;
  ASSERT_EQ(Call(Method::kGetVolume, get, &volume).ToString(), "kOk");
  proto::StatFsRequest request;
  request.set_volume(volume.volume().id());
  proto::StatFsReply reply;
  ASSERT_EQ(Call(Method::kStatFs, request, &reply).ToString(), "kOk");
  EXPECT_EQ(reply.total_bytes(), 1000u);
  EXPECT_EQ(reply.free_bytes(), 900u);
  grpc::ClientContext call;
  proto::ResizeVolumeRequest resize;
  resize.set_name("data");
  resize.set_quota_bytes(500);
  proto::VolumeReply resized;
  ASSERT_TRUE(admin_->ResizeVolume(&call, resize, &resized).ok());
  ASSERT_EQ(Call(Method::kStatFs, request, &reply).ToString(), "kOk");
  EXPECT_EQ(reply.total_bytes(), 500u);
  EXPECT_EQ(reply.free_bytes(), 500u);
}

TEST_F(MetadataServerTest, SecondServerOnTheDirectoryIsRefused) {
  StartServer();
  auto second = MetadataServer::Start(Options(), &clock_, &random_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), StatusCode::kBusy);
  EXPECT_THAT(second.status().message(), HasSubstr("LOCK"));
}

TEST_F(MetadataServerTest, TakenPortsAreRefused) {
  StartServer();
  MetadataServerOptions options = Options();
  options.directory = directory_ + "/other";
  options.listen = server_->address();
  auto second = MetadataServer::Start(options, &clock_, &random_);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(second.status().message(), HasSubstr(server_->address()));
  options.listen = "127.0.0.1:0";
  options.grpc_listen = server_->grpc_address();
  second = MetadataServer::Start(options, &clock_, &random_);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(second.status().message(), HasSubstr(server_->grpc_address()));
}

TEST_F(MetadataServerTest, DamagedIdentityIsRefusedAndNamed) {
  StartServer();
  Disconnect();
  server_.reset();
  const std::string path = directory_ + "/meta/METASERVER";
  auto bytes = std::move(ReadSmallFile(path)).value();
  bytes[20] = static_cast<char>(bytes[20] ^ 1);
  std::ofstream(path, std::ios::binary) << bytes;
  const auto started = MetadataServer::Start(Options(), &clock_, &random_);
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.status().code(), StatusCode::kCorruption);
  EXPECT_THAT(started.status().message(), HasSubstr(path));
}

TEST_F(MetadataServerTest, StateOfAnotherClusterIsRefusedAndNamed) {
  StartServer();
  Disconnect();
  server_.reset();
  MetadataServerOptions other = Options();
  other.directory = directory_ + "/other";
  {
    auto server = MetadataServer::Start(other, &clock_, &random_);
    ASSERT_TRUE(server.ok());
    while (!(*server)->leads()) std::this_thread::yield();
  }
  fs::remove_all(directory_ + "/meta/state");
  fs::rename(directory_ + "/other/state", directory_ + "/meta/state");
  const auto started = MetadataServer::Start(Options(), &clock_, &random_);
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.status().code(), StatusCode::kCorruption);
  EXPECT_THAT(started.status().message(), HasSubstr("/state"));
}

// A client that caches: a session and a connection of its own, on which pushes are answered as they come, or kept.
class CachingClient {
 public:
  CachingClient(rpc::EventLoop* loop, const std::string& address, uint64_t nonce) : loop_(loop) {
    Connect(address);
    proto::Mutation mutation;
    mutation.mutable_open_session()->set_nonce(nonce);
    mutation.mutable_open_session()->set_caches(true);
    proto::MutationReply reply;
    EXPECT_TRUE(client_->CallAndWait(Method::kMutate, mutation, &reply).ok());
    session_ = reply.session();
  }
  ~CachingClient() { client_->Close(); }

  void Connect(const std::string& address) {
    if (client_) client_->Close();
    proto::HelloRequest hello;
    hello.set_protocol_version(1);
    hello.set_protocol_version_min(1);
    hello.set_session(session_);
    rpc::FrameClientOptions options;
    options.address = address;
    options.push_handler = [this](Method, std::span<const uint8_t> message) {
      MutexLock lock(mutex_);
      ASSERT_TRUE(pushes_.emplace_back().ParseFromArray(message.data(), static_cast<int>(message.size())));
      came_.NotifyAll();
    };
    client_ = rpc::FrameClient::Create(loop_, options, hello);
  }

  proto::LookupReply Lookup(uint64_t parent, const std::string& name) {
    proto::LookupRequest request;
    request.set_parent(parent);
    request.set_name(name);
    request.set_session(session_);
    proto::LookupReply reply;
    EXPECT_TRUE(client_->CallAndWait(Method::kLookup, request, &reply).ok());
    return reply;
  }
  proto::KeepAliveReply KeepAlive(uint64_t term) {
    proto::KeepAliveRequest request;
    request.set_session(session_);
    request.set_term(term);
    proto::KeepAliveReply reply;
    EXPECT_TRUE(client_->CallAndWait(Method::kKeepAlive, request, &reply).ok());
    return reply;
  }
  proto::InvalidatePush WaitForPush() {
    MutexLock lock(mutex_);
    while (pushes_.empty()) came_.Wait(lock);
    proto::InvalidatePush push = pushes_.front();
    pushes_.erase(pushes_.begin());
    return push;
  }
  void Acknowledge(const proto::InvalidatePush& push, uint64_t open_inode = 0) {
    proto::AckPushRequest ack;
    ack.set_session(session_);
    ack.set_term(push.term());
    ack.add_pushes(push.push());
    if (open_inode != 0) ack.add_open_inodes(open_inode);
    proto::AckPushReply reply;
    EXPECT_TRUE(client_->CallAndWait(Method::kAckPush, ack, &reply).ok());
  }
  // Sent, not waited for.
  void Start(proto::Mutation mutation) {
    mutation.set_session(session_);
    mutation.set_sequence(++sequence_);
    client_->Call(Method::kMutate, mutation, {}, [this](const rpc::Reply& reply) {
      EXPECT_TRUE(reply.status.ok()) << reply.status.ToString();
      MutexLock lock(mutex_);
      ++answers_;
      came_.NotifyAll();
    });
  }
  void WaitForAnswers(int count) {
    MutexLock lock(mutex_);
    while (answers_ < count) came_.Wait(lock);
  }
  int answers() {
    MutexLock lock(mutex_);
    return answers_;
  }

 private:
  rpc::EventLoop* const loop_;
  std::shared_ptr<rpc::FrameClient> client_;
  uint64_t session_ = 0;
  uint64_t sequence_ = 0;
  Mutex mutex_;
  CondVar came_;
  std::vector<proto::InvalidatePush> pushes_;
  int answers_ = 0;
};

TEST_F(MetadataServerTest, ChangeIsAnsweredWhenTheOthersHaveHeardOfIt) {
  StartServer();
  const uint64_t root = CreateVolume("v");
  CachingClient a(loop_.get(), server_->address(), 1);
  CachingClient b(loop_.get(), server_->address(), 2);
  const proto::LookupReply missing = b.Lookup(root, "d");
  EXPECT_FALSE(missing.has_attributes());
  EXPECT_EQ(missing.grant().directory(), root);
  a.Start(Mkdir(root, "d"));
  const proto::InvalidatePush push = b.WaitForPush();
  ASSERT_EQ(push.items_size(), 1);
  EXPECT_EQ(push.items(0).directory(), root);
  EXPECT_EQ(push.items(0).names(0), "d");
  EXPECT_TRUE(b.Lookup(root, "d").has_attributes()) << "the change is there, only its answer waits";
  EXPECT_EQ(a.answers(), 0);
  b.Acknowledge(push);
  a.WaitForAnswers(1);
}

TEST_F(MetadataServerTest, PushesFollowASessionToItsNextConnection) {
  StartServer();
  const uint64_t root = CreateVolume("v");
  CachingClient a(loop_.get(), server_->address(), 1);
  CachingClient b(loop_.get(), server_->address(), 2);
  b.Lookup(root, "d");
  a.Start(Mkdir(root, "d"));
  const proto::InvalidatePush lost = b.WaitForPush();
  b.Connect(server_->address());
  b.KeepAlive(lost.term());
  const proto::InvalidatePush again = b.WaitForPush();
  EXPECT_EQ(again.push(), lost.push());
  b.Acknowledge(again);
  a.WaitForAnswers(1);
}

TEST_F(MetadataServerTest, RestartedServerWaitsUntilSessionsHaveRegistered) {
  StartServer();
  const uint64_t root = CreateVolume("v");
  CachingClient a(loop_.get(), server_->address(), 1);
  CachingClient b(loop_.get(), server_->address(), 2);
  const uint64_t old_term = b.Lookup(root, "d").grant().term();
  RestartServer();
  a.Connect(server_->address());
  b.Connect(server_->address());
  a.Start(Mkdir(root, "d"));
  proto::KeepAliveReply reply;
  do {
    reply = b.KeepAlive(old_term);
  } while (reply.term() == 0);  // not yet
  EXPECT_GT(reply.term(), old_term);
  EXPECT_EQ(b.WaitForPush().items(0).ShortDebugString(), "drop: true");
  EXPECT_EQ(b.Lookup(root, "d").grant().directory(), 0u) << "not before it has registered";
  EXPECT_EQ(a.answers(), 0);
  b.KeepAlive(reply.term());
  a.WaitForAnswers(1);
  EXPECT_EQ(b.Lookup(root, "d").grant().directory(), root);
}

TEST_F(MetadataServerTest, FileUnlinkedElsewhereStaysForWhoHasItOpen) {
  StartServer();
  const uint64_t root = CreateVolume("v");
  CachingClient a(loop_.get(), server_->address(), 1);
  CachingClient b(loop_.get(), server_->address(), 2);
  proto::Mutation create;
  create.mutable_create()->set_parent(root);
  create.mutable_create()->set_name("f");
  create.mutable_create()->set_type(proto::FILE_TYPE_FIFO);
  a.Start(create);
  a.WaitForAnswers(1);
  const uint64_t inode = b.Lookup(root, "f").attributes().inode();
  proto::Mutation unlink;
  unlink.mutable_unlink()->set_parent(root);
  unlink.mutable_unlink()->set_name("f");
  a.Start(unlink);
  b.Acknowledge(b.WaitForPush(), inode);
  a.WaitForAnswers(2);
  proto::GetAttrRequest request;
  request.set_inode(inode);
  proto::GetAttrReply reply;
  EXPECT_TRUE(Call(Method::kGetAttr, request, &reply).ok());
  EXPECT_EQ(reply.attributes().nlink(), 0u);
  proto::Mutation release;
  release.mutable_release_orphan()->set_inode(inode);
  // The settling may still be on its way; it is ahead of the release in the log.
  b.Start(release);
  b.WaitForAnswers(1);
  EXPECT_EQ(Call(Method::kGetAttr, request, &reply).code(), StatusCode::kStaleHandle);
}

}  // namespace
}  // namespace tarn::meta
