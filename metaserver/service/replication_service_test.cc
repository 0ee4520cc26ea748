// Placement groups of several copies through a whole metadata server: chunk servers are played by the test.
#include "metaserver/service/metadata_server.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/rpc/frame_server.h"
#include "common/rpc/grpc_status.h"
#include "proto/admin.grpc.pb.h"
#include "proto/cluster.grpc.pb.h"
#include "proto/hello.pb.h"

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int64_t kPatienceMs = 20'000;

struct PlayedServer {
  proto::RegisterServerReply registered;
  uint64_t incarnation = 0;
  uint64_t map_version = 0;
  uint64_t target() const { return registered.target_ids(0); }
};

class ReplicationServiceTest : public testing::Test {
 protected:
  ReplicationServiceTest() {
    std::string pattern = (fs::temp_directory_path() / "replication_service_test.XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }
  ~ReplicationServiceTest() override {
    server_.reset();
    listener_.reset();
    fs::remove_all(directory_);
  }

  // Where the played servers are said to live: whoever looks finds the process that registered last.
  void Listen() {
    rpc::FrameServerOptions options;
    options.listen = "127.0.0.1:0";
    auto started = rpc::FrameServer::Start(
        options,
        [this](const proto::HelloRequest&, proto::HelloReply* reply) {
          reply->set_protocol_version(1);
          reply->set_incarnation(living_.load());
          return Status::Ok();
        },
        [](rpc::Request, std::unique_ptr<rpc::Responder> responder) { responder->Fail(Status(StatusCode::kNotSupported, "only a hello")); });
    ASSERT_TRUE(started.ok()) << started.status().ToString();
    listener_ = std::move(*started);
  }

  void Start(int64_t lease_ms = 5'000) {
    Listen();
    MetadataServerOptions options;
    options.directory = directory_ + "/meta";
    options.listen = "127.0.0.1:0";
    options.memory_bytes = 64 << 20;
    options.target_lease_ms = lease_ms;
    options.former_target_lease_ms = lease_ms;
    options.on_failure = [](const Status& status) { ADD_FAILURE() << status.ToString(); };
    auto started = MetadataServer::Start(options, &clock_, &random_);
    ASSERT_TRUE(started.ok()) << started.status().ToString();
    server_ = std::move(*started);
    const auto channel = grpc::CreateChannel(server_->grpc_address(), grpc::InsecureChannelCredentials());
    admin_ = proto::AdminService::NewStub(channel);
    cluster_ = proto::ClusterService::NewStub(channel);
    while (!server_->leads()) std::this_thread::yield();
  }

  Status Register(PlayedServer* server, const std::string& node, uint64_t incarnation, bool clean = true,
                  const std::string& address = "") {
    living_ = incarnation;
    return SendRegistration(server, node, incarnation, clean, address);
  }
  Status SendRegistration(PlayedServer* server, const std::string& node, uint64_t incarnation, bool clean = true,
                          const std::string& address = "") {
    grpc::ClientContext call;
    proto::RegisterServerRequest request;
    request.set_cluster_id(server->registered.cluster_id());
    request.set_server_id(server->registered.server_id());
    request.set_incarnation(incarnation);
    request.set_address(address.empty() ? listener_->address() : address);
    request.set_node(node);
    proto::TargetReport* target = request.add_targets();
    target->set_clean_shutdown(clean);
    target->set_capacity_bytes(1000);
    target->set_available_bytes(900);
    if (server->registered.target_ids_size() != 0) target->set_id(server->target());
    proto::RegisterServerReply reply;
    const Status status = rpc::FromGrpcStatus(cluster_->RegisterServer(&call, request, &reply));
    if (!status.ok()) return status;
    server->registered = reply;
    server->incarnation = incarnation;
    server->map_version = reply.map().version();
    return status;
  }
  Status Beat(PlayedServer* server) {
    grpc::ClientContext call;
    proto::HeartbeatRequest request;
    request.set_cluster_id(server->registered.cluster_id());
    request.set_server_id(server->registered.server_id());
    request.set_incarnation(server->incarnation);
    request.set_map_version(server->map_version);
    proto::TargetReport* target = request.add_targets();
    target->set_id(server->target());
    target->set_capacity_bytes(1000);
    target->set_available_bytes(900);
    proto::HeartbeatReply reply;
    const Status status = rpc::FromGrpcStatus(cluster_->Heartbeat(&call, request, &reply));
    if (reply.has_map()) {
      map_ = reply.map();
      server->map_version = map_.version();
    }
    return status;
  }
  void BeatAll() {
    for (PlayedServer& server : servers_) ASSERT_EQ(Beat(&server).ToString(), "kOk");
  }
  Status CreateVolume(const std::string& name, uint32_t replicas) {
    grpc::ClientContext call;
    proto::CreateVolumeRequest request;
    request.mutable_volume()->set_name(name);
    request.mutable_volume()->set_replicas(replicas);
    proto::VolumeReply reply;
    return rpc::FromGrpcStatus(admin_->CreateVolume(&call, request, &reply));
  }
  // The map after the decision.
  void Report(const PlayedServer& server, const proto::PlacementGroup& group, uint64_t target,
              proto::GroupReport::Kind kind) {
    grpc::ClientContext call;
    proto::ReportGroupsRequest request;
    request.set_cluster_id(server.registered.cluster_id());
    request.set_server_id(server.registered.server_id());
    request.set_incarnation(server.incarnation);
    proto::GroupReport* report = request.add_reports();
    report->set_group(group.id());
    report->set_epoch(group.epoch());
    report->set_target(target);
    report->set_kind(kind);
    proto::ReportGroupsReply reply;
    ASSERT_EQ(rpc::FromGrpcStatus(cluster_->ReportGroups(&call, request, &reply)).ToString(), "kOk");
    map_ = reply.map();
  }
  proto::PlacementGroup Group(uint32_t id) {
    for (const proto::PlacementGroup& group : map_.groups()) {
      if (group.id() == id) return group;
    }
    return {};
  }
  proto::PlacementGroup AnyGroupOf(uint32_t replicas) {
    for (const proto::PlacementGroup& group : map_.groups()) {
      if (group.replicas() == replicas) return group;
    }
    return {};
  }
  PlayedServer& ServerOf(uint64_t target) {
    return *std::ranges::find_if(servers_, [&](const PlayedServer& server) { return server.target() == target; });
  }
  // Three servers on nodes a, b and c that know the map of a volume with two copies.
  void SetUpTwoCopies(int64_t lease_ms = 5'000) {
    Start(lease_ms);
    servers_.resize(3);
    ASSERT_TRUE(Register(&servers_[0], "a", 11).ok());
    ASSERT_TRUE(Register(&servers_[1], "b", 12).ok());
    ASSERT_TRUE(Register(&servers_[2], "c", 13).ok());
    ASSERT_EQ(CreateVolume("v", 2).ToString(), "kOk");
    for (int i = 0; i < 2; ++i) BeatAll();
    ASSERT_NE(AnyGroupOf(2).id(), 0u);
  }
  proto::NodeInfo NodeOfName(const std::string& name) {
    grpc::ClientContext call;
    proto::ListNodesReply reply;
    EXPECT_TRUE(admin_->ListNodes(&call, {}, &reply).ok());
    for (const proto::NodeInfo& node : reply.nodes()) {
      if (node.name() == name) return node;
    }
    return {};
  }
  Status Drain(const std::string& node, bool force) {
    grpc::ClientContext call;
    proto::DrainNodeRequest request;
    request.set_node(node);
    request.set_force(force);
    proto::DrainNodeReply reply;
    return rpc::FromGrpcStatus(admin_->DrainNode(&call, request, &reply));
  }
  bool WaitFor(const std::function<bool()>& holds) {
    const int64_t end_ns = clock_.MonotonicNs() + kPatienceMs * 1'000'000;
    while (clock_.MonotonicNs() < end_ns) {
      if (holds()) return true;
      std::this_thread::yield();
    }
    return false;
  }

  std::string directory_;
  std::atomic<uint64_t> living_{0};
  std::unique_ptr<rpc::FrameServer> listener_;
  SystemClock clock_;
  SystemRandom random_;
  std::unique_ptr<MetadataServer> server_;
  std::unique_ptr<proto::AdminService::Stub> admin_;
  std::unique_ptr<proto::ClusterService::Stub> cluster_;
  std::vector<PlayedServer> servers_;
  proto::ClusterMap map_;  // the newest that was told
};

TEST_F(ReplicationServiceTest, VolumeOfSeveralCopiesNeedsAsManyNodes) {
  Start();
  servers_.resize(3);
  ASSERT_TRUE(Register(&servers_[0], "a", 11).ok());
  ASSERT_TRUE(Register(&servers_[1], "a", 12).ok());
  const Status refused = CreateVolume("v", 2);
  EXPECT_EQ(refused.code(), StatusCode::kNoSpace);
  EXPECT_THAT(refused.message(), HasSubstr("2 copies need as many nodes with durable targets: there are 1"));
  ASSERT_TRUE(Register(&servers_[2], "b", 13).ok());
  EXPECT_EQ(CreateVolume("v", 2).ToString(), "kOk");
  EXPECT_EQ(CreateVolume("w", 2).ToString(), "kOk");
  EXPECT_EQ(CreateVolume("x", 3).code(), StatusCode::kNoSpace);
  EXPECT_EQ(CreateVolume("y", 4).code(), StatusCode::kInvalidArgument);
  ASSERT_TRUE(Beat(&servers_[0]).ok());
  EXPECT_EQ(std::ranges::count(map_.group_sets(), 2u, &proto::GroupSet::replicas), 1);
  EXPECT_EQ(AnyGroupOf(2).targets_size(), 2);
}

TEST_F(ReplicationServiceTest, ReportsOfThePrimaryAreDecidedAtOnce) {
  SetUpTwoCopies();
  const proto::PlacementGroup group = AnyGroupOf(2);
  const uint64_t primary = group.targets(0);
  const uint64_t member = group.targets(1);
  Report(ServerOf(member), group, primary, proto::GroupReport::KIND_FAILED);
  EXPECT_EQ(Group(group.id()).epoch(), group.epoch()) << "not the primary";
  Report(ServerOf(primary), group, member, proto::GroupReport::KIND_FAILED);
  const proto::PlacementGroup without = Group(group.id());
  EXPECT_EQ(without.epoch(), group.epoch() + 1);
  EXPECT_THAT(without.targets(), ElementsAre(primary));
  EXPECT_THAT(without.syncing_targets(), ElementsAre(member));
  Report(ServerOf(primary), group, member, proto::GroupReport::KIND_EQUAL);
  EXPECT_EQ(Group(group.id()).epoch(), without.epoch()) << "about an earlier epoch";
  Report(ServerOf(primary), without, member, proto::GroupReport::KIND_EQUAL);
  EXPECT_THAT(Group(group.id()).targets(), ElementsAre(primary, member));
  EXPECT_THAT(Group(group.id()).syncing_targets(), IsEmpty());
}

TEST_F(ReplicationServiceTest, SilentServerLosesItsPlaceAndKnowsItBeforeItHasALeaseAgain) {
  SetUpTwoCopies(400);
  const uint64_t silent = AnyGroupOf(2).targets(0);
  const auto everywhere_out = [&] {
    return std::ranges::none_of(map_.groups(), [&](const proto::PlacementGroup& group) {
      return group.replicas() == 2 && std::ranges::find(group.targets(), silent) != group.targets().end();
    });
  };
  EXPECT_TRUE(WaitFor([&] {
    for (PlayedServer& server : servers_) {
      if (server.target() == silent) continue;
      EXPECT_TRUE(Beat(&server).ok());
    }
    return everywhere_out();
  }));
  map_.Clear();
  ASSERT_TRUE(Beat(&ServerOf(silent)).ok());
  EXPECT_FALSE(map_.groups().empty());
  EXPECT_TRUE(everywhere_out()) << "its first heartbeat brings the map";
}

TEST_F(ReplicationServiceTest, UncleanRestartIsKnownWithTheRegistration) {
  SetUpTwoCopies();
  const proto::PlacementGroup group = AnyGroupOf(2);
  PlayedServer& primary = ServerOf(group.targets(0));
  ASSERT_TRUE(Register(&primary, "a", 99, false).ok());
  map_ = primary.registered.map();
  EXPECT_THAT(Group(group.id()).targets(), ElementsAre(group.targets(1)));
  EXPECT_THAT(Group(group.id()).syncing_targets(), ElementsAre(group.targets(0)));
}

TEST_F(ReplicationServiceTest, CopyOfADirectoryIsRefusedWhileTheOriginalLives) {
  constexpr uint64_t kIncarnation = 31;
  Start();
  const std::string address = listener_->address();
  servers_.resize(1);
  ASSERT_TRUE(Register(&servers_[0], "a", kIncarnation).ok());
  PlayedServer copy = servers_[0];
  const Status refused = SendRegistration(&copy, "b", 32, true, "127.0.0.1:2");
  EXPECT_EQ(refused.code(), StatusCode::kPermission) << refused.ToString();
  EXPECT_THAT(refused.message(), HasSubstr("a server may live only once"));
  EXPECT_TRUE(Register(&copy, "a", 33).ok()) << "a restart in its place";
  listener_.reset();
  Listen();
  EXPECT_EQ(Register(&copy, "b", 34, true, listener_->address()).ToString(), "kOk") << "it has moved";
}

TEST_F(ReplicationServiceTest, LateRegistrationOfAnEarlierProcessIsRefused) {
  SetUpTwoCopies();
  const proto::PlacementGroup before = AnyGroupOf(2);
  PlayedServer& primary = ServerOf(before.targets(0));
  const uint64_t earlier = primary.incarnation;
  ASSERT_TRUE(Register(&primary, "a", 99, true).ok());
  map_ = primary.registered.map();
  const uint64_t epoch = Group(before.id()).epoch();
  // Its system went on sending it after it had crashed.
  PlayedServer crashed = primary;
  EXPECT_EQ(SendRegistration(&crashed, "a", earlier + 1000, false).code(), StatusCode::kUnavailable);
  BeatAll();
  EXPECT_EQ(Group(before.id()).epoch(), epoch) << "who lives there stays what it is";
  EXPECT_EQ(Beat(&primary).ToString(), "kOk");
}

TEST_F(ReplicationServiceTest, NodesAreDrainedWhereThatCanWork) {
  SetUpTwoCopies();
  EXPECT_EQ(Drain("nowhere", false).code(), StatusCode::kInvalidArgument);
  EXPECT_GT(NodeOfName("a").groups_left(), 0u);
  BeatAll();
  ASSERT_EQ(Drain("a", false).ToString(), "kOk");
  EXPECT_TRUE(NodeOfName("a").draining());
  BeatAll();
  const Status refused = Drain("b", false);
  EXPECT_EQ(refused.code(), StatusCode::kNoSpace);
  EXPECT_THAT(refused.message(), HasSubstr("1 node(s) would be left"));
  EXPECT_EQ(Drain("b", true).ToString(), "kOk");
  for (const std::string node : {"a", "b"}) {
    grpc::ClientContext call;
    proto::UncordonNodeRequest request;
    request.set_node(node);
    proto::UncordonNodeReply reply;
    ASSERT_TRUE(admin_->UncordonNode(&call, request, &reply).ok());
    EXPECT_FALSE(reply.node().draining());
  }
}

TEST_F(ReplicationServiceTest, TargetWithLastCopiesIsNotRetired) {
  SetUpTwoCopies();
  ASSERT_TRUE(WaitFor([&] {
    BeatAll();
    return AnyGroupOf(1).id() != 0;
  })) << "groups of one copy, which every target has";
  ASSERT_EQ(CreateVolume("single", 1).ToString(), "kOk") << "only then is there anything in them";
  grpc::ClientContext call;
  proto::RetireTargetRequest request;
  request.set_target(servers_[0].target());
  proto::RetireTargetReply reply;
  const Status refused = rpc::FromGrpcStatus(admin_->RetireTarget(&call, request, &reply));
  EXPECT_EQ(refused.code(), StatusCode::kBusy) << refused.ToString();
}

}  // namespace
}  // namespace tarn::meta
