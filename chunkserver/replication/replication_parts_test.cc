// The pure parts of replication: which change a chunk takes, which chunks of two inventories differ, what is unconfirmed, how copies are paced.
#include <gtest/gtest.h>

#include <vector>

#include "chunkserver/replication/applying_changes.h"
#include "chunkserver/replication/copy_pacer.h"
#include "chunkserver/replication/group_view.h"
#include "chunkserver/replication/inventory_diff.h"
#include "chunkserver/replication/member_change.h"
#include "chunkserver/replication/unconfirmed_list.h"

namespace tarn::replication {
namespace {

store::ChunkStamp S(uint64_t epoch, uint64_t version) { return {Epoch(epoch), version}; }
ChunkId C(uint64_t data) { return {DataId(data), 0}; }

TEST(StepOf, AppliesOnTheBaseKnowsWhatItHasAndWaitsForTheRest) {
  struct Row {
    const char* what;
    store::ChunkStamp current, base, stamp;
    ReplicateStep step;
  };
  const Row rows[] = {
      {"on its base", S(2, 5), S(2, 5), S(2, 6), ReplicateStep::kApply},
      {"a new chunk", S(0, 0), S(0, 0), S(2, 1), ReplicateStep::kApply},
      {"a cut and a write", S(2, 5), S(2, 5), S(2, 7), ReplicateStep::kApply},
      {"a base of an earlier epoch", S(1, 5), S(1, 5), S(2, 6), ReplicateStep::kApply},
      {"a repeat", S(2, 6), S(2, 5), S(2, 6), ReplicateStep::kSeen},
      {"a late repeat", S(2, 9), S(2, 5), S(2, 6), ReplicateStep::kSeen},
      {"a later epoch of the same order", S(3, 7), S(2, 5), S(2, 6), ReplicateStep::kSeen},
      {"too early", S(2, 4), S(2, 5), S(2, 6), ReplicateStep::kWait},
      {"the same version of another epoch", S(1, 6), S(2, 5), S(2, 6), ReplicateStep::kWait},
      {"in the middle of a copy", S(0, 5), S(2, 5), S(2, 6), ReplicateStep::kWait},
      {"nothing there yet", S(0, 0), S(2, 5), S(2, 6), ReplicateStep::kWait},
  };
  for (const Row& row : rows) EXPECT_EQ(StepOf(row.current, row.base, row.stamp), row.step) << row.what;
}

store::InventoryPage Page(std::vector<std::pair<uint64_t, store::ChunkStamp>> chunks, bool end) {
  store::InventoryPage page;
  for (const auto& [data, stamp] : chunks) page.chunks.push_back({C(data), stamp, 10});
  page.end = end;
  return page;
}

TEST(DiffPages, FindsWhatDiffersUpToTheShorterPage) {
  const InventoryDifference all = DiffPages(Page({{1, S(1, 1)}, {2, S(1, 2)}, {4, S(1, 1)}}, true), Page({{2, S(1, 1)}, {3, S(1, 1)}, {4, S(1, 1)}}, true));
  EXPECT_EQ(all.chunks, (std::vector<ChunkId>{C(1), C(2), C(3)}));
  EXPECT_FALSE(all.through.has_value());
  EXPECT_EQ(all.bytes, 30u);

  const InventoryDifference part = DiffPages(Page({{1, S(1, 1)}, {2, S(1, 1)}, {9, S(1, 1)}}, false), Page({{1, S(1, 1)}, {5, S(1, 1)}}, false));
  EXPECT_EQ(part.chunks, (std::vector<ChunkId>{C(2), C(5)}));
  EXPECT_EQ(part.through, C(5));

  const InventoryDifference one_ends = DiffPages(Page({}, true), Page({{1, S(1, 1)}, {5, S(1, 1)}}, false));
  EXPECT_EQ(one_ends.chunks, (std::vector<ChunkId>{C(1), C(5)}));
  EXPECT_EQ(one_ends.through, C(5));
}

TEST(DiffPages, AStampWithoutAnEpochNamesNothing) {
  EXPECT_EQ(DiffPages(Page({{1, S(0, 3)}}, true), Page({{1, S(0, 3)}}, true)).chunks.size(), 1u);
}

TEST(UnconfirmedList, KnowsChunksUntilTheirLastChangeIsConfirmed) {
  UnconfirmedList list;
  list.Add(1, {C(1), S(1, 1), Epoch(1)});
  list.Add(2, {C(1), S(1, 2), Epoch(1)});
  list.Add(2, {C(1), S(1, 2), Epoch(1)});  // a repeat
  list.Add(3, {C(2), S(1, 1), Epoch(1)});
  list.Confirm(1);
  EXPECT_TRUE(list.Contains(C(1)));
  list.Confirm(2);
  EXPECT_FALSE(list.Contains(C(1)));
  EXPECT_TRUE(list.Contains(C(2)));
  list.Add(2, {C(1), S(1, 2), Epoch(1)});  // late
  EXPECT_FALSE(list.Contains(C(1)));
  list.ForgetBefore(Epoch(2));
  EXPECT_EQ(list.size(), 0u);
  list.Add(1, {C(3), S(2, 1), Epoch(2)});  // of a new primary, which counts anew
  EXPECT_TRUE(list.Contains(C(3)));
}

TEST(ApplyingChanges, WhoWaitsForThoseOfNowDoesNotWaitForLaterOnes) {
  ApplyingChanges applying;
  Callbacks out;
  applying.WhenDrained([] {}, &out);
  EXPECT_EQ(out.size(), 1u) << "nothing is under way";
  out.clear();
  const uint64_t one = applying.Begin();
  const uint64_t two = applying.Begin();
  applying.WhenDrained([] {}, &out);
  const uint64_t later = applying.Begin();
  applying.End(one, &out);
  EXPECT_EQ(out.size(), 0u);
  applying.WhenDrained([] {}, &out);
  applying.End(two, &out);
  EXPECT_EQ(out.size(), 1u);
  applying.End(later, &out);
  EXPECT_EQ(out.size(), 2u);
}

TEST(CommonWindows, KeepsWhatBothKnow) {
  const auto window = [](uint64_t session, uint64_t acked, std::vector<uint64_t> applied) {
    store::SessionWindow row{.session = SessionId(session), .acked_through = Sequence(acked), .applied = {}};
    for (const uint64_t sequence : applied) row.applied.emplace_back(sequence);
    return row;
  };
  const auto common = CommonWindows({window(1, 2, {4, 5, 7}), window(2, 0, {1})}, {window(1, 4, {5, 6}), window(3, 0, {1})});
  ASSERT_EQ(common.size(), 1u);
  EXPECT_EQ(common[0].session, SessionId(1));
  EXPECT_EQ(common[0].acked_through, Sequence(4));
  EXPECT_EQ(common[0].applied, std::vector<Sequence>{Sequence(5)});
}

TEST(GroupView, MinInSync) {
  for (const auto& [replicas, least] : std::vector<std::pair<uint32_t, size_t>>{{1, 1}, {2, 1}, {3, 2}}) {
    EXPECT_EQ((GroupView{.id = {}, .epoch = {}, .in_sync = {}, .syncing = {}, .replicas = replicas}).min_in_sync(), least) << replicas;
  }
}

TEST(CopyPacer, WhoHasCopiedPaysBeforeTheNext) {
  CopyPacer pacer(1'000);
  EXPECT_EQ(pacer.DelayMs(0), 0);
  pacer.Pay(0, 500);
  EXPECT_EQ(pacer.DelayMs(0), 500);
  EXPECT_EQ(pacer.DelayMs(600'000'000), 0);
  CopyPacer unbounded(0);
  unbounded.Pay(0, 1u << 30);
  EXPECT_EQ(unbounded.DelayMs(0), 0);
}

}  // namespace
}  // namespace tarn::replication
