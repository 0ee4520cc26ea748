// The data plane beside elastic targets (docs/elastic.md): when they are asked, and that a reader loses nothing by them.
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <thread>

#include "client/data/testing/data_plane_fixture.h"
#include "common/checksum/block_sums.h"
#include "common/rpc/frame_server.h"
#include "proto/data.pb.h"
#include "proto/hello.pb.h"

namespace tarn::client {
namespace {

constexpr int64_t kNeverMs = 600'000;

// Answers reads with bytes that the test gives, or as it says. Thread-safe.
class FakeElasticServer {
 public:
  FakeElasticServer() { Start(); }
  ~FakeElasticServer() { Stop(); }

  void Start() {
    rpc::FrameServerOptions options;
    options.listen = address_.empty() ? "127.0.0.1:0" : address_;
    auto server = rpc::FrameServer::Start(
        options,
        [](const proto::HelloRequest&, proto::HelloReply* reply) {
          reply->set_role(proto::PEER_ROLE_CHUNKSERVER);
          return Status::Ok();
        },
        [this](rpc::Request request, std::unique_ptr<rpc::Responder> responder) { Handle(request, std::move(responder)); });
    CHECK(server.ok(), server.status().ToString());
    server_ = std::move(*server);
    address_ = server_->address();
  }
  void Stop() {
    server_ = nullptr;
    MutexLock lock(mutex_);
    never_answered_.clear();
  }

  enum class Action { kServe, kRefuse, kFlipByte, kIgnore };
  void Set(Action action) {
    MutexLock lock(mutex_);
    action_ = action;
  }
  // What every chunk holds.
  void SetBytes(std::vector<uint8_t> bytes) {
    MutexLock lock(mutex_);
    bytes_ = std::move(bytes);
  }
  const std::string& address() const { return address_; }
  std::vector<proto::ReadChunkRequest> requests() const {
    MutexLock lock(mutex_);
    return requests_;
  }
  size_t reads() const {
    const auto all = requests();
    return static_cast<size_t>(std::ranges::count_if(all, [](const auto& each) { return !each.verify_at_source(); }));
  }

 private:
  void Handle(const rpc::Request& request, std::unique_ptr<rpc::Responder> responder) {
    proto::ReadChunkRequest message;
    CHECK(rpc::ParseRequest(request, &message).ok() && message.has_elastic(), "only elastic reads come here");
    MutexLock lock(mutex_);
    requests_.push_back(message);
    if (action_ == Action::kIgnore) {
      never_answered_.push_back(std::move(responder));
      return;
    }
    if (action_ == Action::kRefuse || message.verify_at_source()) {
      return responder->Fail(Status(StatusCode::kAskPrimary, "not here"));
    }
    const uint64_t begin = std::min<uint64_t>(message.offset_bytes(), bytes_.size());
    const uint64_t end = std::min<uint64_t>(begin + message.length_bytes(), bytes_.size());
    Buffer payload(end - begin);
    std::copy(bytes_.begin() + static_cast<ptrdiff_t>(begin), bytes_.begin() + static_cast<ptrdiff_t>(end), payload.data());
    proto::ReadChunkReply reply;
    reply.set_chunk_bytes(bytes_.size());
    reply.set_block_sums(ComputePieceSums(begin, payload.span()));
    if (action_ == Action::kFlipByte) payload.data()[0] ^= 1;
    responder->Reply(reply, std::move(payload));
  }

  std::string address_;
  mutable Mutex mutex_;
  Action action_ GUARDED_BY(mutex_) = Action::kServe;
  std::vector<uint8_t> bytes_ GUARDED_BY(mutex_);
  std::vector<proto::ReadChunkRequest> requests_ GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<rpc::Responder>> never_answered_ GUARDED_BY(mutex_);
  std::unique_ptr<rpc::FrameServer> server_;
};

class DataPlaneElasticTest : public DataPlaneFixture {
 protected:
  static constexpr uint32_t kMapIncarnation = 3;

  static DataPlaneOptions OnNode(const std::string& node) {
    DataPlaneOptions options = DefaultOptions();
    options.retry_deadline_ms = kNeverMs;
    options.request_timeout_ms = kNeverMs;
    options.hedge_ms = kNeverMs;
    options.node = node;
    return options;
  }
  // Elastic servers on nodes of these names.
  void StartWithElastic(const DataPlaneOptions& options, const std::vector<std::string>& nodes,
                        const FakeClusterOptions& cluster_options = {}) {
    Start(options, cluster_options);
    proto::ClusterMap map = cluster->MakeMap();
    map.set_version(map.version() + 1);
    map.set_incarnation(kMapIncarnation);
    for (size_t i = 0; i < nodes.size(); ++i) {
      elastic_.push_back(std::make_unique<FakeElasticServer>());
      proto::Target* target = map.add_targets();
      target->set_id(100 + i);
      target->set_address(elastic_[i]->address());
      target->set_node(nodes[i]);
      target->set_target_class(proto::TARGET_CLASS_ELASTIC);
      target->set_state(proto::TARGET_STATE_ONLINE);
    }
    map_ = map;
    cluster->metadata->SetMap(map);
    cluster->metadata->SetHoldsGrants(true);
  }
  // A file of one chunk, published and durable. The elastic servers have the same bytes.
  std::shared_ptr<InodeData> StoredFile(uint64_t seed) {
    const auto data = NewFile();
    expected_ = Pattern(50'000, seed);
    EXPECT_TRUE(WriteAll(*data, 0, expected_).ok());
    EXPECT_TRUE(Sync(*data).ok());
    for (const auto& server : elastic_) server->SetBytes(expected_);
    return data;
  }
  void ExpectReads(InodeData& data) {
    const auto bytes = ReadBytes(data, {0, expected_.size()});
    ASSERT_TRUE(bytes.ok()) << bytes.status().ToString();
    EXPECT_EQ(*bytes, expected_);
  }
  size_t ElasticReads() const {
    size_t reads = 0;
    for (const auto& server : elastic_) reads += server->reads();
    return reads;
  }
  ~DataPlaneElasticTest() override { plane = nullptr; }

  std::vector<std::unique_ptr<FakeElasticServer>> elastic_;
  proto::ClusterMap map_;
  std::vector<uint8_t> expected_;
};

TEST_F(DataPlaneElasticTest, TheOneOnThisNodeIsAsked) {
  StartWithElastic(OnNode("x"), {"y", "x", "z"});
  for (uint64_t i = 0; i < 10; ++i) ExpectReads(*StoredFile(i));
  EXPECT_EQ(elastic_[1]->reads(), 10u);
  EXPECT_EQ(ElasticReads(), 10u);
  EXPECT_EQ(cluster->Reads(), 0u);
  EXPECT_EQ(plane->counters().elastic_reads, 10u);
}

TEST_F(DataPlaneElasticTest, WithoutOneOnThisNodeEachChunkHasOneHome) {
  StartWithElastic(OnNode("elsewhere"), {"x", "y", "z"});
  for (uint64_t i = 0; i < 30; ++i) {
    const auto data = StoredFile(i);
    const size_t before = ElasticReads();
    ExpectReads(*data);
    plane->Attach(cluster->metadata->Get(file));
    EXPECT_EQ(ElasticReads(), before + 1);
  }
  for (const auto& server : elastic_) EXPECT_GT(server->reads(), 2u);
  std::map<uint64_t, std::set<uint64_t>> homes;
  for (size_t i = 0; i < elastic_.size(); ++i) {
    for (const auto& request : elastic_[i]->requests()) homes[request.chunk().data_id()].insert(i);
  }
  for (const auto& [data, servers] : homes) EXPECT_EQ(servers.size(), 1u);
}

TEST_F(DataPlaneElasticTest, TheFirstReadOfAClientAsksOne) {
  StartWithElastic(OnNode("x"), {"x"});
  StoredFile(1);
  plane = nullptr;
  auto created = DataPlane::Create(OnNode("x"), cluster->LoopPointers(), cluster->metadata.get());
  ASSERT_TRUE(created.ok()) << created.status().ToString();
  plane = std::move(*created);
  ExpectReads(*plane->Attach(cluster->metadata->Get(file)));
  EXPECT_EQ(ElasticReads(), 1u);
}

TEST_F(DataPlaneElasticTest, AMemberOnThisNodeIsNearer) {
  StartWithElastic(OnNode("node-1"), {"node-1", "x"}, ThreeCopies());
  for (uint64_t i = 0; i < 10; ++i) ExpectReads(*StoredFile(i));
  EXPECT_EQ(ElasticReads(), 0u);
}

TEST_F(DataPlaneElasticTest, TheOnlyMemberOnThisNodeIsNearerToo) {
  StartWithElastic(OnNode("node-0"), {"node-0"}, {.servers = 1});
  ExpectReads(*StoredFile(1));
  EXPECT_EQ(ElasticReads(), 0u);
}

TEST_F(DataPlaneElasticTest, TheRequestNamesExactlyWhatIsCurrent) {
  StartWithElastic(OnNode("x"), {"x"});
  const auto data = StoredFile(1);
  ExpectReads(*data);
  const Attributes now = cluster->metadata->Get(file);
  const proto::ReadChunkRequest request = elastic_[0]->requests().at(0);
  EXPECT_EQ(request.chunk().target(), 100u);
  EXPECT_EQ(request.chunk().data_id(), now.data.value());
  EXPECT_EQ(request.data_generation(), now.data_generation);
  EXPECT_EQ(request.truncate().generation(), now.truncate_generation);
  EXPECT_EQ(request.elastic().map_incarnation(), kMapIncarnation);
}

TEST_F(DataPlaneElasticTest, WithoutAGrantForThisGenerationMembersAreAsked) {
  StartWithElastic(OnNode("x"), {"x"});
  const auto data = StoredFile(1);
  cluster->metadata->SetHoldsGrants(false);
  ExpectReads(*data);
  cluster->metadata->SetHoldsGrants(true);
  cluster->metadata->RaiseGeneration(file);  // the view of this open file is behind
  ExpectReads(*data);
  EXPECT_EQ(ElasticReads(), 0u);
  data->Adopt(cluster->metadata->Get(file));
  ExpectReads(*data);
  EXPECT_EQ(ElasticReads(), 1u);
}

TEST_F(DataPlaneElasticTest, OwnWritesThatAreNotPublishedAreReadFromMembers) {
  StartWithElastic(OnNode("x"), {"x"});
  const auto data = StoredFile(1);
  const std::vector<uint8_t> more = Pattern(10'000, 9);
  ASSERT_TRUE(WriteAll(*data, 0, more).ok());
  std::copy(more.begin(), more.end(), expected_.begin());
  ExpectReads(*data);
  EXPECT_EQ(ElasticReads(), 0u);
}

TEST_F(DataPlaneElasticTest, AfterAWriteWhoseCommitFailedMembersAreAsked) {
  StartWithElastic(OnNode("x"), {"x"});
  const auto data = StoredFile(1);
  cluster->metadata->FailCommits({Status(StatusCode::kQuota, "no room")});
  const std::vector<uint8_t> more = Pattern(10'000, 9);
  ASSERT_TRUE(WriteAll(*data, 0, more).ok());
  EXPECT_FALSE(Sync(*data).ok());
  std::copy(more.begin(), more.end(), expected_.begin());
  ExpectReads(*data);
  EXPECT_EQ(ElasticReads(), 0u) << "the members have other bytes than the generation's";
}

TEST_F(DataPlaneElasticTest, ARefusalSendsTheReadToAMemberAtOnce) {
  for (const size_t replicas : {1u, 2u}) {
    elastic_.clear();
    StartWithElastic(OnNode("x"), {"x"}, {.servers = 2, .replicas = replicas});
    elastic_[0]->Set(FakeElasticServer::Action::kRefuse);
    const auto data = StoredFile(1);
    for (int i = 0; i < 3; ++i) ExpectReads(*data);
    EXPECT_EQ(elastic_[0]->reads(), 3u) << "it is asked again: it has done nothing wrong";
    EXPECT_EQ(plane->counters().elastic_fallbacks, 3u);
    EXPECT_EQ(cluster->Reads(), 3u);
    plane = nullptr;
  }
}

TEST_F(DataPlaneElasticTest, OneThatIsGoneIsPassedOver) {
  StartWithElastic(OnNode("x"), {"x"});
  const auto data = StoredFile(1);
  ExpectReads(*data);
  elastic_[0]->Stop();
  for (int i = 0; i < 20; ++i) ExpectReads(*data);
  EXPECT_EQ(elastic_[0]->reads(), 1u);
  EXPECT_EQ(cluster->Reads(), 20u);
}

TEST_F(DataPlaneElasticTest, OneThatIsKilledWhileItReadsCostsNoReadAnError) {
  StartWithElastic(OnNode("x"), {"x"});
  const auto data = StoredFile(1);
  elastic_[0]->Set(FakeElasticServer::Action::kIgnore);
  std::vector<std::thread> readers;
  std::atomic<int> good = 0;
  for (int i = 0; i < 8; ++i) {
    readers.emplace_back([&] {
      const auto bytes = ReadBytes(*data, {0, expected_.size()});
      good += bytes.ok() && *bytes == expected_;
    });
  }
  while (elastic_[0]->reads() < 8) std::this_thread::yield();
  elastic_[0]->Stop();
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(good, 8);
}

TEST_F(DataPlaneElasticTest, ASilentOneHasCompanyAlsoWhereThereIsOneMember) {
  DataPlaneOptions options = OnNode("x");
  options.hedge_ms = 20;
  StartWithElastic(options, {"x"}, {.servers = 1});
  const auto data = StoredFile(1);
  elastic_[0]->Set(FakeElasticServer::Action::kIgnore);
  ExpectReads(*data);
  EXPECT_GE(plane->counters().second_reads, 1u);
  for (int i = 0; i < 20; ++i) ExpectReads(*data);
  EXPECT_EQ(elastic_[0]->reads(), 1u) << "and is avoided";
}

TEST_F(DataPlaneElasticTest, BadBytesAreNotShownAndTheTargetIsTold) {
  StartWithElastic(OnNode("x"), {"x"});
  const auto data = StoredFile(1);
  elastic_[0]->Set(FakeElasticServer::Action::kFlipByte);
  ExpectReads(*data);
  EXPECT_EQ(plane->counters().checksum_failures, 1u);
  while (elastic_[0]->requests().size() < 2) std::this_thread::yield();
  EXPECT_TRUE(elastic_[0]->requests().at(1).verify_at_source());
}

}  // namespace
}  // namespace tarn::client
