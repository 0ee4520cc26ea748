// What the data plane sends again after a server has begun anew, and as what.
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <vector>

#include "client/blocking.h"
#include "client/data/testing/data_plane_fixture.h"

namespace tarn::client {
namespace {

using DataPlaneResendTest = DataPlaneFixture;

TEST_F(DataPlaneResendTest, DataThatARestartForgotIsSentAgain) {
  Start();
  const auto data = NewFile();
  const auto bytes = Pattern(500'000, 5);
  ASSERT_TRUE(WriteAll(*data, 0, bytes).ok());
  ASSERT_TRUE(Flush(*data).ok());
  EXPECT_EQ(cluster->Commits(), 0u);
  for (const auto& server : cluster->servers) server->Restart();
  EXPECT_NE(cluster->StoredBytes(file, true), bytes);      // gone from the servers ...
  EXPECT_EQ(*ReadBytes(*data, {0, bytes.size()}), bytes);  // ... but not from the client
  ASSERT_TRUE(Sync(*data).ok());
  EXPECT_EQ(cluster->StoredBytes(file, true), bytes);
}

TEST_F(DataPlaneResendTest, ForgottenDataDoesNotReplaceLaterWrites) {
  Start();
  const auto data = NewFile();
  auto expected = Pattern(200'000, 6);
  ASSERT_TRUE(WriteAll(*data, 0, expected).ok());
  ASSERT_TRUE(Flush(*data).ok());
  // The patch reaches the new incarnation, and is stable there, before the client learns that the old one is gone.
  for (const auto& server : cluster->servers) server->Restart();
  const auto patch = Pattern(10'000, 7);
  std::copy(patch.begin(), patch.end(), expected.begin() + 70'000);
  ASSERT_TRUE(WriteAll(*data, 70'000, patch).ok());
  ASSERT_TRUE(Sync(*data).ok());
  EXPECT_EQ(cluster->StoredBytes(file, true), expected);
  EXPECT_EQ(*ReadBytes(*data, {0, expected.size()}), expected);
}

// One unit, so one chunk.
TEST_F(DataPlaneResendTest, WhatIsSentAgainSaysSoAndGivesWayToLaterBytes) {
  Start();
  const auto data = NewFile();
  auto expected = Pattern(60'000, 40);
  ASSERT_TRUE(WriteAll(*data, 0, expected).ok());
  ASSERT_TRUE(Flush(*data).ok());
  FakeChunkServer& server = cluster->ServerOf(cluster->metadata->Get(file), 0);
  server.Restart();
  std::vector<FakeRequest> sent;
  server.SetLaterWrites([&](const FakeRequest& request) {
    sent.push_back(request);
    return sent.size() == 1 ? std::vector<ByteRange>{{100, 50}, {59'000, 5'000}} : std::vector<ByteRange>();
  });
  ASSERT_TRUE(Sync(*data).ok());
  server.SetLaterWrites(nullptr);
  ASSERT_EQ(sent.size(), 3u);
  for (const FakeRequest& request : sent) EXPECT_EQ(request.acknowledged_version, 1u);
  EXPECT_EQ(sent[1].offset, 0u);
  EXPECT_EQ(sent[1].length, 100u);
  EXPECT_EQ(sent[2].offset, 150u);
  EXPECT_EQ(sent[2].length, 59'000u - 150u);
  // The holes are where the other client's bytes would be.
  std::fill(expected.begin() + 100, expected.begin() + 150, 0);
  std::fill(expected.begin() + 59'000, expected.end(), 0);
  EXPECT_EQ(cluster->StoredBytes(file, /*after_restart=*/true), expected);
  EXPECT_EQ(*ReadBytes(*data, {0, 60'000}), expected) << "nor are they read from here any more";
}

TEST_F(DataPlaneResendTest, WhatNobodyElseCanHaveWrittenNamesNoStamp) {
  struct Row {
    const char* what;
    uint64_t when_written, when_sent_again;
    bool names_stamp;
  };
  const Row rows[] = {{"alone since", 5, 5, false}, {"others write", 0, 0, true}, {"alone now", 0, 5, true},
                      {"alone then", 5, 0, true},   {"alone again", 5, 6, true}};
  Start();
  for (const Row& row : rows) {
    const auto data = NewFile();
    const auto expected = Pattern(60'000, 44);
    cluster->metadata->SetSoleWriterTerm(row.when_written);
    ASSERT_TRUE(WriteAll(*data, 0, expected).ok());
    ASSERT_TRUE(Flush(*data).ok());
    cluster->metadata->SetSoleWriterTerm(row.when_sent_again);
    FakeChunkServer& server = cluster->ServerOf(cluster->metadata->Get(file), 0);
    server.Restart();
    std::atomic<int> sent = 0;
    std::atomic<int> named = 0;
    server.SetScript([&](const FakeRequest& request) {
      sent += request.method == rpc::Method::kWriteChunk;
      named += request.sent_again;
      return FakeAction::kServe;
    });
    ASSERT_TRUE(Sync(*data).ok());
    server.SetScript(nullptr);
    EXPECT_EQ(sent, 1) << row.what;
    EXPECT_EQ(named > 0, row.names_stamp) << row.what;
    EXPECT_EQ(cluster->StoredBytes(file, /*after_restart=*/true), expected) << row.what;
  }
}

TEST_F(DataPlaneResendTest, WhatWasGivenUpIsNeverSentAgain) {
  Start();
  const auto data = NewFile();
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(60'000, 41)).ok());
  ASSERT_TRUE(Flush(*data).ok());
  FakeChunkServer& server = cluster->ServerOf(cluster->metadata->Get(file), 0);
  server.Restart();
  std::atomic<int> sent = 0;
  server.SetLaterWrites([&](const FakeRequest& request) {
    ++sent;
    return std::vector<ByteRange>{{request.offset, request.length}};
  });
  ASSERT_TRUE(Sync(*data).ok());
  EXPECT_EQ(sent, 1);
  server.Restart();
  ASSERT_TRUE(Sync(*data).ok());
  EXPECT_EQ(sent, 1);
  server.SetLaterWrites(nullptr);
}

TEST_F(DataPlaneResendTest, NewWritesAreNotMixedIntoWhatIsSentAgain) {
  Start();
  const auto data = NewFile();
  auto expected = Pattern(60'000, 42);
  ASSERT_TRUE(WriteAll(*data, 0, expected).ok());
  ASSERT_TRUE(Flush(*data).ok());
  FakeChunkServer& server = cluster->ServerOf(cluster->metadata->Get(file), 0);
  server.Restart();
  Mutex mutex;
  std::vector<FakeRequest> writes;
  server.SetScript([&](const FakeRequest& request) {
    if (request.method != rpc::Method::kWriteChunk) return FakeAction::kServe;
    MutexLock lock(mutex);
    writes.push_back(request);
    return writes.size() == 1 ? FakeAction::kHold : FakeAction::kServe;
  });
  auto synced = std::async(std::launch::async, [&] { return Sync(*data); });
  server.WaitForHeld(1);
  const auto own = Pattern(4096, 43);
  std::copy(own.begin(), own.end(), expected.begin() + 8192);
  ASSERT_TRUE(WriteAll(*data, 8192, own).ok());
  server.Release();
  ASSERT_TRUE(synced.get().ok());
  ASSERT_TRUE(Sync(*data).ok());
  server.SetScript(nullptr);
  MutexLock lock(mutex);
  for (const FakeRequest& write : writes) EXPECT_EQ(write.sent_again, write.length > 4096) << write.length;
  EXPECT_EQ(cluster->StoredBytes(file, /*after_restart=*/true), expected);
}

}  // namespace
}  // namespace tarn::client
