// The data plane over groups of several copies, while members fail, are slow, rot or are replaced.
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <thread>

#include "client/data/testing/data_plane_fixture.h"

namespace tarn::client {
namespace {

constexpr size_t kUnit = 64 << 10;
// No test waits for so long: what it is set for must not be what helps.
constexpr int64_t kNeverMs = 600'000;

bool IsRead(const FakeRequest& request) { return request.method == rpc::Method::kReadChunk; }

class DataPlaneCopiesTest : public DataPlaneFixture {
 protected:
  static DataPlaneOptions Patient() {
    DataPlaneOptions options = DefaultOptions();
    options.request_timeout_ms = kNeverMs;
    options.retry_deadline_ms = kNeverMs;
    options.hedge_ms = 20;
    options.node = "node-1";
    return options;
  }

  // A file of one chunk, on stable storage of all members; not in any cache.
  std::shared_ptr<InodeData> StoredFile(uint64_t seed, size_t bytes = 50'000) {
    const auto data = NewFile();
    expected_ = Pattern(bytes, seed);
    EXPECT_TRUE(WriteAll(*data, 0, expected_).ok());
    EXPECT_TRUE(Sync(*data).ok());
    return data;
  }
  void ExpectReads(InodeData& data) {
    const auto bytes = ReadBytes(data, {0, expected_.size()});
    ASSERT_TRUE(bytes.ok()) << bytes.status().ToString();
    EXPECT_EQ(*bytes, expected_);
  }
  std::vector<uint64_t> ReadsOfServers() const {
    std::vector<uint64_t> reads;
    for (const auto& server : cluster->servers) reads.push_back(server->counts().reads);
    return reads;
  }
  FakeChunkServer& server(size_t index) { return *cluster->servers[index]; }
  // The client asks for newer maps by itself.
  void WaitForMapRequests(uint64_t more) {
    const uint64_t until = cluster->metadata->counts().refreshes + more;
    while (cluster->metadata->counts().refreshes < until) std::this_thread::yield();
  }
  static std::future<Status> Begin(const std::function<void(StatusCallback)>& call) {
    auto promise = std::make_shared<std::promise<Status>>();
    auto future = promise->get_future();
    call([promise](const Status& status) { promise->set_value(status); });
    return future;
  }

  std::vector<uint8_t> expected_;
};

// ---- Reads ----

TEST_F(DataPlaneCopiesTest, TheCopyOnThisNodeIsRead) {
  Start(Patient(), ThreeCopies());
  for (uint64_t i = 0; i < 12; ++i) ExpectReads(*StoredFile(i));
  EXPECT_EQ(ReadsOfServers(), (std::vector<uint64_t>{0, 12, 0}));
}

TEST_F(DataPlaneCopiesTest, WithoutACopyOnThisNodeReadsSpreadOverAll) {
  DataPlaneOptions options = Patient();
  options.node = "elsewhere";
  options.hedge_ms = kNeverMs;
  Start(options, ThreeCopies());
  for (uint64_t i = 0; i < 30; ++i) ExpectReads(*StoredFile(i));
  EXPECT_THAT(ReadsOfServers(), testing::Each(testing::Gt(2u)));
  EXPECT_EQ(cluster->Reads(), 30u);
}

TEST_F(DataPlaneCopiesTest, AKilledMemberIsPassedOver) {
  Start(Patient(), ThreeCopies());
  const auto data = StoredFile(1);
  ExpectReads(*data);
  server(1).Stop();
  for (int i = 0; i < 20; ++i) ExpectReads(*data);
  EXPECT_EQ(server(1).counts().reads, 1u);
}

TEST_F(DataPlaneCopiesTest, AMemberThatIsKilledWhileItReadsIsReplacedAtOnce) {
  DataPlaneOptions options = Patient();
  options.hedge_ms = kNeverMs;
  Start(options, ThreeCopies());
  const auto data = StoredFile(1);
  server(1).SetScript(
      [](const FakeRequest& request) { return IsRead(request) ? FakeAction::kIgnore : FakeAction::kServe; });
  auto read = std::async(std::launch::async, [&] { return ReadBytes(*data, {0, expected_.size()}); });
  server(1).WaitFor([](const FakeChunkServer::Counts& counts) { return counts.reads == 1; });
  server(1).Stop();
  EXPECT_EQ(*read.get(), expected_);
}

TEST_F(DataPlaneCopiesTest, ASilentMemberLosesItsReadsAndIsAvoided) {
  Start(Patient(), ThreeCopies());
  const auto data = StoredFile(2);
  server(1).SetScript(
      [](const FakeRequest& request) { return IsRead(request) ? FakeAction::kIgnore : FakeAction::kServe; });
  ExpectReads(*data);
  EXPECT_GE(plane->counters().second_reads, 1u);
  for (int i = 0; i < 20; ++i) ExpectReads(*data);
  EXPECT_EQ(server(1).counts().reads, 1u);
}

TEST_F(DataPlaneCopiesTest, TwoSilentMembersLeaveTheThird) {
  Start(Patient(), ThreeCopies());
  const auto data = StoredFile(3, 3 * kUnit);
  for (const size_t silent : {0u, 1u})
    server(silent).SetScript(
        [](const FakeRequest& request) { return IsRead(request) ? FakeAction::kIgnore : FakeAction::kServe; });
  ExpectReads(*data);
  EXPECT_GE(server(2).counts().reads, 3u);
}

TEST_F(DataPlaneCopiesTest, WhatASlowMemberAnswersTooLateIsDropped) {
  Start(Patient(), ThreeCopies());
  const auto data = StoredFile(4);
  server(1).SetScript(
      [](const FakeRequest& request) { return IsRead(request) ? FakeAction::kHold : FakeAction::kServe; });
  const auto read = Wait<ReadResult>([&](Callback<ReadResult> done) {
    data->Read(nullptr, {0, expected_.size()}, std::move(done));
  });
  ASSERT_TRUE(read.ok());
  // Nothing but what the caller holds now may change.
  std::vector<uint8_t> scribble(expected_.size(), 0x77);
  std::memcpy(read->pieces.front().iov_base, scribble.data(), scribble.size());
  server(1).WaitForHeld(1);
  server(1).SetScript(nullptr);
  server(1).Release();
  // Another answer over the same connection comes after the late one.
  server(0).Stop();
  server(2).Stop();
  ExpectReads(*data);
  EXPECT_EQ(std::memcmp(read->pieces.front().iov_base, scribble.data(), scribble.size()), 0);
}

TEST_F(DataPlaneCopiesTest, ASlowClusterIsNotAskedForMuchMore) {
  DataPlaneOptions options = Patient();
  options.node = "";
  Start(options, ThreeCopies());
  constexpr size_t kReads = 300;
  const auto data = StoredFile(5, 40 * kUnit);
  cluster->SetScript(
      [](const FakeRequest& request) { return IsRead(request) ? FakeAction::kHold : FakeAction::kServe; });
  std::vector<std::future<Status>> reads;
  for (size_t i = 0; i < kReads; ++i) {
    reads.push_back(Begin([&](StatusCallback done) {
      data->Read(nullptr, {i % 40 * kUnit + i / 40 * 4096, 4096},
                 [done = std::move(done)](const Result<ReadResult>& read) { done(read.status()); });
    }));
  }
  // All of them are slow for many times the delay; the loops' timers say when that is.
  for (int i = 0; i < 30; ++i) {
    std::promise<void> later;
    cluster->loops[0]->PostAfter(10, [&] { later.set_value(); });
    later.get_future().get();
  }
  EXPECT_GT(plane->counters().second_reads, 0u);
  EXPECT_LE(cluster->Reads(), kReads + kReads / 20 + 16);
  cluster->SetScript(nullptr);
  for (const auto& each : cluster->servers) each->Release();
  for (auto& read : reads) EXPECT_TRUE(read.get().ok());
}

TEST_F(DataPlaneCopiesTest, AMemberThatMayNotAnswerSendsTheReadToThePrimary) {
  DataPlaneOptions options = Patient();
  options.hedge_ms = kNeverMs;
  Start(options, ThreeCopies());
  server(1).SetScript(
      [](const FakeRequest& request) { return IsRead(request) ? FakeAction::kAskPrimary : FakeAction::kServe; });
  for (uint64_t i = 0; i < 6; ++i) {
    const auto data = StoredFile(i);
    FakeChunkServer& primary = cluster->ServerOf(cluster->metadata->Get(file), 0);
    if (&primary == &server(1)) continue;
    const uint64_t before = primary.counts().reads;
    ExpectReads(*data);
    EXPECT_EQ(primary.counts().reads, before + 1);
  }
  EXPECT_GT(server(1).counts().reads, 0u);
}

TEST_F(DataPlaneCopiesTest, AMemberWithoutItsGrantAnswersForASlowPrimary) {
  Start(Patient(), ThreeCopies());
  const auto data = StoredFile(13);
  FakeChunkServer& primary = cluster->ServerOf(cluster->metadata->Get(file), 0);
  cluster->SetScript([](const FakeRequest& request) {
    return IsRead(request) && !request.primary_is_silent ? FakeAction::kAskPrimary : FakeAction::kServe;
  });
  // It is not silent: others of its answers come.
  primary.SetScript([](const FakeRequest& request) { return IsRead(request) ? FakeAction::kHold : FakeAction::kServe; });
  ExpectReads(*data);
  EXPECT_EQ(primary.counts().reads, 1u);
  primary.SetScript(nullptr);
  primary.Release();
}

TEST_F(DataPlaneCopiesTest, ReadsFollowTheMembersOfANewEpoch) {
  Start(Patient(), ThreeCopies());
  const auto data = StoredFile(6);
  cluster->RemoveFromGroups(server(1));
  ExpectReads(*data);
  ExpectReads(*data);
  EXPECT_EQ(server(1).counts().reads, 1u);  // it knows better
}

TEST_F(DataPlaneCopiesTest, ABadCopyIsReadElsewhereAndAskedToMendItself) {
  Start(Patient(), ThreeCopies());
  const auto data = StoredFile(7);
  server(1).SetScript([](const FakeRequest& request) {
    return IsRead(request) && !request.verify_at_source ? FakeAction::kRot : FakeAction::kServe;
  });
  ExpectReads(*data);
  server(1).WaitFor([](const FakeChunkServer::Counts& counts) { return counts.source_checks == 1; });
  EXPECT_EQ(server(0).counts().source_checks + server(2).counts().source_checks, 0u);
  EXPECT_EQ(cluster->Reads(), 3u);
}

TEST_F(DataPlaneCopiesTest, OneGoodCopyIsEnough) {
  Start(Patient(), ThreeCopies());
  const auto data = StoredFile(8);
  for (const size_t bad : {0u, 1u})
    server(bad).SetScript(
        [](const FakeRequest& request) { return IsRead(request) ? FakeAction::kRot : FakeAction::kServe; });
  ExpectReads(*data);
}

TEST_F(DataPlaneCopiesTest, OnlyIfAllCopiesAreBadIsItCorruption) {
  Start(Patient(), ThreeCopies());
  const auto data = StoredFile(9);
  cluster->SetScript(
      [](const FakeRequest& request) { return IsRead(request) ? FakeAction::kRot : FakeAction::kServe; });
  const auto result = ReadBytes(*data, {0, expected_.size()});
  EXPECT_EQ(result.status().code(), StatusCode::kCorruption);
  for (const auto& each : cluster->servers) EXPECT_EQ(each->counts().source_checks, 1u);
}

TEST_F(DataPlaneCopiesTest, ReadsEndWhenTheClientIsClosed) {
  DataPlaneOptions options = Patient();
  Start(options, ThreeCopies());
  const auto data = StoredFile(10);
  cluster->SetScript(
      [](const FakeRequest& request) { return IsRead(request) ? FakeAction::kIgnore : FakeAction::kServe; });
  auto read = Begin([&](StatusCallback done) {
    data->Read(nullptr, {0, 4096},
               [done = std::move(done)](const Result<ReadResult>& result) { done(result.status()); });
  });
  while (plane->counters().second_reads == 0) std::this_thread::yield();
  plane = nullptr;
  EXPECT_EQ(read.get().code(), StatusCode::kCancelled);
}

// ---- Writes ----

TEST_F(DataPlaneCopiesTest, WritesAreOnAllMembers) {
  Start(Patient(), ThreeCopies());
  const auto data = StoredFile(11, 1'000'000);
  for (size_t member = 0; member < 3; ++member) EXPECT_EQ(cluster->StoredBytes(file, true, member), expected_);
}

TEST_F(DataPlaneCopiesTest, AKilledPrimaryIsReplacedAsSoonAsTheMapSaysSo) {
  Start(Patient(), ThreeCopies());
  const auto data = NewFile();
  expected_ = Pattern(1'000'000, 12);
  server(0).Stop();
  ASSERT_TRUE(WriteAll(*data, 0, expected_).ok());
  auto flushed = Begin([&](StatusCallback done) { data->Flush(std::move(done)); });
  WaitForMapRequests(3);
  cluster->RemoveFromGroups(server(0));
  EXPECT_TRUE(flushed.get().ok());
  EXPECT_EQ(cluster->StoredBytes(file, false), expected_);
  ExpectReads(*data);
}

TEST_F(DataPlaneCopiesTest, ASilentPrimaryIsLeftAndItsWritesAreAppliedOnce) {
  Start(Patient(), ThreeCopies());
  const auto data = NewFile();
  expected_ = Pattern(1'000'000, 13);
  // The members have it; the client does not hear of it.
  server(0).SetScript([](const FakeRequest&) { return FakeAction::kDropReply; });
  ASSERT_TRUE(WriteAll(*data, 0, expected_).ok());
  auto flushed = Begin([&](StatusCallback done) { data->Flush(std::move(done)); });
  server(0).WaitFor([](const FakeChunkServer::Counts& counts) { return counts.writes_applied > 0; });
  WaitForMapRequests(2);
  const uint64_t applied = server(0).counts().writes_applied;
  uint64_t all_applied = 0;
  cluster->RemoveFromGroups(server(0));
  EXPECT_TRUE(flushed.get().ok());
  for (const auto& each : cluster->servers) all_applied += each->counts().writes_applied;
  EXPECT_GT(applied, 0u);
  EXPECT_EQ(all_applied, (expected_.size() + kUnit - 1) / kUnit);
  EXPECT_EQ(cluster->StoredBytes(file, false), expected_);
}

TEST_F(DataPlaneCopiesTest, AnotherPrimaryIsFoundByAStaleEpoch) {
  Start(Patient(), ThreeCopies());
  const auto data = StoredFile(14);
  for (size_t i = 0; i < 3; ++i) {
    auto members = cluster->MembersAt(i);
    std::rotate(members.begin(), members.begin() + 1, members.end());
    cluster->ChangeMembers(i, members);
  }
  expected_ = Pattern(400'000, 15);
  ASSERT_TRUE(WriteAll(*data, 0, expected_).ok());
  ASSERT_TRUE(Flush(*data).ok());
  EXPECT_EQ(cluster->StoredBytes(file, false), expected_);
}

TEST_F(DataPlaneCopiesTest, WritesThatWaitForASilentPrimaryGoToTheNextOneInManyWindows) {
  FakeClusterOptions cluster_options{.servers = 2, .replicas = 2};
  cluster_options.layout.stripe_unit_bytes = 4096;
  cluster_options.layout.width = 2;
  DataPlaneOptions options = Patient();
  Start(options, cluster_options);
  const auto data = NewFile();
  expected_ = Pattern(4096 * 1'000, 16);  // several times what may be under way to one server
  server(0).SetScript([](const FakeRequest&) { return FakeAction::kIgnore; });
  ASSERT_TRUE(WriteAll(*data, 0, expected_).ok());
  auto flushed = Begin([&](StatusCallback done) { data->Flush(std::move(done)); });
  WaitForMapRequests(2);
  cluster->RemoveFromGroups(server(0));
  EXPECT_TRUE(flushed.get().ok());
  EXPECT_EQ(cluster->StoredBytes(file, false), expected_);
}

// ---- Commits ----

TEST_F(DataPlaneCopiesTest, WhatADeadPrimaryAcknowledgedIsSentToItsSuccessor) {
  Start(Patient(), ThreeCopies());
  const auto data = NewFile();
  expected_ = Pattern(600'000, 17);
  ASSERT_TRUE(WriteAll(*data, 0, expected_).ok());
  ASSERT_TRUE(Flush(*data).ok());
  server(0).Stop();
  cluster->RemoveFromGroups(server(0));
  ASSERT_TRUE(Sync(*data).ok());
  for (size_t member = 0; member < 2; ++member) EXPECT_EQ(cluster->StoredBytes(file, true, member), expected_);
}

TEST_F(DataPlaneCopiesTest, ASyncDoesNotWaitForASilentPrimaryThatIsReplaced) {
  Start(Patient(), ThreeCopies());
  const auto data = NewFile();
  expected_ = Pattern(600'000, 18);
  ASSERT_TRUE(WriteAll(*data, 0, expected_).ok());
  ASSERT_TRUE(Flush(*data).ok());
  server(0).SetScript([](const FakeRequest&) { return FakeAction::kIgnore; });
  auto synced = Begin([&](StatusCallback done) { data->Sync(std::move(done)); });
  server(0).WaitFor([](const FakeChunkServer::Counts& counts) { return counts.commits > 0; });
  WaitForMapRequests(2);
  cluster->RemoveFromGroups(server(0));
  EXPECT_TRUE(synced.get().ok());
  EXPECT_EQ(cluster->StoredBytes(file, true), expected_);
}

TEST_F(DataPlaneCopiesTest, ATargetThatIsNotPrimaryAnyMorePromisesNothing) {
  Start(Patient(), ThreeCopies());
  const auto data = NewFile();
  expected_ = Pattern(600'000, 19);
  ASSERT_TRUE(WriteAll(*data, 0, expected_).ok());
  ASSERT_TRUE(Flush(*data).ok());
  // The old primaries are alive; this client's map is as it was.
  for (size_t i = 0; i < 3; ++i) {
    auto members = cluster->MembersAt(i);
    std::rotate(members.begin(), members.begin() + 1, members.end());
    cluster->ChangeMembers(i, members);
  }
  ASSERT_TRUE(Sync(*data).ok());
  EXPECT_GT(cluster->Commits(), 0u);  // in vain
  EXPECT_EQ(cluster->StoredBytes(file, true), expected_);
}

TEST_F(DataPlaneCopiesTest, ATruncateIsDoneAgainAtANewPrimary) {
  Start(Patient(), ThreeCopies());
  const auto data = StoredFile(20, 700'000);
  std::atomic<bool> changed{false};
  cluster->SetScript([&](const FakeRequest& request) {
    return request.method == rpc::Method::kCommitTarget && !changed ? FakeAction::kHold : FakeAction::kServe;
  });
  const Attributes attributes = cluster->metadata->Truncate(file, 1'000);
  auto cut = Begin([&](StatusCallback done) { data->FinishTruncate(attributes, std::move(done)); });
  while (server(0).held() + server(1).held() + server(2).held() < 3) std::this_thread::yield();
  changed = true;
  server(0).Stop();
  cluster->RemoveFromGroups(server(0));
  server(1).Release();
  server(2).Release();
  ASSERT_TRUE(cut.get().ok());
  expected_.resize(1'000);
  EXPECT_EQ(cluster->StoredBytes(file, true), expected_);
  data->Adopt(cluster->metadata->Truncate(file, 700'000));
  expected_.resize(700'000);
  ExpectReads(*data);
}

}  // namespace
}  // namespace tarn::client
