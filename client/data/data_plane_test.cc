// The data plane as its callers see it, over fake chunk servers with scripted faults.
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <future>

#include "client/blocking.h"
#include "client/data/testing/data_plane_fixture.h"

namespace tarn::client {
namespace {

constexpr size_t kUnit = 64 << 10;

using DataPlaneTest = DataPlaneFixture;

bool IsWrite(const FakeRequest& request) { return request.method == rpc::Method::kWriteChunk; }
bool IsRead(const FakeRequest& request) { return request.method == rpc::Method::kReadChunk; }

TEST_F(DataPlaneTest, SmallFileCostsOneWriteAndOneCommit) {
  Start();
  const auto data = NewFile();
  const auto bytes = Pattern(50'000, 1);
  ASSERT_TRUE(WriteAll(*data, 0, bytes).ok());
  ASSERT_TRUE(Flush(*data).ok());
  EXPECT_EQ(cluster->Writes(), 1u);
  EXPECT_EQ(cluster->metadata->counts().commits, 1u);
  EXPECT_EQ(cluster->metadata->counts().allocates, 1u);
  EXPECT_EQ(cluster->metadata->Get(file).size_bytes, bytes.size());
  EXPECT_EQ(cluster->StoredBytes(file, /*after_restart=*/false), bytes);
}

TEST_F(DataPlaneTest, FlushOfACleanFileAsksNobody) {
  Start();
  const auto data = NewFile();
  ASSERT_TRUE(Flush(*data).ok());
  EXPECT_EQ(cluster->metadata->counts().commits, 0u);
}

TEST_F(DataPlaneTest, ManyPiecesComeBackAcrossUnitsChunksAndServers) {
  Start();
  const auto data = NewFile();
  const auto bytes = Pattern(3 * 1024 * 1024 + 4711, 2);
  for (size_t offset = 0; offset < bytes.size(); offset += 100'000) {
    const size_t length = std::min<size_t>(100'000, bytes.size() - offset);
    ASSERT_TRUE(WriteAll(*data, offset, std::span(bytes).subspan(offset, length)).ok());
  }
  EXPECT_EQ(*ReadBytes(*data, {0, bytes.size() + 100}), bytes);  // partly still buffered
  ASSERT_TRUE(Sync(*data).ok());
  EXPECT_EQ(cluster->StoredBytes(file, /*after_restart=*/true), bytes);
  EXPECT_EQ(*ReadBytes(*data, {0, bytes.size() + 100}), bytes);  // from the servers
  EXPECT_EQ(*ReadBytes(*data, {bytes.size(), 10}), std::vector<uint8_t>());
  const auto tail = std::vector<uint8_t>(bytes.end() - 5000, bytes.end());
  EXPECT_EQ(*ReadBytes(*data, {bytes.size() - 5000, 8192}), tail);
}

TEST_F(DataPlaneTest, HolesReadAsZeros) {
  Start();
  const auto data = NewFile();
  const auto bytes = Pattern(100, 3);
  ASSERT_TRUE(WriteAll(*data, 1'000'000, bytes).ok());
  std::vector<uint8_t> expected(1'000'100);
  std::copy(bytes.begin(), bytes.end(), expected.begin() + 1'000'000);
  EXPECT_EQ(*ReadBytes(*data, {0, 2'000'000}), expected);
  ASSERT_TRUE(Sync(*data).ok());
  EXPECT_EQ(*ReadBytes(*data, {0, 2'000'000}), expected);
}

TEST_F(DataPlaneTest, AFileWithoutDataReadsAsZeros) {
  Start();
  const auto data = NewFile();
  data->Adopt(cluster->metadata->Truncate(file, 10'000));
  EXPECT_EQ(*ReadBytes(*data, {5'000, 10'000}), std::vector<uint8_t>(5'000));
}

TEST_F(DataPlaneTest, OverlayShowsBufferedSizeAndTime) {
  Start();
  const auto data = NewFile();
  ASSERT_TRUE(WriteAll(*data, 100, Pattern(50, 1)).ok());
  EXPECT_TRUE(data->dirty());
  const Attributes shown = data->Overlay(cluster->metadata->Get(file));
  EXPECT_EQ(shown.size_bytes, 150u);
  EXPECT_GT(shown.mtime_ns, 0);
  ASSERT_TRUE(Flush(*data).ok());
  EXPECT_FALSE(data->dirty());
  EXPECT_EQ(cluster->metadata->Get(file).mtime_ns, shown.mtime_ns);
}

TEST_F(DataPlaneTest, AppendsFollowOneAnother) {
  Start();
  const auto data = NewFile();
  std::vector<uint8_t> expected;
  for (uint64_t i = 0; i < 50; ++i) {
    const auto bytes = Pattern(1'000 + i, i);
    ASSERT_TRUE(Append(*data, bytes).ok());
    expected.insert(expected.end(), bytes.begin(), bytes.end());
    if (i % 7 == 0) {
      ASSERT_TRUE(Flush(*data).ok());
    }
  }
  ASSERT_TRUE(Sync(*data).ok());
  EXPECT_EQ(cluster->StoredBytes(file, true), expected);
}

TEST_F(DataPlaneTest, SyncedDataSurvivesARestartOfTheServers) {
  Start();
  const auto data = NewFile();
  const auto bytes = Pattern(300'000, 4);
  ASSERT_TRUE(WriteAll(*data, 0, bytes).ok());
  ASSERT_TRUE(Sync(*data).ok());
  for (const auto& server : cluster->servers) server->Restart();
  EXPECT_EQ(*ReadBytes(*data, {0, bytes.size()}), bytes);
}

TEST_F(DataPlaneTest, ARepeatedWriteIsAppliedOnce) {
  DataPlaneOptions options = DefaultOptions();
  options.request_timeout_ms = 50;
  Start(options);
  std::atomic<int> dropped{0};
  cluster->SetScript([&](const FakeRequest& request) {
    return IsWrite(request) && dropped.fetch_add(1) < 3 ? FakeAction::kDropReply : FakeAction::kServe;
  });
  const auto data = NewFile();
  const auto bytes = Pattern(1'000, 8);
  ASSERT_TRUE(WriteAll(*data, 0, bytes).ok());
  ASSERT_TRUE(Flush(*data).ok());
  uint64_t applied = 0;
  for (const auto& server : cluster->servers) applied += server->counts().writes_applied;
  EXPECT_EQ(applied, 1u);
  EXPECT_EQ(cluster->Writes(), 4u);
  EXPECT_EQ(cluster->StoredBytes(file, false), bytes);
}

TEST_F(DataPlaneTest, OverlappingWritesReachTheServersInOrder) {
  Start();
  const auto data = NewFile();
  cluster->SetScript(
      [](const FakeRequest& request) { return IsWrite(request) ? FakeAction::kHold : FakeAction::kServe; });
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(kUnit, 1)).ok());
  std::atomic<bool> flushed{false};
  data->Flush([&](const Status&) { flushed = true; });
  FakeChunkServer* server = nullptr;
  while (server == nullptr) {
    for (const auto& candidate : cluster->servers) {
      if (candidate->held() > 0) server = candidate.get();
    }
  }
  // While the first is under way, others are written over it: they wait, and the last one wins.
  auto expected = Pattern(kUnit, 1);
  for (uint64_t i = 2; i < 5; ++i) {
    const auto patch = Pattern(1'000, i);
    ASSERT_TRUE(WriteAll(*data, 500 * i, patch).ok());
    std::copy(patch.begin(), patch.end(), expected.begin() + static_cast<std::ptrdiff_t>(500 * i));
  }
  EXPECT_EQ(server->held(), 1u);
  EXPECT_EQ(*ReadBytes(*data, {0, kUnit}), expected);
  cluster->SetScript(nullptr);
  server->Release();
  ASSERT_TRUE(Sync(*data).ok());
  EXPECT_TRUE(flushed);
  EXPECT_EQ(cluster->StoredBytes(file, true), expected);
}

TEST_F(DataPlaneTest, AStaleEpochFetchesTheMapAndTriesAgain) {
  Start();
  const auto data = NewFile();
  for (size_t i = 0; i < cluster->servers.size(); ++i) cluster->ChangeMembers(i, cluster->MembersAt(i));
  const auto bytes = Pattern(100'000, 9);
  ASSERT_TRUE(WriteAll(*data, 0, bytes).ok());
  ASSERT_TRUE(Flush(*data).ok());
  EXPECT_EQ(cluster->StoredBytes(file, false), bytes);
  EXPECT_GE(cluster->metadata->counts().refreshes, 1u);
}

TEST_F(DataPlaneTest, AByteFlippedOnTheWayIsReadAgain) {
  Start();
  const auto data = NewFile();
  const auto bytes = Pattern(10'000, 10);
  ASSERT_TRUE(WriteAll(*data, 0, bytes).ok());
  ASSERT_TRUE(Sync(*data).ok());
  std::atomic<int> flips{0};
  cluster->SetScript([&](const FakeRequest& request) {
    return IsRead(request) && flips.fetch_add(1) < 2 ? FakeAction::kFlipByte : FakeAction::kServe;
  });
  EXPECT_EQ(*ReadBytes(*data, {0, bytes.size()}), bytes);
  EXPECT_EQ(plane->counters().checksum_failures, 2u);
}

TEST_F(DataPlaneTest, RottenDataIsAnErrorThatNamesChunkAndTarget) {
  Start();
  const auto data = NewFile();
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(10'000, 11)).ok());
  ASSERT_TRUE(Sync(*data).ok());
  cluster->SetScript(
      [](const FakeRequest& request) { return IsRead(request) ? FakeAction::kRot : FakeAction::kServe; });
  const auto result = ReadBytes(*data, {0, 10'000});
  ASSERT_EQ(result.status().code(), StatusCode::kCorruption);
  EXPECT_THAT(result.status().message(),
              testing::HasSubstr("chunk " + std::to_string(cluster->metadata->Get(file).data.value()) + ":0"));
  EXPECT_THAT(result.status().message(), testing::HasSubstr("target "));
  EXPECT_EQ(cluster->Reads(), 3u);
}

TEST_F(DataPlaneTest, AServerThatStaysAwayIsAnErrorReportedOnce) {
  DataPlaneOptions options = DefaultOptions();
  options.retry_deadline_ms = 200;
  Start(options);
  const auto data = NewFile();
  for (const auto& server : cluster->servers) server->Stop();
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(1'000, 12)).ok());
  const Status status = Flush(*data);
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), testing::HasSubstr("127.0.0.1:"));
  EXPECT_TRUE(Flush(*data).ok());
  EXPECT_EQ(data->Overlay(cluster->metadata->Get(file)).size_bytes, 0u);
}

TEST_F(DataPlaneTest, ARestartDuringAWriteIsInvisible) {
  Start();
  const auto data = NewFile();
  const auto bytes = Pattern(2'000'000, 13);
  for (size_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(WriteAll(*data, i * 100'000, std::span(bytes).subspan(i * 100'000, 100'000)).ok());
    if (i % 6 == 3) cluster->servers[i % 2]->Restart();
  }
  ASSERT_TRUE(Sync(*data).ok());
  EXPECT_EQ(cluster->StoredBytes(file, true), bytes);
}

TEST_F(DataPlaneTest, AFullServerIsReportedAtFlushAndFurtherWritesFailEarly) {
  Start();
  const auto data = NewFile();
  std::atomic<bool> full{true};
  cluster->SetScript(
      [&](const FakeRequest& request) { return IsWrite(request) && full ? FakeAction::kNoSpace : FakeAction::kServe; });
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(1'000, 14)).ok());
  EXPECT_EQ(Flush(*data).code(), StatusCode::kNoSpace);
  EXPECT_EQ(WriteAll(*data, 0, Pattern(1'000, 14)).code(), StatusCode::kNoSpace);
  EXPECT_TRUE(Flush(*data).ok());
}

TEST_F(DataPlaneTest, AFailedCommitIsReportedOnce) {
  Start();
  const auto data = NewFile();
  cluster->metadata->FailCommits({Status(StatusCode::kQuota, "quota of the volume")});
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(1'000, 15)).ok());
  EXPECT_EQ(Flush(*data).code(), StatusCode::kQuota);
  EXPECT_TRUE(Flush(*data).ok());
}

TEST_F(DataPlaneTest, AnErrorIsToldToEachOpenFileUntilItsSync) {
  Start();
  const auto data = NewFile();
  const ErrorCursorPtr first = data->NewErrorCursor();
  const ErrorCursorPtr second = data->NewErrorCursor();
  const auto flush = [&](const ErrorCursorPtr& cursor) {
    return WaitStatus([&](auto done) { data->FlushFor(cursor, std::move(done)); }).code();
  };
  const auto sync = [&](const ErrorCursorPtr& cursor) {
    return WaitStatus([&](auto done) { data->SyncFor(cursor, std::move(done)); }).code();
  };
  cluster->metadata->FailCommits({Status(StatusCode::kQuota, "quota of the volume")});
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(1'000, 15)).ok());
  // A forked process closes its copy of the descriptor, and nobody looks at the answer.
  EXPECT_EQ(flush(first), StatusCode::kQuota);
  EXPECT_EQ(sync(first), StatusCode::kQuota);
  EXPECT_EQ(sync(first), StatusCode::kOk);
  EXPECT_EQ(flush(second), StatusCode::kQuota);
  EXPECT_EQ(flush(data->NewErrorCursor()), StatusCode::kOk);
}

TEST_F(DataPlaneTest, AFileRemovedElsewhereIsAStaleHandle) {
  Start();
  const auto data = NewFile();
  cluster->metadata->Remove(file);
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(1'000, 15)).ok());
  EXPECT_EQ(Flush(*data).code(), StatusCode::kStaleHandle);
}

TEST_F(DataPlaneTest, ALayoutThatMakesNoSenseIsCorruption) {
  Start();
  Attributes attributes = cluster->metadata->MakeFile();
  attributes.data = DataId(9);
  attributes.layout.width = 0;
  attributes.size_bytes = 100;
  const auto data = plane->Attach(attributes);
  EXPECT_EQ(ReadBytes(*data, {0, 10}).status().code(), StatusCode::kCorruption);
  EXPECT_EQ(WriteAll(*data, 0, Pattern(10, 1)).code(), StatusCode::kCorruption);
}

TEST_F(DataPlaneTest, WritesBeyondTheLargestFileAreRefused) {
  Start();
  const auto data = NewFile();
  EXPECT_EQ(WriteAll(*data, kFileSizeMax - 5, Pattern(10, 1)).code(), StatusCode::kFileTooLarge);
  EXPECT_EQ(WriteAll(*data, UINT64_MAX - 5, Pattern(10, 1)).code(), StatusCode::kFileTooLarge);
}

// ---- Truncation ----

TEST_F(DataPlaneTest, AShrinkCutsChunksAndWhatComesLaterReadsAsZeros) {
  Start();
  const auto data = NewFile();
  auto expected = Pattern(900'000, 16);
  ASSERT_TRUE(WriteAll(*data, 0, expected).ok());
  ASSERT_TRUE(Flush(*data).ok());
  ASSERT_TRUE(TruncateTo(*data, 123'456).ok());
  EXPECT_EQ(cluster->metadata->counts().truncates_done, 1u);
  EXPECT_EQ(data->Overlay(cluster->metadata->Get(file)).size_bytes, 123'456u);
  const auto tail = Pattern(10, 17);
  ASSERT_TRUE(WriteAll(*data, 950'000, tail).ok());
  expected.resize(123'456);
  expected.resize(950'000);
  expected.insert(expected.end(), tail.begin(), tail.end());
  EXPECT_EQ(*ReadBytes(*data, {0, 1'000'000}), expected);
  ASSERT_TRUE(Sync(*data).ok());
  for (const auto& server : cluster->servers) server->Restart();
  data->Adopt(cluster->metadata->Get(file));
  EXPECT_EQ(*ReadBytes(*data, {0, 1'000'000}), expected);
}

TEST_F(DataPlaneTest, ATruncateThatARestartForgotIsDoneAgain) {
  Start();
  const auto data = NewFile();
  auto expected = Pattern(400'000, 18);
  ASSERT_TRUE(WriteAll(*data, 0, expected).ok());
  ASSERT_TRUE(Sync(*data).ok());
  std::atomic<bool> restarted{false};
  // The first commit after the cut meets a server that has been restarted in between.
  cluster->SetScript([&](const FakeRequest& request) {
    if (request.method != rpc::Method::kCommitTarget || restarted.exchange(true)) return FakeAction::kServe;
    return FakeAction::kHold;
  });
  std::atomic<bool> done{false};
  const Attributes attributes = cluster->metadata->Truncate(file, 1'000);
  std::promise<Status> promise;
  data->FinishTruncate(attributes, [&](const Status& status) { promise.set_value(status); });
  FakeChunkServer* server = nullptr;
  while (server == nullptr) {
    for (const auto& candidate : cluster->servers) {
      if (candidate->held() > 0) server = candidate.get();
    }
  }
  server->Restart();
  ASSERT_TRUE(promise.get_future().get().ok());
  expected.resize(1'000);
  EXPECT_EQ(cluster->StoredBytes(file, true), expected);
  for (const auto& each : cluster->servers) each->Restart();
  data->Adopt(cluster->metadata->Truncate(file, 400'000));
  expected.resize(400'000);
  EXPECT_EQ(*ReadBytes(*data, {0, 400'000}), expected);
}

TEST_F(DataPlaneTest, TruncatingToZeroDropsWhatIsBuffered) {
  Start();
  const auto data = NewFile();
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(300'000, 19)).ok());
  ASSERT_TRUE(Flush(*data).ok());
  ASSERT_TRUE(WriteAll(*data, 300'000, Pattern(1'000, 20)).ok());
  ASSERT_TRUE(TruncateTo(*data, 0).ok());
  EXPECT_FALSE(data->dirty());
  const auto bytes = Pattern(5'000, 21);
  ASSERT_TRUE(WriteAll(*data, 0, bytes).ok());
  ASSERT_TRUE(Sync(*data).ok());
  EXPECT_EQ(cluster->metadata->counts().allocates, 2u);
  EXPECT_EQ(cluster->StoredBytes(file, true), bytes);
}

TEST_F(DataPlaneTest, AFileReplacedElsewhereGetsTheUnwrittenDataUnderItsNewId) {
  Start();
  const auto data = NewFile();
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(200'000, 22)).ok());
  ASSERT_TRUE(Sync(*data).ok());
  cluster->metadata->Truncate(file, 0);  // by somebody else: this client does not know
  const auto bytes = Pattern(1'000, 23);
  ASSERT_TRUE(WriteAll(*data, 500, bytes).ok());
  ASSERT_TRUE(Sync(*data).ok());
  std::vector<uint8_t> expected(500);
  expected.insert(expected.end(), bytes.begin(), bytes.end());
  EXPECT_EQ(cluster->metadata->Get(file).size_bytes, 1'500u);
  EXPECT_EQ(cluster->StoredBytes(file, true), expected);
  EXPECT_EQ(*ReadBytes(*data, {0, 300'000}), expected);
}

TEST_F(DataPlaneTest, AFileMadeShorterElsewhereKeepsWhatIsWrittenAfterwards) {
  Start();
  const auto data = NewFile();
  auto expected = Pattern(200'000, 24);
  ASSERT_TRUE(WriteAll(*data, 0, expected).ok());
  ASSERT_TRUE(Sync(*data).ok());
  cluster->metadata->Truncate(file, 100'000);
  const auto bytes = Pattern(1'000, 25);
  ASSERT_TRUE(WriteAll(*data, 150'000, bytes).ok());
  ASSERT_TRUE(Sync(*data).ok());
  expected.resize(100'000);
  expected.resize(150'000);
  expected.insert(expected.end(), bytes.begin(), bytes.end());
  EXPECT_EQ(*ReadBytes(*data, {0, 300'000}), expected);
}

// ---- Bounds and background ----

TEST_F(DataPlaneTest, AFullBufferMakesWritersWaitInOrder) {
  DataPlaneOptions options = DefaultOptions();
  options.write_buffer_bytes = 1 << 20;
  Start(options);
  const auto data = NewFile();
  cluster->SetScript(
      [](const FakeRequest& request) { return IsWrite(request) ? FakeAction::kHold : FakeAction::kServe; });
  constexpr size_t kWrites = 64;
  Mutex mutex;
  CondVar changed;
  std::vector<size_t> order;
  std::vector<uint8_t> expected;
  for (size_t i = 0; i < kWrites; ++i) {
    const auto bytes = Pattern(100'000, i);
    expected.insert(expected.end(), bytes.begin(), bytes.end());
    data->Append(bytes, [&, i](const Status& status) {
      EXPECT_TRUE(status.ok());
      MutexLock lock(mutex);
      order.push_back(i);
      changed.NotifyAll();
    });
  }
  {
    MutexLock lock(mutex);
    EXPECT_LT(order.size(), 12u);  // about as many as fit
  }
  EXPECT_LE(plane->counters().dirty_bytes, options.write_buffer_bytes);
  cluster->SetScript(nullptr);
  for (const auto& server : cluster->servers) server->Release();
  {
    MutexLock lock(mutex);
    while (order.size() < kWrites) changed.Wait(lock);
  }
  std::vector<size_t> sorted(kWrites);
  for (size_t i = 0; i < kWrites; ++i) sorted[i] = i;
  EXPECT_EQ(order, sorted);
  ASSERT_TRUE(Sync(*data).ok());
  EXPECT_EQ(cluster->StoredBytes(file, true), expected);
}

TEST_F(DataPlaneTest, OldDataIsFlushedAndCommittedByItself) {
  DataPlaneOptions options = DefaultOptions();
  options.flush_age_ms = 10;
  Start(options);
  const auto data = NewFile();
  const auto bytes = Pattern(1'000, 26);
  ASSERT_TRUE(WriteAll(*data, 0, bytes).ok());
  // Written, published and made stable without anybody asking.
  for (;;) {
    if (cluster->metadata->counts().commits > 0 && cluster->StoredBytes(file, true) == bytes) break;
    std::this_thread::yield();
  }
}

TEST_F(DataPlaneTest, AFileThatWasClosedStaysUntilItsDataIsStable) {
  DataPlaneOptions options = DefaultOptions();
  options.flush_age_ms = 10;
  Start(options);
  const auto bytes = Pattern(100'000, 27);
  {
    const auto data = NewFile();
    ASSERT_TRUE(WriteAll(*data, 0, bytes).ok());
    ASSERT_TRUE(Flush(*data).ok());
  }
  for (const auto& server : cluster->servers) server->Restart();
  while (cluster->StoredBytes(file, true) != bytes) std::this_thread::yield();
}

TEST_F(DataPlaneTest, WriteWholeIsDurable) {
  Start();
  FileLayout layout = cluster->layout;
  layout.seed = 5;
  const auto bytes = Pattern(1'234'567, 28);
  ASSERT_TRUE(
      WaitStatus([&](StatusCallback done) { plane->WriteWhole(DataId(42), layout, bytes, std::move(done)); }).ok());
  Attributes attributes;
  attributes.inode = InodeId(9);
  attributes.data = DataId(42);
  attributes.layout = layout;
  attributes.size_bytes = bytes.size();
  for (const auto& server : cluster->servers) server->Restart();
  const auto data = plane->Attach(attributes);
  EXPECT_EQ(*ReadBytes(*data, {0, bytes.size()}), bytes);
}

TEST_F(DataPlaneTest, SyncAllLeavesErrorsToTheFiles) {
  DataPlaneOptions options = DefaultOptions();
  options.retry_deadline_ms = 100;
  Start(options);
  const auto data = NewFile();
  for (const auto& server : cluster->servers) server->Stop();
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(1'000, 12)).ok());
  const auto sync_all = [&] { return WaitStatus([&](StatusCallback done) { plane->SyncAll(std::move(done)); }); };
  EXPECT_FALSE(sync_all().ok());
  EXPECT_FALSE(Flush(*data).ok());
  EXPECT_TRUE(Flush(*data).ok());
}

TEST_F(DataPlaneTest, ClosingFailsWhatIsUnderWay) {
  Start();
  const auto data = NewFile();
  cluster->SetScript(
      [](const FakeRequest& request) { return IsWrite(request) ? FakeAction::kIgnore : FakeAction::kServe; });
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(1'000'000, 12)).ok());
  std::promise<Status> flushed;
  data->Flush([&](const Status& status) { flushed.set_value(status); });
  cluster->servers[0]->WaitFor([](const FakeChunkServer::Counts& counts) { return counts.writes > 0; });
  plane = nullptr;
  EXPECT_EQ(flushed.get_future().get().code(), StatusCode::kCancelled);
}

// ---- Read-ahead ----

TEST_F(DataPlaneTest, ASmallFileIsOneRequestHoweverItIsRead) {
  Start();
  const auto data = NewFile();
  const auto bytes = Pattern(60'000, 29);
  ASSERT_TRUE(WriteAll(*data, 0, bytes).ok());
  ASSERT_TRUE(Sync(*data).ok());
  const auto handle = plane->NewReadAhead();
  std::vector<uint8_t> read;
  for (size_t offset = 0; offset < bytes.size(); offset += 4096) {
    const auto part = ReadBytes(*data, {offset, 4096}, handle);
    read.insert(read.end(), part->begin(), part->end());
  }
  EXPECT_EQ(read, bytes);
  EXPECT_EQ(cluster->Reads(), 1u);
}

TEST_F(DataPlaneTest, SequentialReadsComeFromSpansFetchedAhead) {
  FakeClusterOptions cluster_options;
  cluster_options.layout.stripe_unit_bytes = 1 << 20;
  cluster_options.layout.chunk_size_bytes = 8 << 20;
  Start(DefaultOptions(), cluster_options);
  const auto data = NewFile();
  const auto bytes = Pattern(8'000'000, 30);
  ASSERT_TRUE(WriteAll(*data, 0, bytes).ok());
  ASSERT_TRUE(Sync(*data).ok());
  const auto handle = plane->NewReadAhead();
  for (size_t offset = 0; offset < bytes.size(); offset += 131'072) {
    const size_t length = std::min<size_t>(131'072, bytes.size() - offset);
    const auto part = ReadBytes(*data, {offset, length}, handle);
    ASSERT_EQ(*part, std::vector<uint8_t>(bytes.begin() + static_cast<std::ptrdiff_t>(offset),
                                          bytes.begin() + static_cast<std::ptrdiff_t>(offset + length)));
  }
  EXPECT_LT(cluster->Reads(), 20u);  // instead of 62
}

TEST_F(DataPlaneTest, RandomReadsFetchTheirBlocksOnly) {
  Start();
  const auto data = NewFile();
  const auto bytes = Pattern(4'000'000, 31);
  ASSERT_TRUE(WriteAll(*data, 0, bytes).ok());
  ASSERT_TRUE(Sync(*data).ok());
  const uint64_t before = plane->counters().bytes_read;
  const auto handle = plane->NewReadAhead();
  uint64_t offset = 3'333'333;
  for (int i = 0; i < 20; ++i) {
    offset = (offset * 48271 + 11) % 3'900'000 / 4096 * 4096;
    const auto part = ReadBytes(*data, {offset, 4096}, handle);
    ASSERT_TRUE(std::equal(part->begin(), part->end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset)));
  }
  EXPECT_EQ(plane->counters().bytes_read - before, 20u * 4096);
}

TEST_F(DataPlaneTest, AReadAskedOnALoopIsAnsweredThere) {
  Start();
  const auto data = NewFile();
  const auto bytes = Pattern(200'000, 14);
  ASSERT_TRUE(WriteAll(*data, 0, bytes).ok());
  ASSERT_TRUE(Sync(*data).ok());
  for (const auto& loop : cluster->loops) {
    for (uint64_t unit = 0; unit < 3; ++unit) {                           // on different servers
      const auto answered_here = std::make_shared<std::promise<bool>>();  // lives until set_value has returned
      loop->Post([&, answered_here] {
        data->Read(nullptr, {unit * kUnit, 4096}, [&, unit, answered_here](const Result<ReadResult>& read) {
          const bool right =
              read.ok() && std::memcmp(read->pieces.front().iov_base, bytes.data() + unit * kUnit, 4096) == 0;
          answered_here->set_value(right && loop->InLoopThread());
        });
      });
      EXPECT_TRUE(answered_here->get_future().get()) << "unit " << unit;
    }
  }
}

TEST_F(DataPlaneTest, CachedBlocksAreDroppedWhenTheDataChangesElsewhere) {
  Start();
  const auto data = NewFile();
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(60'000, 32)).ok());
  ASSERT_TRUE(Sync(*data).ok());
  const auto handle = plane->NewReadAhead();
  ASSERT_TRUE(ReadBytes(*data, {0, 4096}, handle).ok());  // caches the whole file
  cluster->metadata->SetSession(78);
  const auto other = DataPlane::Create(DefaultOptions(), cluster->LoopPointers(), cluster->metadata.get());
  const auto bytes = Pattern(60'000, 33);
  {
    const auto elsewhere = (*other)->Attach(cluster->metadata->Get(file));
    ASSERT_TRUE(WriteAll(*elsewhere, 0, bytes).ok());
    ASSERT_TRUE(Sync(*elsewhere).ok());
  }
  data->Adopt(cluster->metadata->Get(file));
  EXPECT_EQ(*ReadBytes(*data, {0, 60'000}, handle), bytes);
}

TEST_F(DataPlaneTest, WhatAnotherClientWroteIsReadOverOwnBytesThatAreNotStableYet) {
  Start();
  const auto data = NewFile();
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(60'000, 34)).ok());
  ASSERT_TRUE(Flush(*data).ok());  // at the servers, kept until it is on stable storage
  cluster->metadata->SetSession(78);
  const auto other = DataPlane::Create(DefaultOptions(), cluster->LoopPointers(), cluster->metadata.get());
  const auto bytes = Pattern(60'000, 35);
  {
    const auto elsewhere = (*other)->Attach(cluster->metadata->Get(file));
    ASSERT_TRUE(WriteAll(*elsewhere, 0, bytes).ok());
    ASSERT_TRUE(Sync(*elsewhere).ok());
  }
  data->Adopt(cluster->metadata->Get(file));
  const auto handle = plane->NewReadAhead();
  EXPECT_EQ(*ReadBytes(*data, {0, 60'000}, handle), bytes);
  // Its own writes are read as ever, before and after they reach the servers.
  const auto own = Pattern(4096, 36);
  ASSERT_TRUE(WriteAll(*data, 8192, own).ok());
  EXPECT_EQ(*ReadBytes(*data, {8192, 4096}, handle), own);
  ASSERT_TRUE(Flush(*data).ok());
  EXPECT_EQ(*ReadBytes(*data, {8192, 4096}, handle), own);
}

TEST_F(DataPlaneTest, SyncMakesWhatAnotherClientWroteStable) {
  Start();
  const auto data = NewFile();
  auto expected = Pattern(200'000, 37);  // four units, so all columns
  ASSERT_TRUE(WriteAll(*data, 0, expected).ok());
  ASSERT_TRUE(Flush(*data).ok());
  cluster->metadata->SetSession(78);
  const auto other = DataPlane::Create(DefaultOptions(), cluster->LoopPointers(), cluster->metadata.get());
  const auto elsewhere = (*other)->Attach(cluster->metadata->Get(file));
  const auto own = Pattern(4096, 38);
  std::copy(own.begin(), own.end(), expected.begin() + 8192);
  ASSERT_TRUE(WriteAll(*elsewhere, 8192, own).ok());
  ASSERT_TRUE(Sync(*elsewhere).ok());
  EXPECT_NE(cluster->StoredBytes(file, /*after_restart=*/true), expected) << "only its own";
  ASSERT_TRUE(WaitStatus([&](StatusCallback done) {
                elsewhere->SyncEverybodysFor(elsewhere->NewErrorCursor(), std::move(done));
              }).ok());
  EXPECT_EQ(cluster->StoredBytes(file, /*after_restart=*/true), expected);
}

TEST_F(DataPlaneTest, SyncOfASmallFileAsksOnlyWhereItLies) {
  Start();
  const auto data = NewFile();
  ASSERT_TRUE(WriteAll(*data, 0, Pattern(1'000, 39)).ok());
  ASSERT_TRUE(Sync(*data).ok());
  const uint64_t before = cluster->Commits();
  const auto sync = [&] {
    return WaitStatus([&](StatusCallback done) { data->SyncEverybodysFor(data->NewErrorCursor(), std::move(done)); });
  };
  ASSERT_TRUE(sync().ok());
  EXPECT_EQ(cluster->Commits(), before + 1);
  const auto empty = NewFile();
  ASSERT_TRUE(WaitStatus([&](StatusCallback done) {
                empty->SyncEverybodysFor(empty->NewErrorCursor(), std::move(done));
              }).ok());
  EXPECT_EQ(cluster->Commits(), before + 1) << "nothing to commit";
}

TEST_F(DataPlaneTest, OwnWritesReplaceCachedBlocks) {
  Start();
  const auto data = NewFile();
  auto expected = Pattern(60'000, 34);
  ASSERT_TRUE(WriteAll(*data, 0, expected).ok());
  ASSERT_TRUE(Sync(*data).ok());
  const auto handle = plane->NewReadAhead();
  ASSERT_TRUE(ReadBytes(*data, {0, 4096}, handle).ok());
  const auto patch = Pattern(5'000, 35);
  std::copy(patch.begin(), patch.end(), expected.begin() + 30'000);
  ASSERT_TRUE(WriteAll(*data, 30'000, patch).ok());
  EXPECT_EQ(*ReadBytes(*data, {0, 60'000}, handle), expected);
  ASSERT_TRUE(Sync(*data).ok());
  EXPECT_EQ(*ReadBytes(*data, {0, 60'000}, handle), expected);
}

}  // namespace
}  // namespace tarn::client
