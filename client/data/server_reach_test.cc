#include "client/data/server_reach.h"

#include <gtest/gtest.h>

namespace tarn::client {
namespace {

using Change = ServerReach::Change;
constexpr int64_t kSecond = 1'000'000'000;

TEST(ServerReach, ADoubtIsLookedIntoOnceInAWhile) {
  ServerReach reach;
  EXPECT_TRUE(reach.BeginProbe(10 * kSecond));
  EXPECT_FALSE(reach.BeginProbe(12 * kSecond)) << "one is under way";
  EXPECT_EQ(reach.EndProbe(/*is_reached=*/true, 12 * kSecond), Change::kNone);
  EXPECT_TRUE(reach.BeginProbe(12 * kSecond));
  EXPECT_EQ(reach.EndProbe(true, 12 * kSecond), Change::kNone);
  EXPECT_FALSE(reach.BeginProbe(13 * kSecond - 1));
  EXPECT_FALSE(reach.is_down());
}

TEST(ServerReach, GoesThroughOthersUntilAProbeOrAnAnswerComesBack) {
  ServerReach reach;
  EXPECT_FALSE(reach.WantsRelay(kSecond));
  reach.BeginProbe(kSecond);
  EXPECT_EQ(reach.EndProbe(false, 2 * kSecond), Change::kWentDown);
  EXPECT_TRUE(reach.WantsRelay(2 * kSecond));
  reach.BeginProbe(3 * kSecond);
  EXPECT_EQ(reach.EndProbe(false, 4 * kSecond), Change::kNone) << "still";
  EXPECT_TRUE(reach.NoteRelayed());
  EXPECT_FALSE(reach.NoteRelayed()) << "only the first one is news";
  reach.BeginProbe(5 * kSecond);
  EXPECT_EQ(reach.EndProbe(true, 6 * kSecond), Change::kCameBack);
  EXPECT_FALSE(reach.WantsRelay(6 * kSecond));
  EXPECT_EQ(reach.outage().duration_ns, 4 * kSecond);
  EXPECT_EQ(reach.outage().relayed, 2u);

  reach.BeginProbe(10 * kSecond);
  EXPECT_EQ(reach.EndProbe(false, 11 * kSecond), Change::kWentDown);
  EXPECT_EQ(reach.NoteDirectAnswer(12 * kSecond), Change::kCameBack);
  EXPECT_EQ(reach.NoteDirectAnswer(12 * kSecond), Change::kNone);
}

TEST(ServerReach, WhenOthersDoNotGetThereEitherTheDirectWayIsTriedForEverLonger) {
  ServerReach reach;
  reach.BeginProbe(kSecond);
  reach.EndProbe(false, kSecond);
  int64_t now_ns = kSecond;
  int64_t pause_ns = 0;
  for (int round = 0; round < 10; ++round) {
    reach.NoteRelayFailed(now_ns);
    EXPECT_TRUE(reach.WantsRelay(now_ns)) << "another one is tried at once";
    reach.NoteRelayFailed(now_ns);
    EXPECT_FALSE(reach.WantsRelay(now_ns));
    pause_ns = 0;
    while (!reach.WantsRelay(now_ns + pause_ns)) pause_ns += 100'000'000;
    if (round == 0) {
      EXPECT_EQ(pause_ns, ServerReach::kRelayPauseMinNs);
    }
    now_ns += pause_ns;
  }
  EXPECT_EQ(pause_ns, ServerReach::kRelayPauseMaxNs);
  reach.NoteRelayed();
  reach.NoteRelayFailed(now_ns);
  reach.NoteRelayFailed(now_ns);
  EXPECT_TRUE(reach.WantsRelay(now_ns + ServerReach::kRelayPauseMinNs));
}

}  // namespace
}  // namespace tarn::client
