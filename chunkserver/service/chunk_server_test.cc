// Whole chunk servers, with real stores and connections, under a metadata server that does what the test says.
#include "chunkserver/service/chunk_server.h"

#include <gtest/gtest.h>

#include <future>
#include <string>
#include <thread>
#include <vector>

#include "chunkserver/service/service_fixture.h"
#include "common/checksum/block_sums.h"
#include "common/rpc/frame_client.h"
#include "proto/data.pb.h"
#include "proto/hello.pb.h"

namespace tarn::chunk {
namespace {

constexpr uint32_t kGroup = 1;
constexpr uint64_t kData = 77;
// In the order of registration.
constexpr uint64_t kPrimary = 10;
constexpr uint64_t kMember = 12;  // the second target of the second server

class ChunkServerTest : public TargetDirectories {
 protected:
  ChunkServerTest() {
    auto loop = rpc::EventLoop::Start("test");
    CHECK(loop.ok(), loop.status().ToString());
    loop_ = *std::move(loop);
    meta_.lease_ms = 60'000;
    first_ = Start({"a"}, 1);
    second_ = Start({"b", "c"}, 2);
    map_.set_version(2);
    AddTarget(kPrimary, first_->address());
    AddTarget(11, second_->address());
    AddTarget(kMember, second_->address());
    proto::PlacementGroup* group = map_.add_groups();
    group->set_id(kGroup);
    group->set_epoch(5);
    group->set_replicas(2);
    group->add_targets(kPrimary);
    group->add_targets(kMember);
    meta_.SetMap(map_);
    // Both servers have it.
    meta_.WaitForHeartbeat([](const auto& beat) { return beat.map_version() == 2 && beat.targets_size() == 1; });
    meta_.WaitForHeartbeat([](const auto& beat) { return beat.map_version() == 2 && beat.targets_size() == 2; });
  }

  std::unique_ptr<ChunkServer> Start(const std::vector<std::string>& names, int registrations) {
    ChunkServerOptions options;
    options.targets = options_;
    for (const std::string& name : names) options.targets.directories.push_back(Directory(name));
    options.listen = "127.0.0.1:0";
    options.metaservers = {meta_.address()};
    options.replication.member_timeout_ms = 300;
    options.on_failure = [](const Status& status) { CHECK(false, status.ToString()); };
    auto server = ChunkServer::Start(options, Environment());
    CHECK(server.ok(), server.status().ToString());
    meta_.WaitForRegistration([registrations, seen = 0](const auto&) mutable { return ++seen == registrations; });
    return *std::move(server);
  }
  void AddTarget(uint64_t id, const std::string& address) {
    proto::Target* target = map_.add_targets();
    target->set_id(id);
    target->set_address(address);
    target->set_state(proto::TARGET_STATE_ONLINE);
  }
  std::shared_ptr<rpc::FrameClient> Connect(const ChunkServer& server) {
    proto::HelloRequest hello;
    hello.set_role(proto::PEER_ROLE_CLIENT);
    rpc::FrameClientOptions options;
    options.address = server.address();
    return rpc::FrameClient::Create(loop_.get(), options, hello);
  }
  static proto::ChunkAddress Address(uint64_t target, uint64_t epoch) {
    proto::ChunkAddress address;
    address.set_target(target);
    address.set_group(kGroup);
    address.set_epoch(epoch);
    address.set_data_id(kData);
    return address;
  }
  Status Write(const std::string& text, uint64_t sequence, uint64_t epoch) {
    proto::WriteChunkRequest request;
    *request.mutable_chunk() = Address(kPrimary, epoch);
    request.set_session(1);
    request.set_sequence(sequence);
    request.set_durable(true);
    const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    request.set_piece_sums(ComputePieceSums(0, bytes));
    rpc::CallOptions options;
    options.payload = bytes;
    std::promise<Status> done;
    const auto client = Connect(*first_);
    client->Call(rpc::Method::kWriteChunk, request, options, [&](const rpc::Reply& reply) { done.set_value(reply.status); });
    return done.get_future().get();
  }
  Status Read(const ChunkServer& server, uint64_t target, uint64_t epoch, uint64_t* bytes) {
    proto::ReadChunkRequest request;
    *request.mutable_chunk() = Address(target, epoch);
    request.set_length_bytes(4096);
    proto::ReadChunkReply reply;
    const Status status = Connect(server)->CallAndWait(rpc::Method::kReadChunk, request, &reply);
    *bytes = reply.chunk_bytes();
    return status;
  }
  // Through `relay`; the payload of the reply, or what went wrong on the way or at the server.
  Result<std::string> CallThrough(const ChunkServer& relay, rpc::Method method, const google::protobuf::MessageLite& request, const std::string& payload,
                                  uint64_t incarnation) {
    proto::RelayRequest wrapped;
    wrapped.set_target(kPrimary);
    wrapped.set_incarnation(incarnation);
    wrapped.set_method(static_cast<uint32_t>(method));
    wrapped.set_message(request.SerializeAsString());
    wrapped.set_reply_bytes_max(4096);
    wrapped.set_timeout_ms(5'000);
    rpc::CallOptions options;
    options.payload = {reinterpret_cast<const uint8_t*>(payload.data()), payload.size()};
    std::promise<Result<std::string>> done;
    const auto client = Connect(relay);
    client->Call(rpc::Method::kRelay, wrapped, options, [&](const rpc::Reply& reply) {
      proto::RelayReply unwrapped;
      const Status came = rpc::ParseReply(reply, &unwrapped);
      if (!came.ok()) return done.set_value(came);
      if (unwrapped.status() != 0) return done.set_value(Status(static_cast<StatusCode>(unwrapped.status()), "at the server"));
      done.set_value(std::string(reply.payload.begin(), reply.payload.end()));
    });
    return done.get_future().get();
  }
  uint64_t IncarnationOf(const ChunkServer& server) {
    const auto client = Connect(server);
    EXPECT_TRUE(client->CallAndWait(rpc::Method::kPing, proto::HelloRequest(), nullptr).ok());
    return client->hello_reply().incarnation();
  }
  template <typename Attempt>
  Status UntilOk(Attempt attempt) const {
    const int64_t give_up_ms = clock_.MonotonicMs() + 10'000;
    Status status;
    do {
      status = attempt();
    } while (!status.ok() && clock_.MonotonicMs() < give_up_ms);
    return status;
  }

  FakeMetadataServer meta_;
  proto::ClusterMap map_;
  std::unique_ptr<rpc::EventLoop> loop_;
  std::unique_ptr<ChunkServer> first_;
  std::unique_ptr<ChunkServer> second_;
};

TEST_F(ChunkServerTest, AWriteIsOnBothCopiesAndEitherIsRead) {
  // The new primary reconciles first.
  const Status written = UntilOk([&] { return Write("hello", 1, 5); });
  ASSERT_TRUE(written.ok()) << written.ToString();
  uint64_t bytes = 0;
  EXPECT_TRUE(Read(*first_, kPrimary, 5, &bytes).ok());
  EXPECT_EQ(bytes, 5u);
  // The member asks for a grant when it is first asked.
  const Status read = UntilOk([&] { return Read(*second_, kMember, 5, &bytes); });
  EXPECT_TRUE(read.ok()) << read.ToString();
  EXPECT_EQ(bytes, 5u);
  EXPECT_EQ(Read(*second_, kPrimary, 5, &bytes).code(), StatusCode::kWrongIncarnation) << "that is on the other server";
}

TEST_F(ChunkServerTest, AClientMayReachThePrimaryThroughAnotherServer) {
  ASSERT_TRUE(UntilOk([&] { return Write("hello", 1, 5); }).ok());
  const uint64_t incarnation = IncarnationOf(*first_);
  const std::string text = "through";
  proto::WriteChunkRequest write;
  *write.mutable_chunk() = Address(kPrimary, 5);
  write.set_session(1);
  write.set_sequence(2);
  write.set_piece_sums(ComputePieceSums(0, {reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  const Result<std::string> written = CallThrough(*second_, rpc::Method::kWriteChunk, write, text, incarnation);
  ASSERT_TRUE(written.ok()) << written.status().ToString();
  // The direct one was stuck, and is answered as what it is.
  ASSERT_TRUE(Write("later!!", 3, 5).ok());
  ASSERT_TRUE(Write("through", 2, 5).ok());

  proto::ReadChunkRequest read;
  *read.mutable_chunk() = Address(kPrimary, 5);
  read.set_length_bytes(4096);
  EXPECT_EQ(*CallThrough(*second_, rpc::Method::kReadChunk, read, "", incarnation), "later!!");
  EXPECT_EQ(*CallThrough(*first_, rpc::Method::kReadChunk, read, "", incarnation), "later!!") << "it may be asked itself";
  read.mutable_chunk()->set_epoch(4);
  EXPECT_EQ(CallThrough(*second_, rpc::Method::kReadChunk, read, "", incarnation).status().code(), StatusCode::kStaleEpoch);
  proto::CommitTargetRequest commit;
  commit.set_target(kPrimary);
  commit.add_groups(kGroup);
  EXPECT_TRUE(CallThrough(*second_, rpc::Method::kCommitTarget, commit, "", incarnation).ok());
  EXPECT_EQ(CallThrough(*second_, rpc::Method::kCommitTarget, commit, "", incarnation + 1).status().code(), StatusCode::kUnavailable);
}

TEST_F(ChunkServerTest, AMemberThatIsGoneIsReportedAndTheWriteGoesOnWithoutIt) {
  ASSERT_TRUE(UntilOk([&] { return Write("hello", 1, 5); }).ok());
  meta_.OnReport([](const proto::GroupReport& report, proto::ClusterMap* map) {
    proto::PlacementGroup* group = map->mutable_groups(0);
    if (report.kind() != proto::GroupReport::KIND_FAILED || report.epoch() != group->epoch()) return;
    EXPECT_EQ(report.target(), kMember);
    group->set_epoch(6);
    group->clear_targets();
    group->add_targets(kPrimary);
    group->add_syncing_targets(kMember);
    map->set_version(map->version() + 1);
  });
  ASSERT_TRUE(second_->Stop().ok());
  second_.reset();
  // The one that waits is answered in the new epoch, or sent again there.
  const Status old_epoch = Write("world!", 2, 5);
  EXPECT_TRUE(old_epoch.ok() || old_epoch.code() == StatusCode::kStaleEpoch) << old_epoch.ToString();
  const Status written = UntilOk([&] { return Write("world!", 2, 6); });
  EXPECT_TRUE(written.ok()) << written.ToString();
  uint64_t bytes = 0;
  EXPECT_TRUE(Read(*first_, kPrimary, 6, &bytes).ok());
  EXPECT_EQ(bytes, 6u);
}

TEST_F(ChunkServerTest, StopsCleanlyWhileRequestsWait) {
  ASSERT_TRUE(UntilOk([&] { return Write("hello", 1, 5); }).ok());
  second_.reset();  // killed
  std::thread writer([&] { EXPECT_FALSE(Write("world!", 2, 5).ok()) << "nobody has decided about the member"; });
  meta_.WaitForReports([](const auto&) { return true; });
  EXPECT_TRUE(first_->Stop().ok());
  writer.join();
}

}  // namespace
}  // namespace tarn::chunk
