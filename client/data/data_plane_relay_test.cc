// A client that alone does not reach a server: its requests go through another one (docs/replication.md, "Through another
// server").
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <thread>

#include "client/data/chunk_client.h"
#include "client/data/testing/data_plane_fixture.h"
#include "common/base/clock.h"

namespace tarn::client {
namespace {

// No test waits for so long: what it is set for must not be what helps.
constexpr int64_t kNeverMs = 600'000;

bool IsWrite(const FakeRequest& request) { return request.method == rpc::Method::kWriteChunk; }

class DataPlaneRelayTest : public DataPlaneFixture {
 protected:
  static FakeClusterOptions Cuttable(size_t replicas) {
    FakeClusterOptions options{.servers = 3, .replicas = replicas};
    options.layout.width = 1;  // a file lies in one group
    options.can_be_cut = true;
    return options;
  }
  static DataPlaneOptions Patient() {
    DataPlaneOptions options = DefaultOptions();
    options.request_timeout_ms = kNeverMs;
    options.retry_deadline_ms = kNeverMs;
    return options;
  }
  void StartPatient(size_t replicas) { Start(Patient(), Cuttable(replicas)); }

  // A file that is stored, and the connections to its servers are made.
  std::shared_ptr<InodeData> StoredFile(uint64_t seed) {
    const auto data = NewFile();
    expected_ = Pattern(50'000, seed);
    EXPECT_TRUE(WriteAll(*data, 0, expected_).ok());
    EXPECT_TRUE(Sync(*data).ok());
    ExpectReads(*data);
    group_ = cluster->GroupIndexOf(cluster->metadata->Get(file), 0);
    return data;
  }
  // New bytes in the place of a part of the old ones, stored.
  void Overwrite(InodeData& data, uint64_t offset, uint64_t seed) {
    const auto bytes = Pattern(10'000, seed);
    std::copy(bytes.begin(), bytes.end(), expected_.begin() + static_cast<int64_t>(offset));
    ASSERT_TRUE(WriteAll(data, offset, bytes).ok());
    ASSERT_TRUE(Sync(data).ok());
  }
  void ExpectReads(InodeData& data) {
    const auto bytes = ReadBytes(data, {0, expected_.size()});
    ASSERT_TRUE(bytes.ok()) << bytes.status().ToString();
    EXPECT_EQ(*bytes, expected_);
  }
  void ExpectStored() { EXPECT_EQ(cluster->StoredBytes(file, /*after_restart=*/true), expected_); }
  FakeChunkServer& primary() { return *cluster->MembersAt(group_).front(); }
  NetworkCut& WayTo(const FakeChunkServer& server) { return *cluster->ways[server.target().value() - 1]; }
  FakeChunkServer& OtherThanPrimary(size_t index) {
    return *cluster->servers[(primary().target().value() + index) % cluster->servers.size()];
  }
  uint64_t Relayed() const { return plane->counters().relayed_requests; }

  std::vector<uint8_t> expected_;
  size_t group_ = 0;
};

TEST_F(DataPlaneRelayTest, WritesReadsAndSyncsOfTheOnlyCopyGoThroughAnotherServer) {
  StartPatient(1);
  const auto data = StoredFile(1);
  EXPECT_EQ(Relayed(), 0u);
  WayTo(primary()).Cut();
  Overwrite(*data, 1'000, 2);
  ExpectReads(*data);
  ExpectStored();
  ASSERT_TRUE(TruncateTo(*data, 20'000).ok());
  expected_.resize(20'000);
  ExpectReads(*data);
  ExpectStored();
  EXPECT_GE(Relayed(), 4u);
}

TEST_F(DataPlaneRelayTest, AFirstConnectionThatIsNeverMadeIsNoHindrance) {
  StartPatient(1);
  for (const auto& way : cluster->ways) way->Cut();
  cluster->ways[0]->Mend();
  for (uint64_t seed = 0; seed < 3; ++seed) {  // on all servers
    const auto data = NewFile();
    expected_ = Pattern(50'000, seed);
    ASSERT_TRUE(WriteAll(*data, 0, expected_).ok());
    ASSERT_TRUE(Sync(*data).ok());
    ExpectReads(*data);
  }
  EXPECT_GT(Relayed(), 0u);
}

TEST_F(DataPlaneRelayTest, OnlyTheFirstRequestWaits) {
  StartPatient(1);
  const auto data = StoredFile(1);
  WayTo(primary()).Cut();
  Overwrite(*data, 0, 2);
  const SystemClock clock;
  const int64_t began_ms = clock.MonotonicMs();
  constexpr int kWrites = 40;
  for (int i = 0; i < kWrites; ++i) Overwrite(*data, static_cast<uint64_t>(i) * 500, 3 + static_cast<uint64_t>(i));
  // Finding out takes at least 0.4 s.
  EXPECT_LT(clock.MonotonicMs() - began_ms, kWrites * 400 / 4);
  ExpectStored();
}

TEST_F(DataPlaneRelayTest, GoesDirectlyAgainWhenTheNetworkIsMended) {
  StartPatient(1);
  const auto data = StoredFile(1);
  WayTo(primary()).Cut();
  Overwrite(*data, 0, 2);
  WayTo(primary()).Mend();
  std::atomic<uint64_t> direct = 0;
  primary().SetScript([&](const FakeRequest& request) {
    direct += IsWrite(request) && !request.relayed;
    return FakeAction::kServe;
  });
  // What was stuck comes as well.
  for (uint64_t seed = 3; direct < 5; ++seed) Overwrite(*data, 0, seed);
  const uint64_t relayed = Relayed();
  for (uint64_t seed = 0; seed < 5; ++seed) Overwrite(*data, 0, seed);
  EXPECT_EQ(Relayed(), relayed);
  primary().SetScript(nullptr);
}

// The connection on which a write was stuck delivers it when the network is mended, after a later write of the place.
TEST_F(DataPlaneRelayTest, WhatWasStuckComesTooLate) {
  StartPatient(1);
  const auto data = StoredFile(1);
  std::atomic<uint64_t> late = 0;
  primary().SetScript([&](const FakeRequest& request) {
    late += IsWrite(request) && !request.relayed;
    return FakeAction::kServe;
  });
  WayTo(primary()).Cut();
  Overwrite(*data, 0, 2);
  Overwrite(*data, 0, 3);
  EXPECT_EQ(late, 0u);
  const uint64_t applied = primary().counts().writes_applied;
  WayTo(primary()).Mend();
  primary().WaitFor([&](const FakeChunkServer::Counts&) { return late > 0; });
  ExpectReads(*data);  // whatever came in one piece with it has been handled
  EXPECT_EQ(primary().counts().writes_applied, applied);
  ExpectStored();
  primary().SetScript(nullptr);
}

// As before, but the stuck write was given up: the application has seen an error, and written something else.
TEST_F(DataPlaneRelayTest, WhatWasStuckAndGivenUpComesTooLateAsWell) {
  StartPatient(1);
  StoredFile(1);
  const Attributes attributes = cluster->metadata->Get(file);
  const ChunkReference chunk{.data = attributes.data, .chunk_index = 0, .layout = attributes.layout};
  const auto gate = std::make_shared<MetadataGate>(cluster->metadata.get());
  ChunkClientOptions options;
  options.retry_deadline_ms = options.request_timeout_ms = kNeverMs;
  ChunkClient client(options, cluster->LoopPointers(), gate, std::make_shared<SystemClock>());
  cluster->metadata->SetSession(78);
  const auto write = [&](uint64_t offset, const std::vector<uint8_t>& bytes) {
    const auto promise = std::make_shared<std::promise<Status>>();
    client.Write(chunk, offset, bytes, {}, [promise](const Result<WriteAck>& ack) { promise->set_value(ack.status()); });
    return promise->get_future();
  };
  const auto elsewhere = Pattern(100, 4);
  const auto given_up = Pattern(100, 5);
  const auto later = Pattern(100, 6);
  ASSERT_TRUE(write(0, later).get().ok());  // there is a connection
  std::atomic<uint64_t> late = 0;
  std::atomic<uint64_t> refused = 0;
  primary().SetScript([&](const FakeRequest& request) {
    if (!IsWrite(request)) return FakeAction::kServe;
    late += !request.relayed;
    if (!request.relayed || request.offset != 0 || refused > 0) {
      return request.offset == 0 || !request.relayed ? FakeAction::kServe : FakeAction::kHold;
    }
    ++refused;
    return FakeAction::kNoSpace;
  });
  WayTo(primary()).Cut();
  auto earlier = write(30'000, elsewhere);
  auto failed = write(0, given_up);
  primary().WaitFor([&](const FakeChunkServer::Counts&) { return refused > 0; });
  primary().WaitForHeld(1);
  // An earlier write of the group is not over, and so a later one could not say that this one is.
  EXPECT_EQ(failed.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  primary().Release();
  EXPECT_TRUE(earlier.get().ok());
  EXPECT_EQ(failed.get().code(), StatusCode::kNoSpace);
  ASSERT_TRUE(write(0, later).get().ok());
  const uint64_t applied = primary().counts().writes_applied;
  WayTo(primary()).Mend();
  primary().WaitFor([&](const FakeChunkServer::Counts&) { return late >= 2; });
  primary().SetScript(nullptr);
  ASSERT_TRUE(write(40'000, later).get().ok());
  EXPECT_EQ(primary().counts().writes_applied, applied + 1);
  const auto stored = primary().ChunkBytes({attributes.data, 0}, /*after_restart=*/false);
  EXPECT_TRUE(std::equal(later.begin(), later.end(), stored.begin()));
  client.Close();
  gate->Shut();
}

TEST_F(DataPlaneRelayTest, ServersThatDoNotKnowHowArePassedOver) {
  StartPatient(1);
  const auto data = StoredFile(1);
  OtherThanPrimary(0).SetRelaysTo({});
  WayTo(primary()).Cut();
  Overwrite(*data, 0, 2);
  ExpectReads(*data);
  ExpectStored();
  EXPECT_EQ(OtherThanPrimary(0).counts().passed_on, 0u);
}

TEST_F(DataPlaneRelayTest, IfNobodyKnowsHowTheDirectWayIsTriedToTheEnd) {
  DataPlaneOptions options = DefaultOptions();
  options.retry_deadline_ms = 1'500;
  Start(options, Cuttable(1));
  const auto data = StoredFile(1);
  cluster->SetRelays(/*know_how=*/false);
  WayTo(primary()).Cut();
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(100, 2)).ok());
  EXPECT_EQ(Sync(*data).code(), StatusCode::kUnavailable);
  EXPECT_EQ(Relayed(), 0u);
  WayTo(primary()).Mend();
}

TEST_F(DataPlaneRelayTest, TheServerInBetweenMayGoAway) {
  StartPatient(1);
  const auto data = StoredFile(1);
  WayTo(primary()).Cut();
  Overwrite(*data, 0, 2);
  FakeChunkServer& used = OtherThanPrimary(OtherThanPrimary(0).counts().passed_on > 0 ? 0 : 1);
  // Silently, and then for good.
  WayTo(used).Cut();
  Overwrite(*data, 0, 3);
  used.Stop();
  Overwrite(*data, 0, 4);
  ExpectReads(*data);
  ExpectStored();
}

// It knows nothing of what the one before has answered: a request that was on its way for long must not get there.
TEST_F(DataPlaneRelayTest, OnlyTheProcessThatTheMapNamesIsReached) {
  StartPatient(1);
  const auto data = StoredFile(1);
  WayTo(primary()).Cut();
  Overwrite(*data, 0, 2);
  primary().Restart();
  const auto bytes = Pattern(10'000, 3);
  std::copy(bytes.begin(), bytes.end(), expected_.begin());
  ASSERT_TRUE(WriteAll(*data, 0, bytes).ok());
  auto synced = std::async(std::launch::async, [&] { return Sync(*data); });
  const uint64_t refreshes = cluster->metadata->counts().refreshes;
  while (cluster->metadata->counts().refreshes < refreshes + 3) std::this_thread::yield();
  const uint64_t writes = primary().counts().writes;
  EXPECT_NE(synced.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  cluster->PublishMap();
  ASSERT_TRUE(synced.get().ok());
  EXPECT_GT(primary().counts().writes, writes);
  ExpectStored();
}

TEST_F(DataPlaneRelayTest, CopiesThatAreReachedAreReadFirst) {
  DataPlaneOptions options = Patient();
  options.hedge_ms = 20;
  options.read_cache_bytes = 0;
  Start(options, Cuttable(2));
  const auto data = StoredFile(1);
  WayTo(primary()).Cut();
  Overwrite(*data, 0, 2);  // the primary's, so through another server
  const uint64_t relayed = Relayed();
  const uint64_t seen = primary().counts().reads;
  for (int i = 0; i < 20; ++i) ExpectReads(*data);
  EXPECT_EQ(primary().counts().reads, seen);
  EXPECT_EQ(Relayed(), relayed);
  // Only the primary may answer now.
  cluster->MembersAt(group_)[1]->SetScript([](const FakeRequest& request) {
    return request.method == rpc::Method::kReadChunk ? FakeAction::kAskPrimary : FakeAction::kServe;
  });
  ExpectReads(*data);
  EXPECT_GT(Relayed(), relayed);
  cluster->MembersAt(group_)[1]->SetScript(nullptr);
}

TEST_F(DataPlaneRelayTest, AServerThatIsOnlySlowIsWaitedFor) {
  StartPatient(1);
  const auto data = StoredFile(1);
  primary().SetScript([](const FakeRequest& request) { return IsWrite(request) ? FakeAction::kHold : FakeAction::kServe; });
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(100, 2)).ok());
  auto synced = std::async(std::launch::async, [&] { return Sync(*data); });
  primary().WaitForHeld(1);
  // Long enough for a server that gives no sign of life.
  EXPECT_EQ(synced.wait_for(std::chrono::milliseconds(1'000)), std::future_status::timeout);
  EXPECT_EQ(primary().counts().relayed, 0u);
  primary().SetScript(nullptr);
  primary().Release();
  EXPECT_TRUE(synced.get().ok());
  EXPECT_EQ(Relayed(), 0u);
}

}  // namespace
}  // namespace tarn::client
