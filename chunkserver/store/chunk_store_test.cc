// What a chunk store does while it runs: reads, writes, truncations, deletions, sessions, space.
#include "chunkserver/store/chunk_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "chunkserver/store/store_fixture.h"
#include "chunkserver/store/store_model.h"
#include "common/base/posix_io.h"

namespace tarn::store {
namespace {

using testing::HasSubstr;

class ChunkStoreTest : public StoreFixture {
 protected:
  std::string Read(ChunkId chunk, uint64_t offset, uint32_t length, const TruncateView& view = {}) {
    std::string problem;
    const std::string bytes = ReadRange(store_.get(), {.chunk = chunk, .offset = offset, .length = length, .view = view}, &problem);
    EXPECT_EQ(problem, "");
    return bytes;
  }
  std::string ReadAll(ChunkId chunk) {
    std::string problem;
    const std::string bytes = ReadWholeChunk(store_.get(), chunk, &problem);
    EXPECT_EQ(problem, "");
    return bytes;
  }
  void Maintain(int rounds = 1) {
    for (int i = 0; i < rounds; ++i) {
      const Status maintained = store_->Maintain();
      ASSERT_TRUE(maintained.ok()) << maintained.ToString();
    }
  }
  static size_t OpenSegmentFiles() {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code error;
      count += std::filesystem::read_symlink(entry.path(), error).extension() == ".seg" ? 1 : 0;
    }
    return count;
  }
  uint64_t UsedBytes() {
    const Result<SpaceReport> space = store_->Space();
    EXPECT_TRUE(space.ok()) << space.status().ToString();
    return space.ok() ? space->used_bytes : 0;
  }
};

TEST_F(ChunkStoreTest, AChunkThatWasNeverWrittenIsEmpty) {
  Open();
  EXPECT_EQ(ReadAll(Id(1)), "");
  EXPECT_EQ(Read(Id(1), 1 << 20, 4096), "");
  EXPECT_TRUE(store_->StatData(DataId(1))->empty());
}

TEST_F(ChunkStoreTest, BytesComeBackAtAnyOffset) {
  Open();
  const std::string bytes = Pattern(10'000, 1);
  Write(Id(1), 5'000, bytes);
  EXPECT_EQ(ReadAll(Id(1)), std::string(5'000, '\0') + bytes);
  EXPECT_EQ(Read(Id(1), 8192, 4096), bytes.substr(8192 - 5'000, 4096));
  EXPECT_EQ(Read(Id(1), 12'288, 1 << 20), bytes.substr(12'288 - 5'000)) << "cut at the chunk's end";
}

TEST_F(ChunkStoreTest, AnUnalignedOverwriteKeepsItsNeighbours) {
  Open();
  std::string all = Pattern(20'000, 1);
  Write(Id(1), 0, all);
  for (const auto& [offset, length] : {std::pair<size_t, size_t>{1, 1}, {4'000, 200}, {4'096, 4'096}, {8'191, 2}, {19'999, 1}, {100, 15'000}}) {
    const std::string bytes = Pattern(length, offset);
    Write(Id(1), offset, bytes);
    all.replace(offset, length, bytes);
    ASSERT_EQ(ReadAll(Id(1)), all) << offset;
  }
}

TEST_F(ChunkStoreTest, HolesReadAsZeros) {
  Open();
  Write(Id(1), 100, "a");
  Write(Id(1), 3 << 20, "b");
  std::string expected((3 << 20) + 1, '\0');
  expected[100] = 'a';
  expected.back() = 'b';
  EXPECT_EQ(ReadAll(Id(1)), expected);
}

TEST_F(ChunkStoreTest, TheLargestWriteIsOneRecord) {
  Open();
  const std::string bytes = Pattern(kWriteBytesMax, 9);
  Write(Id(1), 4'097, bytes);
  EXPECT_EQ(store_->metrics().records_written, 1u);
  EXPECT_EQ(ReadAll(Id(1)), std::string(4'097, '\0') + bytes);
}

TEST_F(ChunkStoreTest, RequestsOutOfBoundsAreRefused) {
  Open();
  EXPECT_EQ(TryWrite(Id(1), 0, "").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(TryWrite(Id(1), 0, std::string(kWriteBytesMax + 1, 'x')).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(TryWrite(Id(1), kChunkBytesMax, "x").status().code(), StatusCode::kInvalidArgument);
  for (const auto& [offset, length] : {std::pair<uint64_t, uint32_t>{1, 4096}, {0, 1}, {0, 0}, {0, kWriteBytesMax + 4096}, {kChunkBytesMax, 4096}}) {
    EXPECT_EQ(store_->PlanRead({.chunk = Id(1), .offset = offset, .length = length, .view = {}}).status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(store_->PlanReadInMemory({.chunk = Id(1), .offset = offset, .length = length, .view = {}})->status().code(), StatusCode::kInvalidArgument);
  }
}

TEST_F(ChunkStoreTest, APayloadThatDoesNotFitItsSumsIsNotStored) {
  Open();
  const std::string bytes = Pattern(9'000, 1);
  const std::span<const uint8_t> payload(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  std::string sums = ComputePieceSums(0, payload);
  sums[8] = static_cast<char>(sums[8] ^ 1);
  WriteRequest request{.chunk = Id(1), .writer = {}, .offset = 0, .payload = payload, .piece_sums = sums, .view = {}};
  EXPECT_EQ(store_->Write(request).status().code(), StatusCode::kCorruption);
  request.piece_sums = std::string_view(sums).substr(0, 16);
  EXPECT_EQ(store_->Write(request).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadAll(Id(1)), "");
}

TEST_F(ChunkStoreTest, VersionAndLengthAreReported) {
  Open();
  EXPECT_EQ(TryWrite(Id(1), 0, "abc")->version, 1u);
  const Result<WriteOutcome> second = TryWrite(Id(1), 10, "abc");
  EXPECT_EQ(second->version, 2u);
  EXPECT_EQ(second->chunk_bytes, 13u);
  Write(Id(1, 7), 0, "abc");
  const std::vector<ChunkInfo> infos = *store_->StatData(DataId(1));
  ASSERT_EQ(infos.size(), 2u);
  EXPECT_EQ(infos[0].bytes, 13u);
  EXPECT_EQ(infos[0].stamp.version, 2u);
  EXPECT_EQ(infos[1].index, 7u);
  EXPECT_EQ(infos[1].stamp.version, 1u);
}

TEST_F(ChunkStoreTest, ATruncationCutsOnceForEachGeneration) {
  Open();
  const std::string bytes = Pattern(20'000, 1);
  Write(Id(1), 0, bytes);
  ASSERT_TRUE(store_->Truncate(Id(1), {}, {.generation = 1, .bytes = 5'000}).ok());
  EXPECT_EQ(ReadAll(Id(1)), bytes.substr(0, 5'000));
  Write(Id(1), 6'000, "x", {.generation = 1, .bytes = 5'000});
  EXPECT_EQ(ReadAll(Id(1)), bytes.substr(0, 5'000) + std::string(1'000, '\0') + "x") << "what was cut off stays away";
  ASSERT_TRUE(store_->Truncate(Id(1), {}, {.generation = 1, .bytes = 100}).ok());
  EXPECT_EQ(ReadAll(Id(1)).size(), 6'001u) << "the generation was known";
}

TEST_F(ChunkStoreTest, AWriteBringsItsTruncationAlong) {
  Open();
  Write(Id(1), 0, std::string(20'000, 'a'));
  Write(Id(1), 10'000, "b", {.generation = 3, .bytes = 4'096});
  EXPECT_EQ(ReadAll(Id(1)), std::string(4'096, 'a') + std::string(10'000 - 4'096, '\0') + "b");
  EXPECT_EQ(TryWrite(Id(1), 0, "c", {.generation = 2, .bytes = 0}).status().code(), StatusCode::kStaleTruncate);
  EXPECT_EQ(store_->Truncate(Id(1), {}, {.generation = 2, .bytes = 0}).code(), StatusCode::kStaleTruncate);
}

TEST_F(ChunkStoreTest, AReadSeesTheCutThatTheChunkHasYetToHearOf) {
  Open();
  const std::string bytes = Pattern(20'000, 1);
  Write(Id(1), 0, bytes);
  EXPECT_EQ(Read(Id(1), 4'096, 8'192, {.generation = 1, .bytes = 5'000}), bytes.substr(4'096, 904));
  EXPECT_EQ(Read(Id(1), 8'192, 8'192, {.generation = 1, .bytes = 5'000}), "");
  EXPECT_EQ(ReadAll(Id(1)), bytes) << "a read changes nothing";
}

TEST_F(ChunkStoreTest, ATruncationIntoAHoleKeepsTheLength) {
  Open();
  Write(Id(1), 100'000, "x");
  ASSERT_TRUE(store_->Truncate(Id(1), {}, {.generation = 1, .bytes = 50'001}).ok());
  EXPECT_EQ(ReadAll(Id(1)), std::string(50'001, '\0'));
  ASSERT_TRUE(store_->Truncate(Id(1), {}, {.generation = 2, .bytes = 8'192}).ok());
  EXPECT_EQ(ReadAll(Id(1)), std::string(8'192, '\0'));
  ASSERT_TRUE(store_->Truncate(Id(1), {}, {.generation = 3, .bytes = 0}).ok());
  EXPECT_EQ(ReadAll(Id(1)), "");
}

TEST_F(ChunkStoreTest, TruncatingAChunkThatIsNotThereIsFine) {
  Open();
  EXPECT_TRUE(store_->Truncate(Id(1), {}, {.generation = 1, .bytes = 10}).ok());
  EXPECT_TRUE(store_->StatData(DataId(1))->empty());
}

TEST_F(ChunkStoreTest, ARepeatedWriteIsNotAppliedAgain) {
  Open();
  const WriterIdentity first{SessionId(9), Sequence(1), Sequence()};
  const WriterIdentity second{SessionId(9), Sequence(2), Sequence()};
  ASSERT_TRUE(TryWrite(Id(1), 0, "first", {}, first).ok());
  ASSERT_TRUE(TryWrite(Id(1), 0, "SECOND", {}, second).ok());
  const Result<WriteOutcome> repeated = TryWrite(Id(1), 0, "first", {}, first);
  ASSERT_TRUE(repeated.ok());
  EXPECT_EQ(repeated->version, 2u);
  EXPECT_EQ(ReadAll(Id(1)), "SECOND");
  ASSERT_TRUE(TryWrite(Id(1), 10, "x", {}, {SessionId(9), Sequence(3), Sequence(2)}).ok());
  EXPECT_EQ(TryWrite(Id(1), 0, "first", {}, first).status().code(), StatusCode::kStaleSequence);
}

// A copy of a write may come after the server was restarted, and after what was written over it.
TEST_F(ChunkStoreTest, ARepeatIsKnownAfterACleanRestart) {
  Open();
  const WriterIdentity first{SessionId(9), Sequence(4), Sequence(2)};
  ASSERT_TRUE(TryWrite(Id(1), 0, "first", {}, first).ok());
  ASSERT_TRUE(TryWrite(Id(1), 0, "SECOND", {}, {SessionId(9), Sequence(5), Sequence(2)}).ok());
  for (int restart = 0; restart < 2; ++restart) {
    Reopen();
    ASSERT_TRUE(TryWrite(Id(1), 0, "first", {}, first).ok());
    EXPECT_EQ(ReadAll(Id(1)), "SECOND");
    EXPECT_EQ(TryWrite(Id(1), 0, "zero", {}, {SessionId(9), Sequence(2), Sequence()}).status().code(), StatusCode::kStaleSequence);
  }
  // What is true after a crash is not known.
  Kill();
  Open();
  Reopen();
  ASSERT_TRUE(TryWrite(Id(1), 0, "first", {}, first).ok());
  EXPECT_EQ(ReadAll(Id(1)), "firstD");
}

TEST_F(ChunkStoreTest, ACleanMarkOfAnEarlierVersionOrADamagedOneKnowsNoSessions) {
  const WriterIdentity writer{SessionId(9), Sequence(1), Sequence()};
  for (const std::string mark : {"clean\n", "clean\nTRNWdamaged or cut"}) {
    SCOPED_TRACE(mark);
    Open();
    ASSERT_TRUE(TryWrite(Id(1), 0, "first", {}, writer).ok());
    Close();
    ASSERT_TRUE(WriteSmallFileDurably(options_.directory + "/CLEAN", mark).ok());
    Open();
    EXPECT_TRUE(store_->was_clean());
    ASSERT_TRUE(TryWrite(Id(1), 0, "again", {}, writer).ok());
    EXPECT_EQ(ReadAll(Id(1)), "again");
    Close();
    ASSERT_TRUE(WriteSmallFileDurably(options_.directory + "/CLEAN", "clean\n").ok());
  }
}

TEST_F(ChunkStoreTest, AFailedWriteMayBeRepeated) {
  Open();
  Close();
  ArmFaults("store.write_error=once");
  Open();
  const WriterIdentity writer{SessionId(9), Sequence(1), Sequence()};
  EXPECT_EQ(TryWrite(Id(1), 0, "bytes", {}, writer).status().code(), StatusCode::kIoError);
  EXPECT_EQ(ReadAll(Id(1)), "");
  EXPECT_TRUE(TryWrite(Id(1), 0, "bytes", {}, writer).ok());
  EXPECT_EQ(ReadAll(Id(1)), "bytes");
  Kill();
  Open();
  EXPECT_EQ(ReadAll(Id(1)), "bytes");
}

TEST_F(ChunkStoreTest, AFailedSyncEndsWritingButNotReading) {
  Open();
  Write(Id(1), 0, "before");
  Close();
  ArmFaults("store.sync_error=once");
  Open();
  EXPECT_TRUE(store_->health().ok());
  Write(Id(2), 0, "never acknowledged");
  EXPECT_EQ(store_->Commit().code(), StatusCode::kIoError);
  EXPECT_EQ(store_->health().code(), StatusCode::kIoError);
  // The next sync of the kernel would succeed, and mean nothing.
  EXPECT_EQ(store_->Commit().code(), StatusCode::kIoError);
  EXPECT_EQ(TryWrite(Id(1), 0, "after").status().code(), StatusCode::kIoError);
  EXPECT_EQ(store_->Maintain().code(), StatusCode::kIoError);
  EXPECT_EQ(ReadAll(Id(1)), "before");
  Kill();
  Open();
  EXPECT_TRUE(store_->health().ok());
  Write(Id(1), 0, "after ");
  EXPECT_TRUE(store_->Commit().ok());
}

TEST_F(ChunkStoreTest, AReadErrorIsReported) {
  Open();
  Write(Id(1), 0, Pattern(5'000, 1));
  Close();
  ArmFaults("store.read_error=always");
  Open();
  const ReadRequest request{.chunk = Id(1), .offset = 0, .length = 8'192, .view = {}};
  const Result<ReadPlan> plan = store_->PlanRead(request);
  ASSERT_TRUE(plan.ok());
  std::vector<uint8_t> bytes(plan->length);
  EXPECT_EQ(store_->ReadPlanned(request, *plan, bytes).code(), StatusCode::kIoError);
  EXPECT_EQ(TryWrite(Id(1), 100, "x").status().code(), StatusCode::kIoError) << "the old bytes around it cannot be read";
}

TEST_F(ChunkStoreTest, DeletedDataIsGoneAndStaysGone) {
  Open();
  for (uint32_t index = 0; index < 3; ++index) Write(Id(1, index), 0, Pattern(300'000, index));
  Write(Id(2), 0, "other");
  const DataId data(1);
  ASSERT_TRUE(store_->DeleteData({&data, 1}).ok());
  EXPECT_EQ(ReadAll(Id(1, 1)), "");
  EXPECT_TRUE(store_->StatData(data)->empty());
  EXPECT_EQ(TryWrite(Id(1, 1), 0, "late").status().code(), StatusCode::kStaleTruncate);
  EXPECT_TRUE(store_->DeleteData({&data, 1}).ok()) << "again";
  Kill();
  Open();
  EXPECT_TRUE(store_->StatData(data)->empty());
  EXPECT_EQ(ReadAll(Id(2)), "other");
}

// Each round of background work takes away more of what the cuts, and the data that they left, were made of.
TEST_F(ChunkStoreTest, ARebuildOfTheIndexKeepsEveryCut) {
  for (int rounds = 0; rounds < 5; ++rounds) {
    SCOPED_TRACE(rounds);
    const ChunkId id = Id(static_cast<uint64_t>(rounds) + 1);
    Open();
    Write(id, 0, Pattern(100'000, 1));
    ASSERT_TRUE(store_->Truncate(id, {}, {.generation = 1, .bytes = 90'112}).ok()) << "needs no data";
    ASSERT_TRUE(store_->Truncate(id, {}, {.generation = 2, .bytes = 50'000}).ok()) << "brings its last block along";
    const std::string bytes = Pattern(53'248, 2);
    Write(id, 0, bytes, {.generation = 2, .bytes = kChunkBytesMax});
    Maintain(rounds);
    Kill();
    options_.rebuild_index = true;
    Open();
    EXPECT_EQ(ReadAll(id).size(), bytes.size());
    EXPECT_TRUE(ReadAll(id) == bytes);
    options_.rebuild_index = false;
    Close();
  }
}

TEST_F(ChunkStoreTest, SpaceOfDeletedDataComesBack) {
  Open();
  for (uint64_t data = 1; data <= 40; ++data) Write(Id(data), 0, Pattern(300'000, data));
  Maintain();
  const uint64_t full = UsedBytes();
  EXPECT_GT(full, 12'000'000u);
  EXPECT_EQ(store_->Space()->chunk_count, 40u);
  std::vector<DataId> dead;
  for (uint64_t data = 1; data <= 39; ++data) dead.emplace_back(data);
  ASSERT_TRUE(store_->DeleteData(dead).ok());
  Maintain(4);
  EXPECT_LT(UsedBytes(), 5'000'000u) << "two segments, the last object, little else";
  EXPECT_GT(store_->metrics().segments_removed, 3u);
  EXPECT_EQ(store_->Space()->chunk_count, 1u);
  EXPECT_EQ(ReadAll(Id(40)), Pattern(300'000, 40));
  Reopen();
  EXPECT_EQ(ReadAll(Id(40)), Pattern(300'000, 40));
}

TEST_F(ChunkStoreTest, SpaceOfOverwrittenDataComesBack) {
  Open();
  for (int round = 0; round < 40; ++round) {
    Write(Id(1), 0, Pattern(300'000, static_cast<uint64_t>(round)));
    if (round % 10 == 9) Maintain();
  }
  Maintain(3);
  EXPECT_LT(UsedBytes(), 5'000'000u);
  EXPECT_EQ(ReadAll(Id(1)), Pattern(300'000, 39));
}

TEST_F(ChunkStoreTest, ALeasedReadKeepsItsBlocks) {
  Open();
  const std::string old_bytes = Pattern(300'000, 1);
  Write(Id(1), 0, old_bytes);
  const ReadRequest request{.chunk = Id(1), .offset = 0, .length = 1 << 20, .view = {}};
  std::optional<ReadPlan> plan(*store_->PlanRead(request));
  Write(Id(1), 0, Pattern(300'000, 2));
  Maintain(3);
  std::string bytes(plan->length, '\0');
  ASSERT_TRUE(store_->ReadPlanned(request, *plan, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()}).ok());
  EXPECT_EQ(bytes, old_bytes);
  const uint64_t punched = store_->metrics().blocks_punched;
  plan.reset();
  Maintain(2);
  EXPECT_GT(store_->metrics().blocks_punched, punched);
}

TEST_F(ChunkStoreTest, ManySegmentsShareFewDescriptors) {
  options_.segment_descriptors_max = 3;
  Open();
  for (uint64_t data = 1; data <= 60; ++data) Write(Id(data), 0, Pattern(300'000, data));
  Maintain(3);
  EXPECT_LE(OpenSegmentFiles(), 3u);
  const ReadRequest request{.chunk = Id(1), .offset = 0, .length = 1 << 20, .view = {}};
  EXPECT_FALSE(store_->PlanReadInMemory(request)) << "opening a file may take its time";
  std::optional<ReadPlan> plan(*store_->PlanRead(request));
  for (uint64_t data = 1; data <= 60; ++data) ASSERT_TRUE(ReadAll(Id(data)) == Pattern(300'000, data)) << data;
  Maintain(2);
  std::string bytes(plan->length, '\0');
  ASSERT_TRUE(store_->ReadPlanned(request, *plan, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()}).ok());
  EXPECT_TRUE(bytes == Pattern(300'000, 1)) << "a leased read keeps its descriptor";
  plan.reset();
  Maintain(2);
  EXPECT_LE(OpenSegmentFiles(), 3u);
  Kill();
  for (const bool rebuild : {false, true}) {
    options_.rebuild_index = rebuild;
    Open();
    EXPECT_LE(OpenSegmentFiles(), 6u);
    for (uint64_t data = 1; data <= 60; ++data) ASSERT_TRUE(ReadAll(Id(data)) == Pattern(300'000, data)) << data;
    Write(Id(61), 0, Pattern(300'000, 61));
    Close();
  }
}

TEST_F(ChunkStoreTest, ManySmallExtentsAreRewritten) {
  Open();
  std::string all(1 << 20, '\0');
  for (uint32_t block = 0; block < 256; block += 2) {
    const std::string bytes = Pattern(4096, block);
    Write(Id(1), block * 4096, bytes);
    all.replace(block * 4096, 4096, bytes);
  }
  Maintain();
  EXPECT_EQ(store_->metrics().units_rewritten, 0u) << "every other block is a hole";
  for (uint32_t block = 1; block < 256; block += 2) {
    const std::string bytes = Pattern(4096, block);
    Write(Id(1), block * 4096, bytes);
    all.replace(block * 4096, 4096, bytes);
  }
  Maintain();
  EXPECT_EQ(store_->metrics().units_rewritten, 1u);
  const Result<ReadPlan> plan = store_->PlanRead({.chunk = Id(1), .offset = 0, .length = 1 << 20, .view = {}});
  EXPECT_EQ(plan->pieces.size(), 1u);
  EXPECT_EQ(ReadAll(Id(1)), all);
  Maintain(3);
  Kill();
  Open();
  EXPECT_EQ(ReadAll(Id(1)), all);
}

TEST_F(ChunkStoreTest, ACacheFarTooSmallStillServes) {
  options_.cache_bytes = 64 << 10;
  Open();
  for (uint64_t data = 1; data <= 300; ++data) Write(Id(data), 0, Pattern(20'000, data));
  Maintain();
  for (uint64_t data = 1; data <= 300; ++data) ASSERT_EQ(ReadAll(Id(data)), Pattern(20'000, data)) << data;
  int in_memory = 0;
  for (uint64_t data = 1; data <= 300; ++data) {
    in_memory += store_->PlanReadInMemory({.chunk = Id(data), .offset = 0, .length = 4096, .view = {}}).has_value() ? 1 : 0;
  }
  EXPECT_LT(in_memory, 150);
}

TEST_F(ChunkStoreTest, VerifiedReadsGoToTheDisk) {
  Open();
  const std::string bytes = Pattern(9'000, 1);
  Write(Id(1), 0, bytes);
  Write(Id(1), 20'000, "tail");
  std::vector<uint8_t> found;
  const Result<ReadPlan> plan = store_->ReadVerified({.chunk = Id(1), .offset = 0, .length = 1 << 20, .view = {}}, &found);
  ASSERT_TRUE(plan.ok()) << plan.status().ToString();
  EXPECT_EQ(std::string(found.begin(), found.end()), bytes + std::string(11'000, '\0') + "tail");
  EXPECT_FALSE(FindBadPiece(0, found, plan->sums));
}

TEST_F(ChunkStoreTest, WhenDurableRunsAfterASync) {
  is_lossy_ = true;
  Open();
  Write(Id(1), 0, Pattern(9'000, 1));
  EXPECT_GT(disk_.unsynced_pages(), 0u);
  ASSERT_TRUE(store_->Commit().ok());
  EXPECT_EQ(disk_.unsynced_pages(), 0u);
}

}  // namespace
}  // namespace tarn::store
