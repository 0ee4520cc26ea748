// An elastic chunk server beside a durable one, with real stores and connections, and a client that is the test (docs/elastic.md).
#include <gtest/gtest.h>

#include <filesystem>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "chunkserver/service/chunk_server.h"
#include "chunkserver/service/service_fixture.h"
#include "common/checksum/block_sums.h"
#include "common/rpc/frame_client.h"
#include "proto/data.pb.h"

namespace tarn::chunk {
namespace {

constexpr uint32_t kGroup = 1;
constexpr uint64_t kData = 77;
// In the order of registration.
constexpr uint64_t kDurable = 10;
constexpr uint64_t kElastic = 11;

struct Answer {
  Status status;
  std::string bytes;
};

class ElasticServerTest : public TargetDirectories {
 protected:
  ElasticServerTest() {
    auto loop = rpc::EventLoop::Start("test");
    CHECK(loop.ok(), loop.status().ToString());
    loop_ = *std::move(loop);
    meta_.lease_ms = 60'000;
    durable_ = Start("a", false);
    elastic_ = Start("b", true);
    map_.set_version(2);
    AddTarget(kDurable, durable_->address(), proto::TARGET_CLASS_DURABLE);
    AddTarget(kElastic, elastic_->address(), proto::TARGET_CLASS_ELASTIC);
    proto::PlacementGroup* group = map_.add_groups();
    group->set_id(kGroup);
    group->set_epoch(5);
    group->set_replicas(1);
    group->add_targets(kDurable);
    meta_.SetMap(map_);
    for (const uint64_t target : {kDurable, kElastic}) {
      meta_.WaitForHeartbeat([target](const auto& beat) { return beat.map_version() == 2 && beat.targets(0).id() == target; });
    }
  }

  std::unique_ptr<ChunkServer> Start(const std::string& name, bool elastic) {
    ChunkServerOptions options;
    options.targets = options_;
    options.targets.directories = {Directory(name)};
    options.targets.elastic = elastic;
    options.targets.elastic_bytes = elastic::UnitLog::kBudgetBytesMin;
    options.listen = "127.0.0.1:0";
    options.metaservers = {meta_.address()};
    options.on_failure = [](const Status& status) { CHECK(false, status.ToString()); };
    auto server = ChunkServer::Start(options, Environment());
    CHECK(server.ok(), server.status().ToString());
    meta_.WaitForRegistration([address = (*server)->address()](const auto& request) { return request.address() == address; });
    return *std::move(server);
  }
  void AddTarget(uint64_t id, const std::string& address, proto::TargetClass target_class) {
    proto::Target* target = map_.add_targets();
    target->set_id(id);
    target->set_address(address);
    target->set_node("node-" + std::to_string(id));
    target->set_target_class(target_class);
    target->set_state(proto::TARGET_STATE_ONLINE);
  }
  Answer Call(const std::string& address, rpc::Method method, const google::protobuf::MessageLite& request, std::span<const uint8_t> payload = {}) {
    proto::HelloRequest hello;
    hello.set_role(proto::PEER_ROLE_CLIENT);
    rpc::FrameClientOptions options;
    options.address = address;
    const auto client = rpc::FrameClient::Create(loop_.get(), options, hello);
    std::promise<Answer> done;
    client->Call(method, request, {.timeout_ms = 10'000, .payload = payload, .payload_destination = {}}, [&](const rpc::Reply& reply) {
      Answer answer{reply.status, {reply.payload.begin(), reply.payload.end()}};
      proto::ReadChunkReply message;
      if (method == rpc::Method::kReadChunk && reply.status.ok()) {
        EXPECT_TRUE(rpc::ParseReply(reply, &message).ok());
        EXPECT_FALSE(FindBadPiece(0, reply.payload, message.block_sums()).has_value());
      }
      done.set_value(std::move(answer));
    });
    return done.get_future().get();
  }
  Status Write(const std::string& text) {
    proto::WriteChunkRequest request;
    request.mutable_chunk()->set_target(kDurable);
    request.mutable_chunk()->set_group(kGroup);
    request.mutable_chunk()->set_epoch(5);
    request.mutable_chunk()->set_data_id(kData);
    request.set_session(1);
    request.set_sequence(++sequence_);
    const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
    request.set_piece_sums(ComputePieceSums(0, bytes));
    return Call(durable_->address(), rpc::Method::kWriteChunk, request, bytes).status;
  }
  static proto::ReadChunkRequest ReadRequest(uint64_t generation, uint32_t length = 8192) {
    proto::ReadChunkRequest request;
    request.mutable_chunk()->set_target(kElastic);
    request.mutable_chunk()->set_group(kGroup);
    request.mutable_chunk()->set_epoch(5);
    request.mutable_chunk()->set_data_id(kData);
    request.set_length_bytes(length);
    request.set_data_generation(generation);
    request.mutable_elastic()->set_map_incarnation(0);
    return request;
  }
  Answer ReadElastic(uint64_t generation, uint32_t length = 8192) {
    return Call(elastic_->address(), rpc::Method::kReadChunk, ReadRequest(generation, length));
  }
  proto::TargetReport ReportOnce(const std::function<bool(const proto::TargetReport&)>& fits) {
    return meta_.WaitForHeartbeat([&](const auto& beat) { return beat.targets(0).id() == kElastic && fits(beat.targets(0)); }).targets(0);
  }

  FakeMetadataServer meta_;
  proto::ClusterMap map_;
  uint64_t sequence_ = 0;
  std::unique_ptr<rpc::EventLoop> loop_;
  std::unique_ptr<ChunkServer> durable_;
  std::unique_ptr<ChunkServer> elastic_;
};

TEST_F(ElasticServerTest, FillsItselfOnDemandAndAnswersWithoutItsSource) {
  ASSERT_TRUE(Write("hello").ok());
  const Answer miss = ReadElastic(1);
  ASSERT_TRUE(miss.status.ok()) << miss.status.ToString();
  EXPECT_EQ(miss.bytes, "hello");
  durable_.reset();
  const Answer hit = ReadElastic(1);
  ASSERT_TRUE(hit.status.ok()) << hit.status.ToString();
  EXPECT_EQ(hit.bytes, "hello");
  const proto::TargetReport report = ReportOnce([](const auto& each) { return each.elastic().hits() == 1; });
  EXPECT_EQ(report.target_class(), proto::TARGET_CLASS_ELASTIC);
  EXPECT_EQ(report.elastic().misses(), 1u);
  EXPECT_EQ(report.elastic().cached_bytes(), 5u);
}

TEST_F(ElasticServerTest, LargeUnitsGoOutAsTheyLie) {
  std::string text(1'000'000, 'x');
  for (size_t i = 0; i < text.size(); i += 7) text[i] = static_cast<char>(i / 7);
  ASSERT_TRUE(Write(text).ok());
  for (int i = 0; i < 3; ++i) {
    const Answer read = ReadElastic(1, 1u << 20);
    ASSERT_TRUE(read.status.ok()) << read.status.ToString();
    EXPECT_TRUE(read.bytes == text);
  }
}

TEST_F(ElasticServerTest, AnswersForExactlyTheGenerationThatIsAskedFor) {
  ASSERT_TRUE(Write("hello").ok());
  EXPECT_EQ(ReadElastic(1).bytes, "hello");
  ASSERT_TRUE(Write("world").ok());
  EXPECT_EQ(ReadElastic(1).bytes, "hello") << "nobody names this generation any more once the write is published";
  EXPECT_EQ(ReadElastic(2).bytes, "world");
  // The answer does not wait until the newer one has taken the older one's place.
  Status older;
  while ((older = ReadElastic(1).status).ok()) std::this_thread::yield();
  EXPECT_EQ(older.code(), StatusCode::kAskPrimary);
}

TEST_F(ElasticServerTest, WithoutASourceTheReaderIsSentToAMember) {
  durable_.reset();
  EXPECT_EQ(ReadElastic(1).status.code(), StatusCode::kAskPrimary);
  EXPECT_GE(ReportOnce([](const auto& each) { return each.elastic().refusals() == 1; }).elastic().misses(), 1u);
}

TEST_F(ElasticServerTest, TakesNoWritesAndAnswersNoOrdinaryReads) {
  proto::ReadChunkRequest request = ReadRequest(1);
  request.clear_elastic();
  EXPECT_FALSE(Call(elastic_->address(), rpc::Method::kReadChunk, request).status.ok());
  proto::CommitTargetRequest commit;
  commit.set_target(kElastic);
  EXPECT_EQ(Call(elastic_->address(), rpc::Method::kCommitTarget, commit).status.code(), StatusCode::kNotSupported);
}

TEST_F(ElasticServerTest, ADurableServerAnswersNoElasticReads) {
  proto::ReadChunkRequest request = ReadRequest(1);
  request.mutable_chunk()->set_target(kDurable);
  EXPECT_EQ(Call(durable_->address(), rpc::Method::kReadChunk, request).status.code(), StatusCode::kAskPrimary);
}

TEST_F(ElasticServerTest, RangesThatMakeNoSenseAreRefused) {
  for (const uint32_t length : {0u, 100u, 8u << 20}) {
    EXPECT_EQ(Call(elastic_->address(), rpc::Method::kReadChunk, ReadRequest(1, length)).status.code(), StatusCode::kInvalidArgument) << length;
  }
}

TEST_F(ElasticServerTest, ComesBackEmptyUnderNewIds) {
  ASSERT_TRUE(Write("hello").ok());
  EXPECT_EQ(ReadElastic(1).bytes, "hello");
  elastic_.reset();  // killed
  for (const auto& entry : std::filesystem::directory_iterator(Directory("b"))) EXPECT_EQ(entry.path().filename(), "elastic.lock");
  elastic_ = Start("b", true);
  const auto registration = meta_.WaitForRegistration([&](const auto& request) { return request.address() == elastic_->address(); });
  EXPECT_EQ(registration.server_id(), 0u);
  EXPECT_EQ(registration.targets(0).id(), 0u);
  EXPECT_EQ(registration.targets(0).elastic().cached_bytes(), 0u);
}

TEST_F(ElasticServerTest, OneThatWasForgottenJoinsAsANewOne) {
  durable_.reset();
  meta_.RefuseKnownServers();
  meta_.FailOnce(Status(StatusCode::kUnknownSession, "who is that"));
  meta_.WaitForRegistration([&](const auto& request) { return request.address() == elastic_->address() && request.server_id() != 0; });
  meta_.WaitForRegistration([&, seen = 0](const auto& request) mutable {
    return request.address() == elastic_->address() && request.server_id() == 0 && ++seen == 2;
  });
}

TEST_F(ElasticServerTest, ADirectoryOfADurableTargetIsRefused) {
  durable_.reset();
  ChunkServerOptions options;
  options.targets = options_;
  options.targets.directories = {Directory("a")};
  options.targets.elastic = true;
  options.listen = "127.0.0.1:0";
  const auto started = ChunkServer::Start(options, Environment());
  EXPECT_EQ(started.status().code(), StatusCode::kPermission);
  EXPECT_NE(started.status().message().find("durable"), std::string::npos);
}

TEST_F(ElasticServerTest, TwoServersOnOneDirectoryAreRefused) {
  ChunkServerOptions options;
  options.targets = options_;
  options.targets.directories = {Directory("b")};
  options.targets.elastic = true;
  options.listen = "127.0.0.1:0";
  EXPECT_EQ(ChunkServer::Start(options, Environment()).status().code(), StatusCode::kBusy);
}

}  // namespace
}  // namespace tarn::chunk
