// What became of writes that are sent again after a loss, and what is noted for it.
#include "chunkserver/replication/lost_writes.h"

#include <gtest/gtest.h>

namespace tarn::replication {
namespace {

store::ChunkStamp S(uint64_t epoch, uint64_t version) { return {Epoch(epoch), version}; }
const ChunkId kChunk{DataId(100), 3};
using Ranges = std::vector<ByteRange>;

TEST(FateOf, FollowsFromStampsAndLosses) {
  struct Row {
    const char* what;
    store::ChunkStamp acknowledged, recovered;
    uint64_t last, before;
    Fate fate;
  };
  const Row rows[] = {
      {"recovered as it was", S(5, 3), S(5, 3), 6, 0, Fate::kThere},
      {"recovered with what came after it", S(5, 3), S(5, 4), 6, 0, Fate::kThere},
      {"and with what a later primary ordered", S(4, 3), S(5, 4), 6, 2, Fate::kThere},
      {"recovered without it", S(5, 3), S(5, 2), 6, 0, Fate::kLost},
      {"of an earlier primary's only", S(5, 3), S(4, 9), 6, 0, Fate::kLost},
      {"the chunk was new", S(5, 1), S(0, 0), 6, 0, Fate::kLost},
      {"exactly in the epoch of the loss before", S(4, 3), S(5, 1), 6, 4, Fate::kThere},
      {"two losses: changed between them", S(3, 3), S(5, 1), 6, 5, Fate::kUnknown},
      {"two losses: changed after it, perhaps between earlier ones", S(3, 3), S(4, 1), 6, 5, Fate::kUnknown},
      {"two losses: recovered in its own epoch", S(3, 3), S(3, 4), 6, 5, Fate::kThere},
      {"two losses: not recovered, nor anything since", S(3, 3), S(3, 2), 6, 5, Fate::kLost},
      {"the server did not know the stamp", S(0, 0), S(5, 4), 6, 0, Fate::kUnknown},
      {"a repeat was answered", S(5, 0), S(5, 4), 6, 0, Fate::kUnknown},
      {"a repeat was answered, and nothing of its epoch is there", S(5, 0), S(4, 4), 6, 0, Fate::kUnknown},
      {"the chunk was being copied", S(5, 3), S(0, 7), 6, 0, Fate::kUnknown},
  };
  for (const Row& row : rows) EXPECT_EQ(FateOf(row.acknowledged, row.recovered, {Epoch(row.last), Epoch(row.before)}), row.fate) << row.what;
}

TEST(IsIntact, WhatWasAcknowledgedSinceTheLastLoss) {
  EXPECT_TRUE(IsIntact(S(1, 1), {}));
  EXPECT_TRUE(IsIntact(S(0, 0), {})) << "nothing was ever lost";
  EXPECT_TRUE(IsIntact(S(6, 1), {Epoch(6), Epoch(0)}));
  EXPECT_TRUE(IsIntact(S(6, 0), {Epoch(6), Epoch(0)})) << "a repeat";
  EXPECT_FALSE(IsIntact(S(5, 9), {Epoch(6), Epoch(0)}));
  EXPECT_FALSE(IsIntact(S(0, 9), {Epoch(6), Epoch(0)}));
}

TEST(LostWrites, WhatIsLaterLiesWhereItWasWritten) {
  std::atomic<int64_t> room{100};
  LostWrites notes(&room);
  EXPECT_FALSE(notes.RecoveredStamp(kChunk).has_value());
  notes.NoteChunk(kChunk, S(4, 1));
  notes.NoteChunk(kChunk, S(6, 9));
  EXPECT_EQ(notes.RecoveredStamp(kChunk), S(4, 1)) << "as it was recovered";
  notes.NoteWrite(kChunk, {100, 50}, S(5, 3));
  notes.NoteWrite(kChunk, {200, 100}, std::nullopt);
  EXPECT_EQ(notes.LaterThan(kChunk, {0, 1000}, S(5, 2)), (Ranges{{100, 50}, {200, 100}}));
  EXPECT_EQ(notes.LaterThan(kChunk, {0, 1000}, S(5, 3)), (Ranges{{200, 100}})) << "its own other part, or its repeat";
  EXPECT_EQ(notes.LaterThan(kChunk, {140, 100}, S(5, 2)), (Ranges{{140, 10}, {200, 40}}));
  EXPECT_EQ(notes.LaterThan(kChunk, {150, 50}, S(5, 2)), Ranges{});
  EXPECT_EQ(notes.LaterThan(ChunkId{DataId(100), 4}, {0, 1000}, S(5, 2)), Ranges{});
  // On top, in the middle.
  notes.NoteWrite(kChunk, {110, 10}, std::nullopt);
  EXPECT_EQ(notes.LaterThan(kChunk, {0, 1000}, S(5, 3)), (Ranges{{110, 10}, {200, 100}}));
  EXPECT_EQ(notes.LaterThan(kChunk, {0, 1000}, S(5, 2)), (Ranges{{100, 50}, {200, 100}}));
  // Over several, and joined with its neighbour.
  notes.NoteWrite(kChunk, {90, 110}, std::nullopt);
  EXPECT_EQ(notes.LaterThan(kChunk, {0, 1000}, S(5, 9)), (Ranges{{90, 210}}));
}

TEST(LostWrites, SequentialWritesTakeOneNoteAndRoomComesBack) {
  std::atomic<int64_t> room{4};
  {
    LostWrites notes(&room);
    notes.NoteChunk(kChunk, S(4, 1));
    for (uint64_t i = 0; i < 100; ++i) notes.NoteWrite(kChunk, {i * 10, 10}, std::nullopt);
    for (uint64_t i = 200; i > 100; --i) notes.NoteWrite(kChunk, {i * 10, 10}, std::nullopt);
    EXPECT_EQ(room, 1);
    EXPECT_FALSE(notes.is_incomplete());
    notes.NoteWrite(kChunk, {10'000, 10}, std::nullopt);
    EXPECT_FALSE(notes.is_incomplete());
    notes.NoteWrite(kChunk, {20'000, 10}, std::nullopt);
    EXPECT_TRUE(notes.is_incomplete());
  }
  EXPECT_EQ(room, 4);
}

}  // namespace
}  // namespace tarn::replication
