#include "metaserver/service/interest_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "metaserver/service/push_budget.h"

namespace tarn::meta {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr SessionId kA(1);
constexpr SessionId kB(2);
constexpr InodeId kX(100);
constexpr InodeId kY(200);

TEST(InterestTable, FindsWatchersOfAnInode) {
  InterestTable table({});
  EXPECT_TRUE(table.Add(kA, kX));
  EXPECT_TRUE(table.Add(kB, kX));
  EXPECT_TRUE(table.Add(kA, kX)) << "again is no second one";
  EXPECT_TRUE(table.Add(kA, kY));
  EXPECT_THAT(table.Watchers(kX), UnorderedElementsAre(kA, kB));
  EXPECT_EQ(table.size(), 3u);
  EXPECT_TRUE(table.OthersWatch(kX, kA));
  EXPECT_FALSE(table.OthersWatch(kY, kA));
  EXPECT_TRUE(table.OthersWatch(kY, kB));
}

TEST(InterestTable, SessionTakesItsInterestsWithIt) {
  InterestTable table({});
  table.Add(kA, kX);
  table.Add(kA, kY);
  table.Add(kB, kX);
  table.RemoveSession(kA);
  EXPECT_THAT(table.Watchers(kX), UnorderedElementsAre(kB));
  EXPECT_THAT(table.Watchers(kY), IsEmpty());
  EXPECT_EQ(table.size(), 1u);
  table.RemoveSession(kA);
  EXPECT_EQ(table.size(), 1u);
}

TEST(InterestTable, IsBoundedPerSessionAndInAll) {
  InterestTable table({.total_max = 3, .per_session_max = 2});
  EXPECT_TRUE(table.Add(kA, InodeId(1)));
  EXPECT_TRUE(table.Add(kA, InodeId(2)));
  EXPECT_FALSE(table.Add(kA, InodeId(3)));
  EXPECT_TRUE(table.Add(kA, InodeId(2))) << "what is there stays";
  EXPECT_TRUE(table.Add(kB, InodeId(1)));
  EXPECT_FALSE(table.Add(kB, InodeId(2)));
  table.Remove(kA, InodeId(1));
  EXPECT_TRUE(table.Add(kB, InodeId(2)));
}

TEST(InterestTable, TentativeInterestEndsUnlessItIsAddedMeanwhile) {
  InterestTable table({});
  EXPECT_TRUE(table.AddTentative(kA, kX));
  EXPECT_FALSE(table.AddTentative(kA, kX));
  table.RemoveTentative(kA, kX);
  EXPECT_FALSE(table.Has(kA, kX));
  EXPECT_TRUE(table.AddTentative(kA, kX));
  table.Add(kA, kX);
  table.RemoveTentative(kA, kX);
  EXPECT_TRUE(table.Has(kA, kX));
}

TEST(InterestTable, SoleUserGoesWithItsInterest) {
  InterestTable table({});
  table.Add(kA, kX);
  table.SetSoleUser(kX, kA);
  EXPECT_EQ(table.SoleUser(kX), kA);
  table.Add(kB, kX);
  table.Remove(kA, kX);
  EXPECT_FALSE(table.SoleUser(kX).valid());
}

constexpr int64_t kSecondNs = 1'000'000'000;

TEST(PushBudget, AllowsABurstAndThenARate) {
  PushBudget budget({.pushes_per_second = 10, .burst = 20});
  EXPECT_TRUE(budget.Charge(kX, 20, 0));
  EXPECT_TRUE(budget.Charge(kX, 10, kSecondNs));
  EXPECT_FALSE(budget.IsUncached(kX, kSecondNs));
  EXPECT_FALSE(budget.Charge(kX, 1, kSecondNs));
  EXPECT_TRUE(budget.IsUncached(kX, kSecondNs));
  EXPECT_FALSE(budget.IsUncached(kY, kSecondNs));
}

TEST(PushBudget, StaysAwayLongerEachTimeItHappensAgainSoon) {
  PushBudget budget({.burst = 10, .uncached_ns = kSecondNs, .uncached_max_ns = 3 * kSecondNs});
  int64_t now_ns = 0;
  for (const int64_t seconds : {1, 2, 3, 3}) {
    EXPECT_FALSE(budget.Charge(kX, 100, now_ns));
    EXPECT_TRUE(budget.IsUncached(kX, now_ns + seconds * kSecondNs - 1));
    EXPECT_FALSE(budget.IsUncached(kX, now_ns + seconds * kSecondNs));
    now_ns += seconds * kSecondNs;
  }
  now_ns += 61 * kSecondNs;
  EXPECT_FALSE(budget.Charge(kX, 100, now_ns));
  EXPECT_FALSE(budget.IsUncached(kX, now_ns + kSecondNs)) << "forgiven";
}

TEST(PushBudget, ForgetsTheQuietAndIsBounded) {
  PushBudget budget({.tracked_max = 1});
  EXPECT_TRUE(budget.Charge(kX, 1, 0));
  EXPECT_TRUE(budget.Charge(kY, 1 << 20, 0)) << "no room to limit it";
  EXPECT_EQ(budget.size(), 1u);
  budget.Sweep(61 * kSecondNs);
  EXPECT_EQ(budget.size(), 0u);
}

}  // namespace
}  // namespace tarn::meta
