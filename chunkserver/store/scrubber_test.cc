// Scrubbing: flipped bytes are found, told once, counted, and seen to be mended; a round goes on where a restart cut it off.
#include "chunkserver/store/scrubber.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "chunkserver/store/store_fixture.h"
#include "chunkserver/store/store_model.h"
#include "common/base/posix_io.h"

namespace tarn::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr GroupId kGroup{7};

class ScrubberTest : public StoreFixture {
 protected:
  void OpenAndListen() {
    Open();
    Listen();
  }
  void Listen() {
    store_->OnDamage([this](ChunkId chunk, GroupId group) {
      EXPECT_EQ(group, kGroup);
      MutexLock lock(mutex_);
      told_.push_back(chunk);
    });
  }
  std::vector<ChunkId> TakeTold() {
    MutexLock lock(mutex_);
    return std::exchange(told_, {});
  }

  void Put(ChunkId chunk, uint64_t offset, std::string_view bytes) {
    const std::span<const uint8_t> payload(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    const std::string sums = ComputePieceSums(offset, payload);
    const Result<ChangeOutcome> written = store_->ApplyWrite({.chunk = chunk, .writer = {}, .offset = offset, .payload = payload, .piece_sums = sums, .view = {}},
                                                             {.group = kGroup, .epoch = Epoch(1), .base = {}});
    ASSERT_TRUE(written.ok()) << written.status().ToString();
  }
  void Maintain() {
    const Status maintained = store_->Maintain();
    ASSERT_TRUE(maintained.ok()) << maintained.ToString();
  }
  void Scrub() {
    const Status scrubbed = store_->Scrub();
    ASSERT_TRUE(scrubbed.ok()) << scrubbed.ToString();
  }
  void Repair(ChunkId chunk, std::string_view bytes) {
    const std::span<const uint8_t> piece(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    const ChunkState state = *store_->StateOf(chunk);
    Status installed = store_->InstallPiece(chunk, kGroup, 0, piece, ComputePieceSums(0, piece));
    ASSERT_TRUE(installed.ok()) << installed.ToString();
    installed = store_->InstallEnd(chunk, state);
    ASSERT_TRUE(installed.ok()) << installed.ToString();
  }

  // Flips a bit of the first place in the segments where `needle` lies.
  void FlipIn(const std::string& needle) {
    for (const auto& entry : std::filesystem::directory_iterator(options_.directory + "/segments")) {
      std::ifstream in(entry.path(), std::ios::binary);
      const std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
      const size_t at = bytes.find(needle);
      if (at == std::string::npos) continue;
      const Result<UniqueFd> file = OpenFile(entry.path(), O_RDWR);
      ASSERT_TRUE(file.ok()) << file.status().ToString();
      const char flipped = static_cast<char>(bytes[at] ^ 0x10);
      ASSERT_EQ(pwrite(file->get(), &flipped, 1, static_cast<off_t>(at)), 1);
      ASSERT_EQ(fdatasync(file->get()), 0);
      return;
    }
    FAIL() << "there are no such bytes";
  }

  template <typename Condition>
  void WaitUntil(const Condition& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!condition() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    ASSERT_TRUE(condition());
  }

  Mutex mutex_;
  std::vector<ChunkId> told_ GUARDED_BY(mutex_);
};

TEST_F(ScrubberTest, AnIntactTargetHasNoErrors) {
  OpenAndListen();
  Put(Id(1), 0, "small");
  Put(Id(2), 5'000, Pattern(3'000'000, 2));
  Put(Id(2), 3'900'000, "behind a hole");
  Put(Id(2), 10'000, Pattern(5'000, 3));
  ASSERT_TRUE(store_->Truncate(Id(2), {}, {.generation = 1, .bytes = 2'999'999}).ok());
  Maintain();
  Scrub();
  const ScrubProgress progress = store_->scrub_progress();
  EXPECT_EQ(progress.errors_found, 0u);
  EXPECT_FALSE(progress.running);
  EXPECT_GT(progress.last_round_ended_ns, 0);
  EXPECT_TRUE(progress.next_round_ns == 0 || progress.next_round_ns > progress.last_round_ended_ns);
  EXPECT_EQ(progress.bytes_checked, progress.bytes_total);
  EXPECT_EQ(progress.bytes_checked, (1 + 733 - 1) * uint64_t{4096});
  EXPECT_THAT(TakeTold(), IsEmpty());
}

TEST_F(ScrubberTest, AFlippedBitIsFoundToldAndCountedOnce) {
  OpenAndListen();
  const std::string large = Pattern(2'500'000, 1);
  Put(Id(1), 0, large);
  Put(Id(2), 0, "in the header's block");
  Put(Id(3), 0, Pattern(100'000, 3));
  Maintain();
  FlipIn(large.substr(1'500'000, 64));
  FlipIn("in the header's block");
  Scrub();
  EXPECT_THAT(TakeTold(), ElementsAre(Id(1), Id(2)));
  EXPECT_EQ(store_->scrub_progress().errors_found, 2u);
  // Nobody has mended it: told again, not counted again. Nor after a restart, of either kind.
  Scrub();
  EXPECT_THAT(TakeTold(), ElementsAre(Id(1), Id(2)));
  EXPECT_EQ(store_->scrub_progress().errors_found, 2u);
  Reopen();
  Listen();
  EXPECT_EQ(store_->scrub_progress().errors_found, 2u);
  Scrub();
  EXPECT_EQ(store_->scrub_progress().errors_found, 2u);
  EXPECT_EQ(store_->scrub_progress().errors_repaired, 0u);
}

TEST_F(ScrubberTest, WhatIsMendedIsCountedAsRepaired) {
  OpenAndListen();
  const std::string bytes = Pattern(50'001, 1);
  Put(Id(1), 0, bytes);
  Maintain();
  FlipIn(bytes.substr(50'000 - 64, 64));  // the last block
  Scrub();
  EXPECT_EQ(TakeTold().size(), 1u);
  EXPECT_EQ(store_->ReadForCopy(Id(1), 0, 1 << 20).status().code(), StatusCode::kCorruption);
  ASSERT_NO_FATAL_FAILURE(Repair(Id(1), bytes));
  EXPECT_TRUE(store_->ReadForCopy(Id(1), 0, 1 << 20).ok());
  EXPECT_EQ(store_->StateOf(Id(1))->stamp, (ChunkStamp{Epoch(1), 1}));
  EXPECT_EQ(store_->StateOf(Id(1))->bytes, 50'001u);
  Maintain();
  Scrub();
  EXPECT_THAT(TakeTold(), IsEmpty());
  EXPECT_EQ(store_->scrub_progress().errors_found, 1u);
  EXPECT_EQ(store_->scrub_progress().errors_repaired, 1u);
  Reopen();
  EXPECT_EQ(store_->scrub_progress().errors_repaired, 1u);
}

// A disk that fails to give a block now and then: the chunk does not stay known as damaged, although nothing of it has to be written anew.
TEST_F(ScrubberTest, ABlockThatTheDiskGivesAgainIsDamagedNoMore) {
  OpenAndListen();
  const std::string bytes = Pattern(50'000, 1);
  Put(Id(1), 0, bytes);
  Maintain();
  std::string block = bytes.substr(20'000, 64);
  FlipIn(block);
  Scrub();
  EXPECT_THAT(TakeTold(), ElementsAre(Id(1)));
  EXPECT_EQ(store_->scrub_progress().errors_found, 1u);
  block[0] = static_cast<char>(block[0] ^ 0x10);
  FlipIn(block);  // back
  const Status again = store_->RecheckDamaged(Id(1));
  EXPECT_TRUE(again.ok()) << again.ToString();
  EXPECT_EQ(store_->scrub_progress().errors_repaired, 1u);
  Scrub();
  EXPECT_THAT(TakeTold(), IsEmpty());
}

TEST_F(ScrubberTest, WhatIsDamagedStillIsSaidToBe) {
  OpenAndListen();
  const std::string bytes = Pattern(50'000, 1);
  Put(Id(1), 0, bytes);
  Maintain();
  FlipIn(bytes.substr(20'000, 64));
  EXPECT_TRUE(store_->RecheckDamaged(Id(1)).ok()) << "nothing is known yet";
  Scrub();
  EXPECT_EQ(store_->RecheckDamaged(Id(1)).code(), StatusCode::kCorruption);
  EXPECT_EQ(store_->scrub_progress().errors_repaired, 0u);
  ASSERT_NO_FATAL_FAILURE(Repair(Id(1), bytes));
  EXPECT_TRUE(store_->RecheckDamaged(Id(1)).ok());
}

TEST_F(ScrubberTest, ADamagedChunkThatIsDeletedIsNotRepaired) {
  OpenAndListen();
  const std::string bytes = Pattern(50'000, 1);
  Put(Id(1), 0, bytes);
  Maintain();
  FlipIn(bytes.substr(20'000, 64));
  Scrub();
  const DataId data(1);
  ASSERT_TRUE(store_->DeleteData({&data, 1}).ok());
  TakeTold();
  Scrub();
  Maintain();
  Scrub();
  EXPECT_EQ(store_->scrub_progress().errors_found, 1u);
  EXPECT_EQ(store_->scrub_progress().errors_repaired, 0u);
  TakeTold();
  Scrub();
  EXPECT_THAT(TakeTold(), IsEmpty());
}

TEST_F(ScrubberTest, WhatCannotBeReadCountsAsDamaged) {
  OpenAndListen();
  Put(Id(1), 0, Pattern(50'000, 1));
  Maintain();
  Close();
  ArmFaults("store.read_error=always");
  OpenAndListen();
  Scrub();
  EXPECT_THAT(TakeTold(), ElementsAre(Id(1)));
  EXPECT_EQ(store_->ReadForCopy(Id(1), 0, 4096).status().code(), StatusCode::kCorruption);
}

TEST_F(ScrubberTest, ARestartGoesOnWhereItWas) {
  OpenAndListen();
  uint64_t stored = 0;
  for (uint64_t data = 1; data <= 300; ++data) {
    Put(Id(data), 0, Pattern(40'000, data));
    stored += 10 * 4096;
  }
  Maintain();
  int batches = 0;
  bool is_end = false;
  while (!is_end) {
    const Result<bool> ended = store_->ScrubBatch();
    ASSERT_TRUE(ended.ok()) << ended.status().ToString();
    is_end = *ended;
    ++batches;
    EXPECT_EQ(store_->scrub_progress().running, !is_end);
    Reopen();
    EXPECT_EQ(store_->scrub_progress().running, !is_end);
  }
  EXPECT_GT(batches, 3);
  EXPECT_EQ(store_->scrub_progress().bytes_checked, stored) << "nothing twice, nothing left out";
}

TEST_F(ScrubberTest, ARoundIsMadeOnRequestAndDamageMetByAReaderIsTold) {
  options_.background_maintenance = true;
  OpenAndListen();
  const std::string bytes = Pattern(50'000, 1);
  Put(Id(1), 0, bytes);
  Put(Id(2), 0, Pattern(50'000, 2));
  ASSERT_TRUE(store_->Commit().ok());
  EXPECT_FALSE(store_->scrub_progress().running) << "a new target has nothing old";
  FlipIn(bytes.substr(20'000, 64));
  std::vector<uint8_t> read;
  EXPECT_EQ(store_->ReadVerified({.chunk = Id(1), .offset = 0, .length = 65'536, .view = {}}, &read).status().code(), StatusCode::kCorruption);
  ASSERT_NO_FATAL_FAILURE(WaitUntil([&] { return store_->scrub_progress().errors_found == 1; }));
  ASSERT_NO_FATAL_FAILURE(Repair(Id(1), bytes));
  ASSERT_NO_FATAL_FAILURE(WaitUntil([&] { return store_->scrub_progress().errors_repaired == 1; }));
  store_->StartScrub();
  ASSERT_NO_FATAL_FAILURE(WaitUntil([&] { return store_->scrub_progress().last_round_ended_ns != 0; }));
  EXPECT_THAT(TakeTold(), ElementsAre(Id(1)));
}

TEST_F(ScrubberTest, ARoundThatIsDueBeginsByItself) {
  options_.background_maintenance = true;
  options_.scrub_interval_ms = 1;
  OpenAndListen();
  Put(Id(1), 0, Pattern(50'000, 1));
  ASSERT_NO_FATAL_FAILURE(WaitUntil([&] { return store_->scrub_progress().last_round_ended_ns != 0; }));
}

TEST_F(ScrubberTest, DataIdsAreListedInPages) {
  Open();
  const auto list = [&](size_t entries_max) {
    std::vector<uint64_t> ids;
    std::optional<DataId> after;
    while (true) {
      const Result<DataIdPage> page = store_->ListDataIds(after, entries_max);
      EXPECT_TRUE(page.ok()) << page.status().ToString();
      if (!page.ok()) return ids;
      EXPECT_LE(page->ids.size(), entries_max);
      for (const DataId id : page->ids) ids.push_back(id.value());
      if (page->end || page->ids.empty()) return ids;
      after = page->ids.back();
    }
  };
  EXPECT_THAT(list(5), IsEmpty());
  for (const uint64_t data : {3, 5, 9}) Put(Id(data), 3 << 20, "x");
  Put(Id(UINT64_MAX, 3), 0, "x");
  for (const size_t entries_max : {1, 2, 10}) EXPECT_THAT(list(entries_max), ElementsAre(3, 5, 9, UINT64_MAX)) << "in memory";
  Maintain();
  for (const size_t entries_max : {1, 2, 10}) EXPECT_THAT(list(entries_max), ElementsAre(3, 5, 9, UINT64_MAX)) << "in the index";
  Put(Id(1), 0, "x");
  Put(Id(7, 2), 0, "x");
  Put(Id(9, 2), 0, "x");
  ASSERT_TRUE(store_->RemoveChunk(Id(9)).ok());
  ASSERT_TRUE(store_->RemoveChunk(Id(3)).ok());
  for (const size_t entries_max : {1, 2, 10}) EXPECT_THAT(list(entries_max), ElementsAre(1, 5, 7, 9, UINT64_MAX)) << "in both";
  Maintain();
  for (const size_t entries_max : {1, 2, 10}) EXPECT_THAT(list(entries_max), ElementsAre(1, 5, 7, 9, UINT64_MAX)) << "in the index";
}

}  // namespace
}  // namespace tarn::store
