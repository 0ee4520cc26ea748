// The data service over a real connection and a real store, with the verdicts of replication chosen by the test.
#include "chunkserver/service/data_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <string>
#include <vector>

#include "chunkserver/replication/target_replication.h"
#include "chunkserver/service/peer_service.h"
#include "chunkserver/service/service_fixture.h"
#include "common/base/unique_fd.h"
#include "common/checksum/block_sums.h"
#include "common/rpc/frame_client.h"
#include "proto/data.pb.h"
#include "proto/types.pb.h"

namespace tarn::chunk {
namespace {

using replication::ChangeAnswer;
using replication::ReadVerdict;
using testing::ElementsAre;

constexpr uint32_t kGroup = 1;
constexpr uint64_t kEpoch = 5;
constexpr uint64_t kTarget = 10;  // the first that the fake metadata server gives
constexpr uint64_t kData = 77;

// Writes go straight to the store. Set up before the first request; the rest is asked for by one thread at a time.
class FakeReplication final : public replication::TargetReplication {
 public:
  explicit FakeReplication(store::ChunkStore* store) : store_(store) {}

  void AdoptMap(std::shared_ptr<const proto::ClusterMap> map) override { map_version_ = map->version(); }
  void ExtendLease(int64_t, int64_t) override {}
  void SetIncarnation(Incarnation) override {}
  ReadVerdict AdmitRead(GroupId group, Epoch epoch, ChunkId) override {
    EXPECT_EQ(group, GroupId(kGroup));
    EXPECT_EQ(epoch, Epoch(kEpoch));
    return verdict;
  }
  ReadVerdict AdmitConfirmedRead(GroupId, Epoch, ChunkId) override { return confirmed_verdict; }
  void Write(replication::ClientWrite write, replication::ChangeCallback done) override {
    if (!change_answer.status.ok()) return done(change_answer);
    const auto written = store_->Write({.chunk = {DataId(write.request->chunk().data_id()), write.request->chunk().chunk_index()},
                                        .writer = {},
                                        .offset = write.request->offset_bytes(),
                                        .payload = write.payload,
                                        .piece_sums = write.request->piece_sums(),
                                        .view = {}});
    ChangeAnswer answer{.status = written.status(), .map_version = 0, .outcome = {}, .durable = write.request->durable()};
    if (written.ok()) answer.outcome = {.base = {}, .stamp = {Epoch(kEpoch), written->version}, .chunk_bytes = written->chunk_bytes, .was_applied = false};
    done(answer);
  }
  void Truncate(std::shared_ptr<const proto::TruncateChunkRequest>, replication::ChangeCallback done) override { done(change_answer); }
  void Commit(const std::vector<GroupId>& groups, std::function<void(Status, std::vector<GroupId>)> done) override {
    commits.push_back(groups);
    done(Status::Ok(), not_primary);
  }
  void HandlePeer(rpc::Method method, std::span<const uint8_t>, std::span<const uint8_t> payload, std::shared_ptr<void>,
                  std::shared_ptr<replication::PeerResponder> responder) override {
    peer_calls.emplace_back(method, payload.size());
    responder->Reply(proto::ReplicateReply(), {});
  }
  void RepairChunk(GroupId, ChunkId chunk, std::function<void(Status)> done) override { done(repair(chunk)); }
  std::vector<proto::SyncProgress> Progress() override { return {}; }
  uint64_t map_version() const override { return map_version_; }
  void Stop() override {}

  ReadVerdict verdict;
  ReadVerdict confirmed_verdict;
  ChangeAnswer change_answer;
  std::vector<GroupId> not_primary;
  std::function<Status(ChunkId)> repair = [](ChunkId) { return Status(StatusCode::kCorruption, "no other copy"); };
  std::vector<std::vector<GroupId>> commits;
  std::vector<std::pair<rpc::Method, size_t>> peer_calls;

 private:
  store::ChunkStore* const store_;
  std::atomic<uint64_t> map_version_ = 0;
};

// The parameter: whether io_uring may be used.
class DataServiceTest : public TargetDirectories, public testing::WithParamInterface<bool> {
 protected:
  DataServiceTest() {
    auto loop = rpc::EventLoop::Start("test");
    CHECK(loop.ok(), loop.status().ToString());
    loop_ = *std::move(loop);
    map_.set_version(1);
    proto::PlacementGroup* group = map_.add_groups();
    group->set_id(kGroup);
    group->set_epoch(kEpoch);
    group->add_targets(kTarget);
    meta_.SetMap(map_);
    targets_ = Open({"a"});
    view_ = std::make_unique<ClusterView>(targets_.get(), [this](const ClusterView::MapPtr& map) { targets_->AdoptMap(map); });
    MetadataLinkOptions options;
    options.metaservers = {meta_.address()};
    options.advertise = "127.0.0.1:1";
    options.incarnation = 42;
    options.on_registered = [this] {
      auto engine = std::make_unique<FakeReplication>(target().store());
      replication_ = engine.get();
      target().StartReplication(std::make_unique<TargetExecutor>(1, loop_.get(), &clock_), std::move(engine));
    };
    options.on_lease = [](int64_t, int64_t) {};
    options.on_failure = [](const Status&) {};
    link_ = std::make_unique<MetadataLink>(std::move(options), targets_.get(), view_.get(), loop_.get(), &clock_);
    link_->Start();
    meta_.WaitForHeartbeat([](const auto& beat) { return beat.map_version() == 1; });
    service_ = std::make_unique<DataService>(DataServiceParts{.targets = targets_.get(),
                                                              .view = view_.get(),
                                                              .link = link_.get(),
                                                              .buffers = buffers_.get(),
                                                              .write_budget = &write_budget_,
                                                              .incarnation = 42,
                                                              .may_use_io_uring = GetParam()});
    peer_service_ = std::make_unique<PeerService>(targets_.get(), &peer_budget_, &faults_);
    auto frames = rpc::FrameServer::Start(
        {}, [](const proto::HelloRequest&, proto::HelloReply*) { return Status::Ok(); },
        [this](rpc::Request request, std::unique_ptr<rpc::Responder> responder) {
          if (PeerService::Serves(request)) return peer_service_->Handle(std::move(request), std::move(responder));
          service_->Handle(std::move(request), std::move(responder));
        });
    CHECK(frames.ok(), frames.status().ToString());
    frames_ = *std::move(frames);
    client_ = Connect(proto::PEER_ROLE_CLIENT);
  }
  ~DataServiceTest() override {
    client_.reset();
    frames_.reset();
    link_->Stop();
    targets_->StopReplication();
    targets_->StopWorkers();
    loop_.reset();
    targets_->EndReplication();
  }

  HostedTarget& target() { return *targets_->targets()[0]; }
  std::shared_ptr<rpc::FrameClient> Connect(proto::PeerRole role) {
    proto::HelloRequest hello;
    hello.set_role(role);
    rpc::FrameClientOptions options;
    options.address = frames_->address();
    return rpc::FrameClient::Create(loop_.get(), options, hello);
  }
  static proto::ChunkAddress Address(uint64_t epoch = kEpoch) {
    proto::ChunkAddress address;
    address.set_target(kTarget);
    address.set_group(kGroup);
    address.set_epoch(epoch);
    address.set_data_id(kData);
    return address;
  }
  Status ReadWithoutPrimary(proto::ReadChunkReply* reply) {
    proto::ReadChunkRequest request;
    *request.mutable_chunk() = Address();
    request.set_length_bytes(4096);
    request.set_primary_is_silent(true);
    return client_->CallAndWait(rpc::Method::kReadChunk, request, reply);
  }
  Status Read(proto::ReadChunkReply* reply, bool verify = false) {
    proto::ReadChunkRequest request;
    *request.mutable_chunk() = Address();
    request.set_length_bytes(4096);
    request.set_verify_at_source(verify);
    return client_->CallAndWait(rpc::Method::kReadChunk, request, reply);
  }
  // Of a test that asks with a payload.
  Status CallWith(rpc::FrameClient& client, rpc::Method method, const google::protobuf::MessageLite& request, const std::string& payload,
                  google::protobuf::MessageLite* reply) {
    std::promise<Status> done;
    const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(payload.data()), payload.size());
    rpc::CallOptions options;
    options.payload = bytes;
    client.Call(method, request, options, [&](const rpc::Reply& answer) { done.set_value(rpc::ParseReply(answer, reply)); });
    return done.get_future().get();
  }
  Status Write(const std::string& bytes, proto::WriteChunkReply* reply, uint64_t data = kData) {
    proto::WriteChunkRequest request;
    *request.mutable_chunk() = Address();
    request.mutable_chunk()->set_data_id(data);
    request.set_piece_sums(ComputePieceSums(0, {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}));
    request.set_durable(true);
    return CallWith(*client_, rpc::Method::kWriteChunk, request, bytes, reply);
  }
  Status WriteAt(uint32_t offset, const std::string& bytes) {
    proto::WriteChunkRequest request;
    *request.mutable_chunk() = Address();
    request.set_offset_bytes(offset);
    request.set_piece_sums(ComputePieceSums(offset, {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}));
    request.set_durable(true);
    proto::WriteChunkReply reply;
    return CallWith(*client_, rpc::Method::kWriteChunk, request, bytes, &reply);
  }
  std::string RandomBytes(size_t size) {
    std::string bytes(size, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random_.Next());
    return bytes;
  }
  std::string WriteBlocks(size_t blocks) {
    std::string bytes = RandomBytes(blocks * 4096);
    const Status written = WriteAt(0, bytes);
    EXPECT_TRUE(written.ok()) << written.ToString();
    return bytes;
  }
  // What was written lies only on the disk afterwards.
  void DropPages() {
    ASSERT_TRUE(target().store()->Commit().ok());
    for (const auto& segment : std::filesystem::directory_iterator(Directory("a") + "/segments")) {
      const UniqueFd file(open(segment.path().c_str(), O_RDWR | O_CLOEXEC));
      ASSERT_EQ(fdatasync(file.get()), 0);
      ASSERT_EQ(posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
    }
  }
  // Its bytes, whose sums hold; else why not.
  std::future<std::string> StartRead(uint32_t offset, uint32_t length) {
    proto::ReadChunkRequest request;
    *request.mutable_chunk() = Address();
    request.set_offset_bytes(offset);
    request.set_length_bytes(length);
    const auto done = std::make_shared<std::promise<std::string>>();
    client_->Call(rpc::Method::kReadChunk, request, {}, [done, offset](const rpc::Reply& reply) {
      proto::ReadChunkReply message;
      if (const Status parsed = rpc::ParseReply(reply, &message); !parsed.ok()) return done->set_value(parsed.ToString());
      if (FindBadPiece(offset, reply.payload, message.block_sums())) return done->set_value("a sum does not hold");
      done->set_value(std::string(reply.payload.begin(), reply.payload.end()));
    });
    return done->get_future();
  }
  std::string ReadBytes(uint32_t offset, uint32_t length) { return StartRead(offset, length).get(); }
  // The target's only worker waits for the promise.
  std::promise<void> BlockWorker() {
    std::promise<void> release;
    const auto released = std::make_shared<std::future<void>>(release.get_future());
    EXPECT_TRUE(target().workers()->Submit([released] { released->wait(); }));
    return release;
  }
  bool LoopHasFileReads() {
    std::promise<bool> answer;
    loop_->Post([&] { answer.set_value(loop_->FileReads().ok()); });
    return answer.get_future().get();
  }
  uint64_t MapVersionOfStaleEpoch(rpc::Method method, const google::protobuf::MessageLite& request) {
    std::promise<std::pair<StatusCode, uint64_t>> done;
    client_->Call(method, request, {}, [&](const rpc::Reply& reply) {
      done.set_value({reply.status.code(), rpc::ParseErrorDetail(reply).map_version()});
    });
    const auto [code, version] = done.get_future().get();
    EXPECT_EQ(code, StatusCode::kStaleEpoch);
    return version;
  }

  FakeMetadataServer meta_;
  proto::ClusterMap map_;
  std::unique_ptr<rpc::EventLoop> loop_;
  std::unique_ptr<TargetSet> targets_;
  std::unique_ptr<ClusterView> view_;
  std::unique_ptr<MetadataLink> link_;
  FakeReplication* replication_ = nullptr;
  std::shared_ptr<BufferPool> buffers_ = BufferPool::Create(1 << 20);
  WriteBudget write_budget_{1 << 20};
  WriteBudget peer_budget_{1 << 20};
  std::unique_ptr<DataService> service_;
  std::unique_ptr<PeerService> peer_service_;
  std::unique_ptr<rpc::FrameServer> frames_;
  std::shared_ptr<rpc::FrameClient> client_;
};

TEST_P(DataServiceTest, WhatWasWrittenIsRead) {
  proto::WriteChunkReply written;
  ASSERT_TRUE(Write("hello", &written).ok());
  EXPECT_EQ(written.chunk_bytes(), 5u);
  EXPECT_EQ(written.version(), 1u);
  EXPECT_TRUE(written.durable());
  EXPECT_EQ(written.incarnation(), 42u);
  proto::ReadChunkReply read;
  ASSERT_TRUE(Read(&read).ok());
  EXPECT_EQ(read.chunk_bytes(), 5u);
  EXPECT_EQ(write_budget_.bytes(), 0u);
}

TEST_P(DataServiceTest, ACopyThatMayNotAnswerSaysSo) {
  proto::ReadChunkReply reply;
  for (const StatusCode code : {StatusCode::kAskPrimary, StatusCode::kUnavailable}) {
    replication_->verdict = {.code = code, .map_version = 0};
    EXPECT_EQ(Read(&reply).code(), code);
  }
  replication_->verdict = {.code = StatusCode::kStaleEpoch, .map_version = 9};
  proto::ReadChunkRequest request;
  *request.mutable_chunk() = Address();
  request.set_length_bytes(4096);
  EXPECT_EQ(MapVersionOfStaleEpoch(rpc::Method::kReadChunk, request), 9u);
}

TEST_P(DataServiceTest, AnOlderEpochIsToldTheMapVersionAndANewerOneWaitsForTheMap) {
  proto::ReadChunkRequest request;
  *request.mutable_chunk() = Address(kEpoch - 1);
  request.set_length_bytes(4096);
  EXPECT_EQ(MapVersionOfStaleEpoch(rpc::Method::kReadChunk, request), 1u);
  *request.mutable_chunk() = Address(kEpoch + 1);
  EXPECT_EQ(MapVersionOfStaleEpoch(rpc::Method::kReadChunk, request), 1u) << "the metadata server has no newer one";
}

TEST_P(DataServiceTest, AFailedChangeCarriesTheMapVersion) {
  replication_->change_answer = {.status = Status(StatusCode::kStaleEpoch, "not the primary"), .map_version = 8, .outcome = {}, .durable = false};
  proto::TruncateChunkRequest request;
  *request.mutable_chunk() = Address();
  EXPECT_EQ(MapVersionOfStaleEpoch(rpc::Method::kTruncateChunk, request), 8u);
}

TEST_P(DataServiceTest, ACommitNamesTheGroupsOfOtherPrimaries) {
  replication_->not_primary = {GroupId(3)};
  proto::CommitTargetRequest request;
  request.set_target(kTarget);
  request.add_groups(1);
  request.add_groups(3);
  proto::CommitTargetReply reply;
  ASSERT_TRUE(client_->CallAndWait(rpc::Method::kCommitTarget, request, &reply).ok());
  EXPECT_THAT(reply.not_primary(), ElementsAre(3));
  EXPECT_THAT(replication_->commits, ElementsAre(ElementsAre(GroupId(1), GroupId(3))));
  // A primary's to a member: its replication looks at the lease first.
  request.set_this_target_only(true);
  EXPECT_EQ(client_->CallAndWait(rpc::Method::kCommitTarget, request, nullptr).code(), StatusCode::kPermission);
  EXPECT_TRUE(Connect(proto::PEER_ROLE_CHUNKSERVER)->CallAndWait(rpc::Method::kCommitTarget, request, nullptr).ok());
  EXPECT_THAT(replication_->peer_calls, ElementsAre(std::pair(rpc::Method::kCommitTarget, size_t{0})));
  EXPECT_EQ(replication_->commits.size(), 1u);
  request.set_this_target_only(false);
  request.set_target(99);
  EXPECT_EQ(client_->CallAndWait(rpc::Method::kCommitTarget, request, &reply).code(), StatusCode::kWrongIncarnation);
}

TEST_P(DataServiceTest, WhatIsDamagedIsRepairedAndThenRead) {
  proto::WriteChunkReply written;
  const std::string bytes(4096, 'x');
  ASSERT_TRUE(Write(bytes, &written).ok());
  for (const auto& segment : std::filesystem::directory_iterator(Directory("a") + "/segments")) {
    std::fstream file(segment.path(), std::ios::in | std::ios::out | std::ios::binary);
    std::string content(4 << 20, '\0');
    file.read(content.data(), static_cast<std::streamsize>(content.size()));
    file.clear();
    const size_t at = content.find(bytes);
    if (at == std::string::npos) continue;
    file.seekp(static_cast<std::streamoff>(at));
    file.put('y');
  }
  proto::ReadChunkReply reply;
  EXPECT_EQ(Read(&reply, /*verify=*/true).code(), StatusCode::kCorruption) << "there is no other copy";
  replication_->repair = [&](ChunkId chunk) {
    const std::span<const uint8_t> good(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    const std::string sums = ComputePieceSums(0, good);
    const store::ChunkState state = *target().store()->StateOf(chunk);
    const Status installed = target().store()->InstallPiece(chunk, state.group, 0, good, sums);
    return installed.ok() ? target().store()->InstallEnd(chunk, state) : installed;
  };
  EXPECT_TRUE(Read(&reply, /*verify=*/true).ok());
  proto::TargetReport report;
  target().FillReport(&report);
  EXPECT_EQ(report.scrub().errors_found(), 1u);
  EXPECT_EQ(report.scrub().errors_repaired(), 1u);
}

TEST_P(DataServiceTest, ListsDataIdsInPages) {
  for (const uint64_t data : {5, 900, 77, 6}) {
    proto::WriteChunkReply reply;
    ASSERT_TRUE(Write("something", &reply, data).ok());
  }
  proto::ListDataRequest request;
  request.set_target(kTarget);
  request.set_entries_max(3);
  proto::ListDataReply first;
  ASSERT_TRUE(client_->CallAndWait(rpc::Method::kListData, request, &first).ok());
  EXPECT_THAT(first.data_ids(), ElementsAre(5, 6, 77));
  EXPECT_FALSE(first.end());
  request.set_after(77);
  proto::ListDataReply second;
  ASSERT_TRUE(client_->CallAndWait(rpc::Method::kListData, request, &second).ok());
  EXPECT_THAT(second.data_ids(), ElementsAre(900));
  EXPECT_TRUE(second.end());
  request.set_entries_max(0);
  EXPECT_EQ(client_->CallAndWait(rpc::Method::kListData, request, &second).code(), StatusCode::kInvalidArgument);
  request.set_entries_max(3);
  request.set_target(99);
  EXPECT_EQ(client_->CallAndWait(rpc::Method::kListData, request, &second).code(), StatusCode::kWrongIncarnation);
}

TEST_P(DataServiceTest, PeerMethodsAreForChunkServers) {
  proto::ReplicateRequest request;
  request.mutable_member()->set_target(kTarget);
  proto::ReplicateReply reply;
  EXPECT_EQ(client_->CallAndWait(rpc::Method::kReplicate, request, &reply).code(), StatusCode::kPermission);
  const auto peer = Connect(proto::PEER_ROLE_CHUNKSERVER);
  EXPECT_TRUE(CallWith(*peer, rpc::Method::kReplicate, request, "1234", &reply).ok());
  EXPECT_THAT(replication_->peer_calls, ElementsAre(std::pair(rpc::Method::kReplicate, size_t{4})));
  request.mutable_member()->set_target(99);
  EXPECT_EQ(peer->CallAndWait(rpc::Method::kReplicate, request, &reply).code(), StatusCode::kWrongIncarnation);
  EXPECT_EQ(peer->CallAndWait(rpc::Method::kReplicate, proto::ReplicateRequest(), &reply).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(peer_budget_.bytes(), 0u);
  peer->Close();
}

TEST_P(DataServiceTest, PeersHaveRoomOfTheirOwn) {
  auto clients = write_budget_.Admit(1 << 20);  // all that clients may hold
  proto::WriteChunkReply written;
  EXPECT_EQ(Write("hello", &written).code(), StatusCode::kResourceExhausted);
  proto::ReplicateRequest request;
  request.mutable_member()->set_target(kTarget);
  proto::ReplicateReply reply;
  const auto peer = Connect(proto::PEER_ROLE_CHUNKSERVER);
  EXPECT_TRUE(CallWith(*peer, rpc::Method::kReplicate, request, "1234", &reply).ok());
  auto peers = peer_budget_.Admit(1 << 20);
  EXPECT_EQ(CallWith(*peer, rpc::Method::kReplicate, request, "1234", &reply).code(), StatusCode::kResourceExhausted);
  peer->Close();
}

TEST(ReceiverOf, FindsTheAddressOfEveryPeerMessage) {
  proto::ReplicateRequest replicate;
  replicate.set_order(5);
  replicate.mutable_write()->set_piece_sums(std::string(300, 's'));
  replicate.mutable_member()->set_target(7);
  const std::string text = replicate.SerializeAsString();
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  EXPECT_EQ(ReceiverOf(rpc::Method::kReplicate, bytes), TargetId(7));
  EXPECT_EQ(ReceiverOf(rpc::Method::kReplicate, bytes.first(3)), std::nullopt) << "cut off";
  EXPECT_EQ(ReceiverOf(rpc::Method::kReplicate, {}), std::nullopt);
  // In another order of fields, as another writer may choose.
  proto::ReplicateRequest address_only;
  *address_only.mutable_member() = replicate.member();
  replicate.clear_member();
  const std::string reordered = replicate.SerializeAsString() + address_only.SerializeAsString();
  EXPECT_EQ(ReceiverOf(rpc::Method::kReplicate, {reinterpret_cast<const uint8_t*>(reordered.data()), reordered.size()}), TargetId(7));
  proto::ReadGrantRequest grant;
  grant.set_target(8);
  const std::string grant_text = grant.SerializeAsString();
  EXPECT_EQ(ReceiverOf(rpc::Method::kReadGrant, {reinterpret_cast<const uint8_t*>(grant_text.data()), grant_text.size()}), TargetId(8));
  proto::ConfirmChangesRequest confirm;
  confirm.set_target(9);
  const std::string confirm_text = confirm.SerializeAsString();
  EXPECT_EQ(ReceiverOf(rpc::Method::kConfirmChanges, {reinterpret_cast<const uint8_t*>(confirm_text.data()), confirm_text.size()}), TargetId(9));
}

TEST_P(DataServiceTest, MemberAnswersWithoutItsPrimaryOnceTheEpochIsConfirmed) {
  proto::WriteChunkReply written;
  ASSERT_TRUE(Write("hello", &written).ok());
  replication_->verdict = {.code = StatusCode::kAskPrimary};
  proto::ReadChunkReply read;
  EXPECT_EQ(Read(&read).code(), StatusCode::kAskPrimary);
  ASSERT_TRUE(ReadWithoutPrimary(&read).ok());
  EXPECT_EQ(read.chunk_bytes(), 5u);
  // What may not be acknowledged yet is the primary's to tell.
  replication_->confirmed_verdict = {.code = StatusCode::kAskPrimary};
  EXPECT_EQ(ReadWithoutPrimary(&read).code(), StatusCode::kAskPrimary);
}

TEST_P(DataServiceTest, WhatIsOnlyOnTheDiskIsRead) {
  const std::string bytes = WriteBlocks(64);
  for (const uint32_t length : {4096u, 40960u, 262144u}) {
    DropPages();
    EXPECT_EQ(ReadBytes(0, length), bytes.substr(0, length));
    EXPECT_EQ(ReadBytes(0, length), bytes.substr(0, length)) << "from memory now";
  }
  // Some of it is in memory.
  DropPages();
  EXPECT_EQ(ReadBytes(8192, 4096), bytes.substr(8192, 4096));
  EXPECT_EQ(ReadBytes(0, 32768), bytes.substr(0, 32768));
  DropPages();
  EXPECT_EQ(ReadBytes(8192, 4096), bytes.substr(8192, 4096));
  EXPECT_EQ(ReadBytes(0, 262144), bytes.substr(0, 262144));
}

TEST_P(DataServiceTest, PiecesAndHolesAreReadTogether) {
  std::string expected(12 * 4096, '\0');
  for (const uint32_t block : {9u, 1u, 5u}) {
    const std::string bytes = RandomBytes(4096);
    expected.replace(block * 4096, 4096, bytes);
    ASSERT_TRUE(WriteAt(block * 4096, bytes).ok());
  }
  expected.resize(10 * 4096);  // the chunk ends there
  DropPages();
  EXPECT_EQ(ReadBytes(0, 12 * 4096), expected);
}

TEST_P(DataServiceTest, WhoeverWaitsForTheDiskNeedsAThreadOnlyWithoutIoUring) {
  const std::string bytes = WriteBlocks(64);
  if (GetParam() && !LoopHasFileReads()) GTEST_SKIP() << "no io_uring here";
  for (const uint32_t length : {4096u, 131072u}) {
    DropPages();
    std::promise<void> release = BlockWorker();
    std::future<std::string> read = StartRead(0, length);
    if (GetParam()) {
      EXPECT_EQ(read.get(), bytes.substr(0, length));
    } else if (length > 65536) {
      // Of a short one the loop may find the bytes at once: asking for them begins to fetch them.
      EXPECT_EQ(read.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
    }
    release.set_value();
    if (!GetParam()) {
      EXPECT_EQ(read.get(), bytes.substr(0, length));
    }
  }
}

TEST_P(DataServiceTest, LongReadsFromTheDiskAreMadeByThreads) {
  const std::string bytes = WriteBlocks(64);
  DropPages();
  std::promise<void> release = BlockWorker();
  std::future<std::string> read = StartRead(0, 262144);
  EXPECT_EQ(read.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  release.set_value();
  EXPECT_EQ(read.get(), bytes);
}

TEST_P(DataServiceTest, ASilentDiskHoldsUpNoLoop) {
  const std::string bytes = WriteBlocks(64);
  DropPages();
  EXPECT_EQ(ReadBytes(4096, 4096), bytes.substr(4096, 4096));
  std::vector<std::unique_ptr<DiskReadGate::Passage>> waiting;
  while (target().disk_gate().is_open()) waiting.push_back(std::make_unique<DiskReadGate::Passage>(target().disk_gate()));
  std::promise<void> release = BlockWorker();
  std::future<std::string> read = StartRead(8192, 4096);
  EXPECT_EQ(read.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout) << "it waits for a thread";
  EXPECT_EQ(ReadBytes(4096, 4096), bytes.substr(4096, 4096)) << "what is in memory does not";
  release.set_value();
  EXPECT_EQ(read.get(), bytes.substr(8192, 4096));
}

TEST_P(DataServiceTest, ASegmentThatEndsEarlyIsDamage) {
  WriteBlocks(64);
  DropPages();
  for (const auto& segment : std::filesystem::directory_iterator(Directory("a") + "/segments")) std::filesystem::resize_file(segment.path(), 4096);
  proto::ReadChunkReply reply;
  EXPECT_EQ(Read(&reply).code(), StatusCode::kCorruption);
}

INSTANTIATE_TEST_SUITE_P(WithAndWithoutIoUring, DataServiceTest, testing::Bool(),
                         [](const testing::TestParamInfo<bool>& param) { return param.param ? "IoUring" : "Threads"; });

}  // namespace
}  // namespace tarn::chunk
