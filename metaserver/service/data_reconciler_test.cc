// Reconciliation through a whole metadata server: a chunk server and clients are played by the test.
#include "metaserver/service/metadata_server.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/base/random.h"
#include "common/rpc/event_loop.h"
#include "common/rpc/frame_client.h"
#include "common/rpc/frame_server.h"
#include "common/rpc/grpc_status.h"
#include "proto/admin.grpc.pb.h"
#include "proto/cluster.grpc.pb.h"
#include "proto/data.pb.h"
#include "proto/hello.pb.h"

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;
using testing::Contains;
using testing::Not;

constexpr int64_t kPatienceMs = 30'000;
constexpr uint64_t kBytesOfEach = 100;

class DataReconcilerTest : public testing::Test {
 protected:
  DataReconcilerTest() {
    std::string pattern = (fs::temp_directory_path() / "data_reconciler_test.XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    auto loop = rpc::EventLoop::Start("test");
    CHECK(loop.ok(), "loop");
    loop_ = *std::move(loop);
    auto frames = rpc::FrameServer::Start(
        {}, [](const proto::HelloRequest&, proto::HelloReply*) { return Status::Ok(); },
        [this](const rpc::Request& request, std::unique_ptr<rpc::Responder> responder) { Answer(request, *responder); });
    CHECK(frames.ok(), "frames");
    frames_ = *std::move(frames);
  }
  ~DataReconcilerTest() override {
    if (client_ != nullptr) client_->Close();
    client_.reset();
    server_.reset();
    frames_.reset();
    loop_.reset();
    fs::remove_all(directory_);
  }

  // The chunk server's part.
  void Answer(const rpc::Request& request, rpc::Responder& responder) {
    if (request.method == rpc::Method::kListData) {
      proto::ListDataRequest list;
      ASSERT_TRUE(rpc::ParseRequest(request, &list).ok());
      proto::ListDataReply reply;
      MutexLock lock(mutex_);
      auto next = held_.upper_bound(list.after());
      for (; next != held_.end() && reply.data_ids_size() < 3; ++next) reply.add_data_ids(*next);
      reply.set_end(next == held_.end());
      return responder.Reply(reply);
    }
    if (request.method == rpc::Method::kStatData) {
      proto::StatDataReply reply;
      reply.add_chunks()->set_bytes(kBytesOfEach);
      return responder.Reply(reply);
    }
    responder.Fail(Status(StatusCode::kNotSupported, "not here"));
  }
  void Hold(uint64_t data) {
    MutexLock lock(mutex_);
    held_.insert(data);
  }
  bool Holds(uint64_t data) {
    MutexLock lock(mutex_);
    return held_.contains(data);
  }

  void Start(int64_t quarantine_ms) {
    MetadataServerOptions options;
    options.directory = directory_ + "/meta";
    options.listen = "127.0.0.1:0";
    options.memory_bytes = 64 << 20;
    options.reclaim_delay_ms = 0;
    options.reconcile_interval_ms = 100;
    options.orphan_quarantine_ms = quarantine_ms;
    options.on_failure = [](const Status& status) { ADD_FAILURE() << status.ToString(); };
    auto started = MetadataServer::Start(options, &clock_, &random_);
    ASSERT_TRUE(started.ok()) << started.status().ToString();
    server_ = std::move(*started);
    const auto channel = grpc::CreateChannel(server_->grpc_address(), grpc::InsecureChannelCredentials());
    admin_ = proto::AdminService::NewStub(channel);
    cluster_ = proto::ClusterService::NewStub(channel);
    while (!server_->leads()) std::this_thread::yield();
    proto::HelloRequest hello;
    hello.set_role(proto::PEER_ROLE_CLIENT);
    rpc::FrameClientOptions client;
    client.address = server_->address();
    client_ = rpc::FrameClient::Create(loop_.get(), client, hello);
    Register();
    MakeVolume();
    OpenSession();
  }
  void Register() {
    grpc::ClientContext call;
    proto::RegisterServerRequest request;
    request.set_incarnation(1);
    request.set_address(frames_->address());
    request.set_node("a");
    proto::TargetReport* target = request.add_targets();
    target->set_clean_shutdown(true);
    target->set_capacity_bytes(1000);
    target->set_available_bytes(900);
    target->set_directory_id("the only one");
    const Status status = rpc::FromGrpcStatus(cluster_->RegisterServer(&call, request, &registered_));
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  // Deletes what it is told to, and says so with the next one.
  void Beat() {
    grpc::ClientContext call;
    proto::HeartbeatRequest request;
    request.set_cluster_id(registered_.cluster_id());
    request.set_server_id(registered_.server_id());
    request.set_incarnation(1);
    proto::TargetReport* target = request.add_targets();
    target->set_id(registered_.target_ids(0));
    target->set_capacity_bytes(1000);
    target->set_available_bytes(900);
    for (const uint64_t data : reclaimed_) target->add_reclaimed_data_ids(data);
    reclaimed_.clear();
    proto::HeartbeatReply reply;
    const Status status = rpc::FromGrpcStatus(cluster_->Heartbeat(&call, request, &reply));
    ASSERT_TRUE(status.ok()) << status.ToString();
    MutexLock lock(mutex_);
    for (const proto::DeadData& dead : reply.dead_data()) {
      for (const uint64_t data : dead.data_ids()) {
        held_.erase(data);
        reclaimed_.push_back(data);
        ever_dead_.insert(data);
      }
    }
  }
  template <typename Condition>
  void BeatUntil(const Condition& condition) {
    const int64_t until_ms = clock_.MonotonicMs() + kPatienceMs;
    while (!condition()) {
      Beat();
      ASSERT_LT(clock_.MonotonicMs(), until_ms) << "it does not come";
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  // So many whole passes have ended.
  void AwaitPasses(int count) {
    for (int i = 0; i < count; ++i) {
      const int64_t before = Space().checked_ns();
      BeatUntil([&] { return Space().checked_ns() > before; });
    }
  }
  proto::SpaceProgress Space() {
    grpc::ClientContext call;
    proto::StatusReply reply;
    const Status status = rpc::FromGrpcStatus(admin_->Status(&call, proto::StatusRequest(), &reply));
    EXPECT_TRUE(status.ok()) << status.ToString();
    return reply.space();
  }
  void MakeVolume() {
    const int64_t until_ms = clock_.MonotonicMs() + kPatienceMs;
    proto::VolumeReply reply;
    while (true) {
      grpc::ClientContext call;
      proto::CreateVolumeRequest request;
      request.mutable_volume()->set_name("v");
      request.mutable_volume()->set_replicas(1);
      if (rpc::FromGrpcStatus(admin_->CreateVolume(&call, request, &reply)).ok()) break;
      ASSERT_LT(clock_.MonotonicMs(), until_ms);
      Beat();
    }
    volume_ = reply.volume().id();
    root_ = reply.volume().root();
  }
  proto::MutationReply Run(proto::Mutation mutation) {
    mutation.set_session(session_);
    mutation.set_sequence(session_ != 0 ? ++sequence_ : 0);
    proto::MutationReply reply;
    const Status status = client_->CallAndWait(rpc::Method::kMutate, mutation, &reply);
    if (!status.ok()) reply.set_status(static_cast<uint32_t>(status.code()));
    return reply;
  }
  void OpenSession() {
    proto::Mutation open;
    open.mutable_open_session()->set_nonce(random_.NextNonZero());
    open.mutable_open_session()->set_volume(volume_);
    session_ = 0;
    const proto::MutationReply reply = Run(open);
    ASSERT_EQ(reply.status(), 0u);
    session_ = reply.session();
    sequence_ = 0;
  }
  void CloseSession() {
    proto::Mutation close;
    close.mutable_close_session()->set_session(session_);
    ASSERT_EQ(Run(close).status(), 0u);
  }
  // Placement groups come a moment after the first registration.
  proto::MutationReply Reserve(uint32_t count) {
    proto::MutationReply reply;
    BeatUntil([&] {
      proto::Mutation reserve;
      reserve.mutable_reserve_data_ids()->set_volume(volume_);
      reserve.mutable_reserve_data_ids()->set_count(count);
      reply = Run(reserve);
      return reply.status() == 0;
    });
    return reply;
  }
  bool Create(const std::string& name, uint64_t data, const proto::Layout& layout) {
    proto::Mutation create;
    create.mutable_create()->set_parent(root_);
    create.mutable_create()->set_name(name);
    create.mutable_create()->set_type(proto::FILE_TYPE_REGULAR);
    create.mutable_create()->set_data_id(data);
    *create.mutable_create()->mutable_layout() = layout;
    return Run(create).status() == 0;
  }

  std::string directory_;
  SystemClock clock_;
  SystemRandom random_;
  std::unique_ptr<rpc::EventLoop> loop_;
  std::unique_ptr<rpc::FrameServer> frames_;
  std::unique_ptr<MetadataServer> server_;
  std::unique_ptr<proto::AdminService::Stub> admin_;
  std::unique_ptr<proto::ClusterService::Stub> cluster_;
  std::shared_ptr<rpc::FrameClient> client_;
  proto::RegisterServerReply registered_;
  uint32_t volume_ = 0;
  uint64_t root_ = 0;
  uint64_t session_ = 0;
  uint64_t sequence_ = 0;
  std::vector<uint64_t> reclaimed_;

  Mutex mutex_;
  std::set<uint64_t> held_ GUARDED_BY(mutex_);
  std::set<uint64_t> ever_dead_ GUARDED_BY(mutex_);
};

TEST_F(DataReconcilerTest, OnlyWhatNobodyKnowsIsDeletedAndOnlyAfterItsQuarantine) {
  Start(/*quarantine_ms=*/500);
  const proto::MutationReply reserved = Reserve(10);
  const uint64_t first = reserved.first_data_id();
  for (uint64_t i = 0; i < 10; ++i) Hold(first + i);
  ASSERT_TRUE(Create("kept", first, reserved.layout_template()));
  const uint64_t never_given = first + 1'000'000;
  const uint64_t of_a_later_backup = ComposeId(0, 3, 5);
  Hold(never_given);
  Hold(of_a_later_backup);
  AwaitPasses(3);
  EXPECT_EQ(Space().unknown_data_ids(), 0u) << "the session lives, and may still name them";
  EXPECT_EQ(Space().kept_data_ids(), 1u);
  CloseSession();
  BeatUntil([&] { return Space().unknown_data_ids() == 9; });
  EXPECT_EQ(Space().unknown_bytes(), 9 * kBytesOfEach);
  EXPECT_TRUE(Holds(first + 1)) << "it is in quarantine";
  BeatUntil([&] { return !Holds(first + 9) && !Holds(first + 1); });
  AwaitPasses(2);
  EXPECT_EQ(Space().unknown_reclaimed_bytes(), 9 * kBytesOfEach);
  EXPECT_EQ(Space().unknown_data_ids(), 0u);
  for (const uint64_t data : {first, never_given, of_a_later_backup}) EXPECT_TRUE(Holds(data)) << data;
}

TEST_F(DataReconcilerTest, FilesThatAreMadeAllTheTimeLoseNothing) {
  Start(/*quarantine_ms=*/0);
  std::vector<uint64_t> live;
  const int64_t until_ms = clock_.MonotonicMs() + 4'000;
  for (int round = 0; clock_.MonotonicMs() < until_ms; ++round) {
    const proto::MutationReply reserved = Reserve(4);
    for (uint64_t i = 0; i < 4; ++i) Hold(reserved.first_data_id() + i);
    if (round % 7 == 3) std::this_thread::sleep_for(std::chrono::milliseconds(120));
    for (uint64_t i = 0; i < 2; ++i) {
      ASSERT_TRUE(Create("f" + std::to_string(round) + "." + std::to_string(i), reserved.first_data_id() + i, reserved.layout_template()));
      live.push_back(reserved.first_data_id() + i);
    }
    Beat();
    if (round % 20 != 19) continue;
    CloseSession();
    OpenSession();
  }
  AwaitPasses(3);
  MutexLock lock(mutex_);
  EXPECT_FALSE(ever_dead_.empty()) << "what sessions did not use goes";
  for (const uint64_t data : live) EXPECT_THAT(ever_dead_, Not(Contains(data)));
}

}  // namespace
}  // namespace tarn::meta
