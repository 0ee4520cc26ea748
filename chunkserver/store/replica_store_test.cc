// What replication relies on: stamps that name content, chunks brought to another copy's state, the inventory of a group.
#include "chunkserver/store/replica_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "chunkserver/store/store_fixture.h"
#include "chunkserver/store/store_model.h"

namespace tarn::store {

void PrintTo(const ChunkStamp& stamp, std::ostream* out) { *out << stamp.epoch.value() << "." << stamp.version; }

namespace {

constexpr GroupId kGroup{7};

std::span<const uint8_t> BytesOf(std::string_view text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

ChunkStamp Stamp(uint64_t epoch, uint64_t version) { return {Epoch(epoch), version}; }

// A copy of a group: a store on a disk that loses what was not synced.
class Copy : public StoreHarness {
 public:
  Copy() { is_lossy_ = true; }

  Result<ChangeOutcome> ApplyWrite(ChunkId chunk, uint64_t offset, std::string_view bytes, const TruncateView& view, const ChangeContext& context,
                                   const WriterIdentity& writer = {}) {
    const std::string sums = ComputePieceSums(offset, BytesOf(bytes));
    return store_->ApplyWrite({.chunk = chunk, .writer = writer, .offset = offset, .payload = BytesOf(bytes), .piece_sums = sums, .view = view}, context);
  }
  Status InstallPiece(ChunkId chunk, uint64_t offset, std::span<const uint8_t> bytes) {
    return store_->InstallPiece(chunk, kGroup, offset, bytes, ComputePieceSums(offset, bytes));
  }
  ChunkState State(ChunkId chunk) {
    const Result<ChunkState> state = store_->StateOf(chunk);
    EXPECT_TRUE(state.ok()) << state.status().ToString();
    return state.ok() ? *state : ChunkState{};
  }
  ChunkSums Sums(ChunkId chunk) {
    const Result<ChunkSums> sums = store_->SumsOf(chunk);
    EXPECT_TRUE(sums.ok()) << sums.status().ToString();
    return sums.ok() ? *sums : ChunkSums{};
  }
  std::string ReadAll(ChunkId chunk) {
    std::string problem;
    const std::string bytes = ReadWholeChunk(store_.get(), chunk, &problem);
    EXPECT_EQ(problem, "");
    return bytes;
  }
  void Rebuild() {
    ASSERT_NO_FATAL_FAILURE(Close());
    options_.rebuild_index = true;
    ASSERT_NO_FATAL_FAILURE(Open());
    options_.rebuild_index = false;
  }
  void Maintain(int rounds = 1) {
    for (int i = 0; i < rounds; ++i) {
      const Status maintained = store_->Maintain();
      ASSERT_TRUE(maintained.ok()) << maintained.ToString();
    }
  }
};

void ExpectSame(Copy* a, Copy* b, ChunkId chunk) {
  const ChunkSums of_a = a->Sums(chunk);
  const ChunkSums of_b = b->Sums(chunk);
  EXPECT_EQ(of_a.state.stamp, of_b.state.stamp);
  EXPECT_EQ(of_a.state.bytes, of_b.state.bytes);
  EXPECT_EQ(of_a.state.truncate_generation, of_b.state.truncate_generation);
  EXPECT_EQ(of_a.blocks, of_b.blocks);
  EXPECT_TRUE(a->ReadAll(chunk) == b->ReadAll(chunk));
}

class ReplicaStoreTest : public testing::Test, protected Copy {};

TEST_F(ReplicaStoreTest, AChangeTellsTheStampsBeforeAndAfter) {
  Open();
  EXPECT_EQ(State(Id(1)).stamp, ChunkStamp());
  const Result<ChangeOutcome> first = ApplyWrite(Id(1), 0, Pattern(9'000, 1), {}, {.group = kGroup, .epoch = Epoch(3), .base = {}});
  ASSERT_TRUE(first.ok()) << first.status().ToString();
  EXPECT_EQ(first->base, ChunkStamp());
  EXPECT_EQ(first->stamp, Stamp(3, 1));
  EXPECT_EQ(first->chunk_bytes, 9'000u);
  const Result<ChangeOutcome> second = ApplyWrite(Id(1), 5, "x", {}, {.group = kGroup, .epoch = Epoch(4), .base = {}});
  EXPECT_EQ(second->base, Stamp(3, 1));
  EXPECT_EQ(second->stamp, Stamp(4, 2));
  const ChunkState state = State(Id(1));
  EXPECT_EQ(state.stamp, Stamp(4, 2));
  EXPECT_EQ(state.group, kGroup);
  EXPECT_EQ(state.bytes, 9'000u);
}

TEST_F(ReplicaStoreTest, AWriteWhoseViewCutsIsTwoChangesAndOneStep) {
  Open();
  ASSERT_TRUE(ApplyWrite(Id(1), 0, Pattern(9'000, 1), {}, {.group = kGroup, .epoch = Epoch(3), .base = {}}).ok());
  const Result<ChangeOutcome> cut = ApplyWrite(Id(1), 5'000, "x", {.generation = 1, .bytes = 10}, {.group = kGroup, .epoch = Epoch(3), .base = {}});
  ASSERT_TRUE(cut.ok()) << cut.status().ToString();
  EXPECT_EQ(cut->base, Stamp(3, 1));
  EXPECT_EQ(cut->stamp, Stamp(3, 3));
  EXPECT_EQ(ReadAll(Id(1)), Pattern(16, 1).substr(0, 10) + std::string(4'990, '\0') + "x");
}

TEST_F(ReplicaStoreTest, WhatChangesNothingKeepsTheStamp) {
  Open();
  const ChangeContext context{.group = kGroup, .epoch = Epoch(3), .base = {}};
  const WriterIdentity writer{SessionId(1), Sequence(5), Sequence(0)};
  ASSERT_TRUE(ApplyWrite(Id(1), 0, "abc", {}, context, writer).ok());
  const Result<ChangeOutcome> repeat = ApplyWrite(Id(1), 0, "abc", {}, context, writer);
  EXPECT_TRUE(repeat->was_applied);
  EXPECT_EQ(repeat->base, Stamp(3, 1));
  EXPECT_EQ(repeat->stamp, Stamp(3, 1));
  // The same numbers in another group are another write.
  const Result<ChangeOutcome> other = ApplyWrite(Id(2), 0, "abc", {}, {.group = GroupId(8), .epoch = Epoch(3), .base = {}}, writer);
  EXPECT_FALSE(other->was_applied);
  const Result<ChangeOutcome> cut = store_->ApplyTruncate(Id(1), {}, {.generation = 0, .bytes = 1}, context);
  EXPECT_EQ(cut->base, cut->stamp);
  EXPECT_FALSE(cut->was_applied);
}

TEST_F(ReplicaStoreTest, AMemberAppliesOnlyToTheStampBefore) {
  Open();
  ASSERT_TRUE(ApplyWrite(Id(1), 0, "abc", {}, {.group = kGroup, .epoch = Epoch(3), .base = ChunkStamp()}).ok());
  for (const ChunkStamp& wrong : {ChunkStamp(), Stamp(3, 2), Stamp(2, 1), Stamp(4, 1)}) {
    const ChangeContext context{.group = kGroup, .epoch = Epoch(4), .base = wrong};
    EXPECT_EQ(ApplyWrite(Id(1), 0, "x", {}, context).status().code(), StatusCode::kStaleEpoch);
    EXPECT_EQ(store_->ApplyTruncate(Id(1), {}, {.generation = 1, .bytes = 0}, context).status().code(), StatusCode::kStaleEpoch);
  }
  EXPECT_EQ(ReadAll(Id(1)), "abc");
  EXPECT_EQ(ApplyWrite(Id(1), 0, "x", {}, {.group = kGroup, .epoch = Epoch(4), .base = Stamp(3, 1)})->stamp, Stamp(4, 2));
}

TEST_F(ReplicaStoreTest, AMemberRemembersWhatItNeverAsks) {
  Open();
  const WriterIdentity writer{SessionId(1), Sequence(5), Sequence(3)};
  ASSERT_TRUE(ApplyWrite(Id(1), 0, "abc", {}, {.group = kGroup, .epoch = Epoch(3), .base = ChunkStamp()}, writer).ok());
  // Again, as a member that was brought up to date meanwhile may get it.
  ASSERT_TRUE(ApplyWrite(Id(1), 0, "abd", {}, {.group = kGroup, .epoch = Epoch(3), .base = Stamp(3, 1)}, writer).ok());
  const std::vector<SessionWindow> windows = store_->WindowsOf(kGroup);
  ASSERT_EQ(windows.size(), 1u);
  EXPECT_EQ(windows[0].acked_through, Sequence(3));
  EXPECT_EQ(windows[0].applied, std::vector<Sequence>{Sequence(5)});
  // It becomes the primary.
  EXPECT_TRUE(ApplyWrite(Id(1), 0, "abd", {}, {.group = kGroup, .epoch = Epoch(4), .base = {}}, writer)->was_applied);
  store_->InstallWindows(kGroup, {}, true);
  EXPECT_TRUE(store_->WindowsOf(kGroup).empty());
}

TEST_F(ReplicaStoreTest, AChunkOfOneGroupIsNotTakenForOneOfAnother) {
  Open();
  ASSERT_TRUE(ApplyWrite(Id(1), 0, "abc", {}, {.group = kGroup, .epoch = Epoch(3), .base = {}}).ok());
  EXPECT_EQ(ApplyWrite(Id(1), 0, "abc", {}, {.group = GroupId(8), .epoch = Epoch(3), .base = {}}).status().code(), StatusCode::kInvalidArgument);
  Write(Id(1), 0, "x");  // of a single copy
  EXPECT_EQ(State(Id(1)).group, kGroup);
  EXPECT_EQ(State(Id(1)).stamp, Stamp(0, 2));
}

// Two copies that get the same requests, the second one with the stamps of the first.
class SameRequestsTest : public testing::TestWithParam<int> {
 protected:
  uint64_t Below(uint64_t bound) { return engine_() % bound; }

  void ChangeSomething() {
    const ChunkId id = StoreHarness::Id(1 + Below(3), static_cast<uint32_t>(Below(2)));
    const ChunkState state = a_.State(id);
    epoch_ += Below(8) == 0 ? 1 : 0;
    const ChangeContext at_a{.group = kGroup, .epoch = Epoch(epoch_), .base = {}};
    TruncateView view{state.truncate_generation, kChunkBytesMax};
    if (Below(6) == 0) view = {state.truncate_generation + 1, Below(2) == 0 ? Below(state.bytes + 5'000) : Below(state.bytes / 4096 + 2) * 4096};
    const bool is_cut = Below(6) == 0;
    const uint64_t offset = Below(2) == 0 ? Below(600'000) : Below(200) * 4096;
    const std::string bytes = StoreHarness::Pattern(1 + Below(3) * Below(50'000), engine_());
    const Result<ChangeOutcome> first = is_cut ? a_.store_->ApplyTruncate(id, {}, view, at_a) : a_.ApplyWrite(id, offset, bytes, view, at_a);
    ASSERT_TRUE(first.ok()) << first.status().ToString();
    const ChangeContext at_b{.group = kGroup, .epoch = Epoch(epoch_), .base = first->base};
    const Result<ChangeOutcome> second = is_cut ? b_.store_->ApplyTruncate(id, {}, view, at_b) : b_.ApplyWrite(id, offset, bytes, view, at_b);
    ASSERT_TRUE(second.ok()) << second.status().ToString();
    ASSERT_EQ(first->base, second->base);
    ASSERT_EQ(first->stamp, second->stamp);
    ASSERT_EQ(first->chunk_bytes, second->chunk_bytes);
    if (first->stamp != first->base) {
      const Result<ChangeOutcome> again = is_cut ? b_.store_->ApplyTruncate(id, {}, view, at_b) : b_.ApplyWrite(id, offset, bytes, view, at_b);
      ASSERT_EQ(again.status().code(), StatusCode::kStaleEpoch);
    }
  }

  void CompareAll() {
    for (uint64_t data = 1; data <= 3; ++data) {
      for (uint32_t index = 0; index < 2; ++index) {
        SCOPED_TRACE(ToString(StoreHarness::Id(data, index)));
        ExpectSame(&a_, &b_, StoreHarness::Id(data, index));
      }
    }
  }

  Copy a_;
  Copy b_;
  std::mt19937_64 engine_{static_cast<uint64_t>(GetParam())};
  uint64_t epoch_ = 1;
};

TEST_P(SameRequestsTest, EndWithTheSameStampsAndBytes) {
  a_.Open();
  b_.Open();
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < 25; ++i) ASSERT_NO_FATAL_FAILURE(ChangeSomething()) << round << " " << i;
    ASSERT_NO_FATAL_FAILURE(CompareAll()) << round;
    // The second one goes through everything that may happen to a store.
    const uint64_t what = Below(4);
    if (what == 0) {
      ASSERT_NO_FATAL_FAILURE(b_.Maintain(3));
    }
    if (what == 1) {
      ASSERT_NO_FATAL_FAILURE(b_.Reopen());
    }
    if (what == 2) {
      b_.Kill();
      ASSERT_NO_FATAL_FAILURE(b_.Open());
    }
    if (what == 3) {
      ASSERT_NO_FATAL_FAILURE(b_.Maintain(4));
      ASSERT_NO_FATAL_FAILURE(b_.Rebuild());
      // A chunk of nothing leaves nothing that a rebuild could find.
      for (uint64_t data = 1; data <= 3; ++data) {
        for (uint32_t index = 0; index < 2; ++index) {
          const ChunkState state = a_.State(StoreHarness::Id(data, index));
          if (state.bytes == 0 && state.stamp.version != 0) {
            ASSERT_TRUE(b_.store_->InstallEnd(StoreHarness::Id(data, index), state).ok());
          }
        }
      }
    }
    ASSERT_NO_FATAL_FAILURE(CompareAll()) << round << " after " << what;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, SameRequestsTest, testing::Range(1, 7));

TEST_F(ReplicaStoreTest, ARebuildOfTheIndexKeepsTheStampOfACutWithoutData) {
  Open();
  const ChangeContext context{.group = kGroup, .epoch = Epoch(3), .base = {}};
  ASSERT_TRUE(ApplyWrite(Id(1), 0, Pattern(6 * 4096, 1), {}, context).ok());
  ASSERT_TRUE(store_->ApplyTruncate(Id(1), {}, {.generation = 1, .bytes = 2 * 4096}, context).ok());
  ASSERT_TRUE(ApplyWrite(Id(2), 0, Pattern(10'000, 1), {}, context).ok());
  ASSERT_TRUE(store_->ApplyTruncate(Id(2), {}, {.generation = 4, .bytes = 20'000}, context).ok());
  Maintain(5);  // the space of what was cut is given back, and so are records that nothing needs
  Rebuild();
  EXPECT_EQ(State(Id(1)).stamp, Stamp(3, 2));
  EXPECT_EQ(State(Id(1)).truncate_generation, 1u);
  EXPECT_EQ(State(Id(2)).stamp, Stamp(3, 2));
  EXPECT_EQ(State(Id(2)).truncate_generation, 4u);
  EXPECT_EQ(State(Id(2)).bytes, 10'000u);
}

TEST_F(ReplicaStoreTest, ABackgroundRewriteKeepsTheStamp) {
  Open();
  const ChangeContext context{.group = kGroup, .epoch = Epoch(3), .base = {}};
  ASSERT_TRUE(ApplyWrite(Id(1), 0, Pattern(100 * 4096, 1), {}, context).ok());
  for (uint64_t block = 0; block < 100; block += 2) ASSERT_TRUE(ApplyWrite(Id(1), block * 4096, Pattern(4096, block), {}, context).ok());
  ASSERT_TRUE(ApplyWrite(Id(1), 0, "x", {}, context).ok());
  const ChunkStamp stamp = State(Id(1)).stamp;
  Maintain(3);
  ASSERT_GT(store_->metrics().units_rewritten, 0u);
  EXPECT_EQ(State(Id(1)).stamp, stamp);
  Rebuild();
  EXPECT_EQ(State(Id(1)).stamp, stamp);
  EXPECT_EQ(State(Id(1)).group, kGroup);
}

TEST_F(ReplicaStoreTest, ARemovedChunkCanBeMadeAgain) {
  Open();
  const ChangeContext context{.group = kGroup, .epoch = Epoch(3), .base = {}};
  ASSERT_TRUE(ApplyWrite(Id(1), 0, Pattern(9'000, 1), {.generation = 5, .bytes = kChunkBytesMax}, context).ok());
  ASSERT_TRUE(store_->RemoveChunk(Id(1)).ok());
  ASSERT_TRUE(store_->RemoveChunk(Id(2)).ok()) << "there is none";
  const auto expect_gone = [&] {
    EXPECT_EQ(State(Id(1)).stamp, ChunkStamp());
    EXPECT_EQ(ReadAll(Id(1)), "");
    EXPECT_TRUE(store_->StatData(DataId(1))->empty());
    EXPECT_TRUE(store_->ListGroup(kGroup, {}, 10)->chunks.empty());
  };
  expect_gone();
  Maintain(3);
  EXPECT_EQ(store_->Space()->chunk_count, 0u);
  Reopen();
  expect_gone();
  // An older generation than that of the chunk that was here.
  const Result<ChangeOutcome> made = ApplyWrite(Id(1), 0, "abc", {}, {.group = kGroup, .epoch = Epoch(4), .base = ChunkStamp()});
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  EXPECT_EQ(made->stamp, Stamp(4, 1));
  Kill();
  Open();
  EXPECT_EQ(ReadAll(Id(1)), "abc");
  EXPECT_EQ(State(Id(1)).truncate_generation, 0u);
  ASSERT_TRUE(store_->RemoveChunk(Id(1)).ok());
  const DataId data(1);
  ASSERT_TRUE(store_->DeleteData({&data, 1}).ok());
  Maintain(3);
  Rebuild();
  expect_gone();
  EXPECT_EQ(store_->Space()->chunk_count, 0u);
}

TEST_F(ReplicaStoreTest, NothingIsInstalledOfWhatIsDeleted) {
  Open();
  ASSERT_TRUE(ApplyWrite(Id(1), 0, "abc", {}, {.group = kGroup, .epoch = Epoch(3), .base = {}}).ok());
  const DataId data(1);
  ASSERT_TRUE(store_->DeleteData({&data, 1}).ok());
  EXPECT_EQ(InstallPiece(Id(1), 0, BytesOf("abc")).code(), StatusCode::kStaleTruncate);
  EXPECT_EQ(store_->InstallEnd(Id(1), {.stamp = Stamp(3, 1), .group = kGroup, .bytes = 3}).code(), StatusCode::kStaleTruncate);
  EXPECT_TRUE(store_->RemoveChunk(Id(1)).ok());
}

TEST_F(ReplicaStoreTest, PiecesAndEndsOutOfBoundsAreRefused) {
  Open();
  EXPECT_EQ(InstallPiece(Id(1), 100, BytesOf("abc")).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->InstallPiece(Id(1), kGroup, 0, BytesOf("abc"), "12345678").code(), StatusCode::kCorruption);
  EXPECT_EQ(store_->InstallEnd(Id(1), {.stamp = {}, .group = kGroup, .bytes = 3}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->InstallEnd(Id(1), {.stamp = Stamp(1, 1), .group = kGroup, .bytes = kChunkBytesMax + 1}).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->ReadForCopy(Id(1), 1, 4096).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->ReadForCopy(Id(1), 0, 0).status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(store_->ReadForCopy(Id(1), 0, 4096)->empty());
}

// A copy is brought to the state of another one by comparing sums, and its power goes again and again.
class InstallTest : public testing::TestWithParam<int> {
 protected:
  static constexpr uint64_t kPieceBlocks = 16;

  uint64_t Below(uint64_t bound) { return engine_() % bound; }
  ChunkId id() const { return StoreHarness::Id(1, 2); }

  void ChangeAtRandom(Copy* copy, int count, const ChangeContext& context) {
    for (int i = 0; i < count; ++i) {
      const ChunkState state = copy->State(id());
      TruncateView view{state.truncate_generation, kChunkBytesMax};
      if (Below(5) == 0) view = {state.truncate_generation + 1 + Below(3), Below(state.bytes + 9'000)};
      const uint64_t offset = Below(2) == 0 ? Below(1'200'000) : Below(300) * 4096;
      const Result<ChangeOutcome> written = copy->ApplyWrite(id(), offset, StoreHarness::Pattern(1 + Below(4) * Below(40'000), engine_()), view, context);
      ASSERT_TRUE(written.ok()) << written.status().ToString();
    }
  }

  void CutPower() {
    b_.Kill();
    b_.disk_.PowerCut(&seeded_);
    ASSERT_NO_FATAL_FAILURE(b_.Open());
  }

  // Each block is the old one or the new one, or zeros where neither copy reached before.
  void ExpectNothingTorn() {
    const std::vector<uint64_t> blocks = b_.Sums(id()).blocks;
    const auto at = [](const std::vector<uint64_t>& sums, size_t i) { return i < sums.size() ? sums[i] : ZeroBlockSum(); };
    for (size_t i = 0; i < blocks.size(); ++i) {
      EXPECT_TRUE(blocks[i] == at(old_.blocks, i) || blocks[i] == at(new_.blocks, i)) << "block " << i;
    }
    (void)b_.ReadAll(id());  // checks the sums
    const ChunkStamp stamp = b_.State(id()).stamp;
    EXPECT_TRUE(stamp == old_.state.stamp || !stamp.epoch.valid()) << testing::PrintToString(stamp);
  }

  void InstallDifferences() {
    const std::vector<uint64_t> theirs = b_.Sums(id()).blocks;
    const ChunkSums ours = a_.Sums(id());
    for (uint64_t first = 0; first < ours.blocks.size(); first += kPieceBlocks) {
      const uint64_t end = std::min<uint64_t>(first + kPieceBlocks, ours.blocks.size());
      bool differs = end > theirs.size();
      for (uint64_t i = first; i < end && !differs; ++i) differs = ours.blocks[i] != theirs[i];
      if (!differs) continue;
      const Result<std::vector<uint8_t>> bytes = a_.store_->ReadForCopy(id(), first * 4096, (end - first) * 4096);
      ASSERT_TRUE(bytes.ok()) << bytes.status().ToString();
      const Status installed = b_.InstallPiece(id(), first * 4096, *bytes);
      ASSERT_TRUE(installed.ok()) << installed.ToString();
      if (Below(10) == 0) {
        ASSERT_TRUE(b_.store_->Commit().ok());
      }
      if (Below(15) == 0) {
        ASSERT_NO_FATAL_FAILURE(b_.Maintain());
      }
      if (crashes_left_ > 0 && Below(6) == 0) {
        --crashes_left_;
        ASSERT_NO_FATAL_FAILURE(CutPower());
        ASSERT_NO_FATAL_FAILURE(ExpectNothingTorn());
        return;
      }
    }
    const Status ended = b_.store_->InstallEnd(id(), ours.state);
    ASSERT_TRUE(ended.ok()) << ended.ToString();
    is_installed_ = true;
  }

  Copy a_;
  Copy b_;
  std::mt19937_64 engine_{static_cast<uint64_t>(GetParam())};
  SeededRandom seeded_{static_cast<uint64_t>(GetParam())};
  ChunkSums old_;
  ChunkSums new_;
  int crashes_left_ = 6;
  bool is_installed_ = false;
};

TEST_P(InstallTest, EndsEqualHoweverOftenThePowerGoes) {
  a_.Open();
  b_.Open();
  ASSERT_NO_FATAL_FAILURE(ChangeAtRandom(&a_, 12, {.group = kGroup, .epoch = Epoch(2), .base = {}}));
  if (GetParam() % 3 != 0) {
    ASSERT_NO_FATAL_FAILURE(ChangeAtRandom(&b_, 12, {.group = kGroup, .epoch = Epoch(1), .base = {}}));
  }
  if (GetParam() % 2 == 0) {
    ASSERT_NO_FATAL_FAILURE(b_.Maintain(2));
  }
  ASSERT_TRUE(b_.store_->Commit().ok());
  old_ = b_.Sums(id());
  new_ = a_.Sums(id());
  while (!is_installed_) ASSERT_NO_FATAL_FAILURE(InstallDifferences());
  ASSERT_NO_FATAL_FAILURE(ExpectSame(&a_, &b_, id()));
  ASSERT_TRUE(b_.store_->Commit().ok());
  ASSERT_NO_FATAL_FAILURE(CutPower());
  ASSERT_NO_FATAL_FAILURE(ExpectSame(&a_, &b_, id()));
  // It goes on as a member.
  const Result<ChangeOutcome> next = a_.ApplyWrite(id(), 77, "next", {100, kChunkBytesMax}, {.group = kGroup, .epoch = Epoch(3), .base = {}});
  ASSERT_TRUE(b_.ApplyWrite(id(), 77, "next", {100, kChunkBytesMax}, {.group = kGroup, .epoch = Epoch(3), .base = next->base}).ok());
  ASSERT_NO_FATAL_FAILURE(ExpectSame(&a_, &b_, id()));
  ASSERT_NO_FATAL_FAILURE(b_.Maintain(4));
  ASSERT_NO_FATAL_FAILURE(b_.Rebuild());
  ASSERT_NO_FATAL_FAILURE(ExpectSame(&a_, &b_, id()));
}

INSTANTIATE_TEST_SUITE_P(Seeds, InstallTest, testing::Range(1, 17));

// Against a model, through checkpoints, deletions, removals and every kind of restart.
class InventoryTest : public testing::TestWithParam<int> {
 protected:
  uint64_t Below(uint64_t bound) { return engine_() % bound; }
  GroupId GroupOf(ChunkId id) const { return GroupId(static_cast<uint32_t>(1 + (id.data.value() + id.index) % 3)); }

  void Step() {
    const ChunkId id = StoreHarness::Id(first_data_ + Below(12), static_cast<uint32_t>(Below(4)));
    const uint64_t what = Below(100);
    if (what < 70) {
      const Result<ChangeOutcome> written =
          copy_.ApplyWrite(id, Below(20'000), "some bytes", {}, {.group = GroupOf(id), .epoch = Epoch(1 + Below(4)), .base = {}});
      ASSERT_TRUE(written.ok()) << written.status().ToString();
      model_[GroupOf(id)][id] = {id, written->stamp, written->chunk_bytes};
    } else if (what < 80) {
      ASSERT_TRUE(copy_.store_->RemoveChunk(id).ok());
      model_[GroupOf(id)].erase(id);
    } else if (what < 84) {
      const DataId data(first_data_++);
      ASSERT_TRUE(copy_.store_->DeleteData({&data, 1}).ok());
      for (auto& [group, chunks] : model_) std::erase_if(chunks, [&](const auto& entry) { return entry.first.data == data; });
    } else if (what < 92) {
      ASSERT_NO_FATAL_FAILURE(copy_.Maintain());
    } else if (what < 96) {
      ASSERT_NO_FATAL_FAILURE(copy_.Reopen());
    } else if (what < 98) {
      copy_.Kill();
      ASSERT_NO_FATAL_FAILURE(copy_.Open());
    } else {
      ASSERT_NO_FATAL_FAILURE(copy_.Rebuild());
    }
  }

  void CompareAll(size_t entries_max) {
    for (uint32_t group = 1; group <= 3; ++group) {
      std::vector<InventoryEntry> found;
      std::optional<ChunkId> after;
      while (true) {
        const Result<InventoryPage> page = copy_.store_->ListGroup(GroupId(group), after, entries_max);
        ASSERT_TRUE(page.ok()) << page.status().ToString();
        ASSERT_LE(page->chunks.size(), entries_max);
        found.insert(found.end(), page->chunks.begin(), page->chunks.end());
        if (page->end) break;
        ASSERT_FALSE(page->chunks.empty());
        after = page->chunks.back().chunk;
      }
      const auto& expected = model_[GroupId(group)];
      ASSERT_EQ(found.size(), expected.size());
      auto it = expected.begin();
      for (const InventoryEntry& entry : found) {
        ASSERT_EQ(entry.chunk, it->first) << ToString(entry.chunk);
        ASSERT_EQ(entry.stamp, it->second.stamp) << ToString(entry.chunk);
        ASSERT_EQ(entry.bytes, it->second.bytes) << ToString(entry.chunk);
        ++it;
      }
    }
  }

  Copy copy_;
  std::mt19937_64 engine_{static_cast<uint64_t>(GetParam())};
  std::map<GroupId, std::map<ChunkId, InventoryEntry>> model_;
  uint64_t first_data_ = 1;
};

TEST_P(InventoryTest, ListsWhatTheGroupHolds) {
  copy_.Open();
  for (int step = 0; step < 200; ++step) {
    SCOPED_TRACE("step " + std::to_string(step));
    ASSERT_NO_FATAL_FAILURE(Step());
    if (step % 4 == 0) {
      ASSERT_NO_FATAL_FAILURE(CompareAll(1 + Below(6)));
    }
  }
  ASSERT_NO_FATAL_FAILURE(CompareAll(1'000));
}

INSTANTIATE_TEST_SUITE_P(Seeds, InventoryTest, testing::Range(1, 5));

}  // namespace
}  // namespace tarn::store
