#include "client/data/hedge_policy.h"

#include <gtest/gtest.h>

#include "client/data/server_health.h"

namespace tarn::client {
namespace {

constexpr int64_t kMs = 1'000'000;

void NoteMany(HedgePolicy& policy, int count, int64_t latency_ns) {
  for (int i = 0; i < count; ++i) policy.NoteLatency(latency_ns);
}

TEST(HedgePolicy, DoesNotWaitForTheLongestTimeWhileItKnowsNothing) {
  HedgePolicy policy(300);
  EXPECT_EQ(policy.delay_ns(), 50 * kMs);
}

TEST(HedgePolicy, WaitsAsLongAsNearlyAllReadsTake) {
  struct Case {
    int64_t usual_ns;
    int64_t rare_ns;  // one read in 64
    int64_t least_ns;
    int64_t most_ns;
  };
  for (const Case& c : {Case{100'000, 100'000, 20 * kMs, 20 * kMs},    // the lower bound
                        Case{10 * kMs, 50 * kMs, 50 * kMs, 80 * kMs},  // one in 64 is more than one in 100
                        Case{1 * kMs, 50 * kMs, 20 * kMs, 20 * kMs},   // but many times what is usual
                        Case{40 * kMs, 40 * kMs, 40 * kMs, 80 * kMs},  //
                        Case{900 * kMs, 900 * kMs, 300 * kMs, 300 * kMs}}) {
    HedgePolicy policy(300);
    for (int i = 0; i < 40; ++i) {
      NoteMany(policy, 63, c.usual_ns);
      NoteMany(policy, 1, c.rare_ns);
    }
    EXPECT_GE(policy.delay_ns(), c.least_ns) << c.usual_ns;
    EXPECT_LE(policy.delay_ns(), c.most_ns) << c.usual_ns;
  }
}

TEST(HedgePolicy, ASlowServerOfThreeIsNoReasonToWaitLong) {
  HedgePolicy policy(300);
  for (int i = 0; i < 1'000; ++i) {
    policy.NoteLatency(i % 3 == 0 ? 200 * kMs : kMs);
    if (i >= 60) {
      ASSERT_EQ(policy.delay_ns(), 20 * kMs) << i;
    }
  }
}

TEST(HedgePolicy, FollowsAClusterThatBecomesSlowAndFastAgain) {
  HedgePolicy policy(300);
  NoteMany(policy, 2'000, kMs);
  EXPECT_EQ(policy.delay_ns(), 20 * kMs);
  NoteMany(policy, 2'000, 100 * kMs);
  EXPECT_GE(policy.delay_ns(), 100 * kMs);
  NoteMany(policy, 10'000, kMs);
  EXPECT_EQ(policy.delay_ns(), 20 * kMs);
}

TEST(HedgePolicy, AFewAndThenOneInTwenty) {
  HedgePolicy policy(300);
  int first = 0;
  while (policy.TakeToken()) ++first;
  EXPECT_EQ(first, 16);
  int later = 0;
  for (int i = 0; i < 1'000; ++i) {
    policy.NoteRead();
    later += policy.TakeToken() ? 1 : 0;
  }
  EXPECT_EQ(later, 50);
  for (int i = 0; i < 10'000; ++i) policy.NoteRead();
  int saved = 0;
  while (policy.TakeToken()) ++saved;
  EXPECT_EQ(saved, 16);
  policy.ReturnToken();
  EXPECT_TRUE(policy.TakeToken());
}

TEST(HedgePolicy, KnowsWhatHalfOfTheReadsTake) {
  HedgePolicy policy(300);
  EXPECT_EQ(policy.typical_ns(), 0);
  for (int i = 0; i < 1'000; ++i) {
    NoteMany(policy, 2, 1 * kMs);
    NoteMany(policy, 1, 200 * kMs);
  }
  EXPECT_GT(policy.typical_ns(), kMs / 2);
  EXPECT_LT(policy.typical_ns(), 2 * kMs);
}

TEST(ServerHealth, AServerThatIsNearlyAlwaysSlowIsAvoided) {
  ServerHealth health;
  int64_t now_ns = 1;
  // Many slow answers among good ones are no reason.
  for (int i = 0; i < 200; ++i) health.NoteLatency(i % 4 == 0 ? 200 * kMs : kMs, kMs, ++now_ns);
  EXPECT_TRUE(health.MayAsk(now_ns));
  for (int i = 0; i < 20; ++i) health.NoteLatency(200 * kMs, kMs, ++now_ns);
  EXPECT_FALSE(health.MayAsk(now_ns));
  EXPECT_TRUE(health.IsAvoided());
  // One tries it: still slow, then well again.
  now_ns += 4'000 * kMs;
  EXPECT_TRUE(health.MayAsk(now_ns));
  EXPECT_FALSE(health.MayAsk(now_ns));
  health.NoteLatency(200 * kMs, kMs, now_ns);
  EXPECT_FALSE(health.MayAsk(now_ns + 2'000 * kMs));
  now_ns += 4'000 * kMs;
  EXPECT_TRUE(health.MayAsk(now_ns));
  health.NoteLatency(kMs, kMs, now_ns);
  EXPECT_TRUE(health.MayAsk(now_ns));
  EXPECT_TRUE(health.MayAsk(now_ns));
}

TEST(ServerHealth, WhereAllAreSlowNobodyIsAvoided) {
  ServerHealth health;
  for (int i = 0; i < 100; ++i) health.NoteLatency(200 * kMs, 150 * kMs, i + 1);
  EXPECT_TRUE(health.MayAsk(101));
}

TEST(ServerHealth, OneTriesAServerThatWasAvoidedAndTheOthersWaitForItsAnswer) {
  ServerHealth health;
  EXPECT_TRUE(health.MayAsk(0));
  health.NoteBad(1'000 * kMs);
  EXPECT_FALSE(health.MayAsk(2'000 * kMs));
  EXPECT_TRUE(health.MayAsk(5'000 * kMs));
  EXPECT_FALSE(health.MayAsk(5'001 * kMs));
  EXPECT_TRUE(health.MayAsk(7'000 * kMs));  // the first one has no answer either
  health.NoteGood();
  EXPECT_TRUE(health.MayAsk(7'001 * kMs));
}

}  // namespace
}  // namespace tarn::client
