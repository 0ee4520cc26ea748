// Some dozens of seeds, that a seed replays exactly, and that planted bugs are found.
#include <gtest/gtest.h>

#include "tests/sim/data/world.h"

namespace tarn::sim_data {
namespace {

TEST(ReplicationSim, SeedsFindNothing) {
  uint64_t sent_again = 0, given_way = 0, given_up = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const Outcome outcome = RunWorld(DrawPlan(seed));
    EXPECT_EQ(outcome.violation, "") << "seed " << seed;
    EXPECT_GT(outcome.writes, 0u) << "seed " << seed;
    sent_again += outcome.sent_again;
    given_way += outcome.given_way;
    given_up += outcome.given_up;
  }
  EXPECT_GT(sent_again, 100u);
  EXPECT_GT(given_way, 0u);
  EXPECT_LT(given_up, sent_again / 5) << "that is for what cannot be known";
}

TEST(ReplicationSim, ASeedReplaysExactly) {
  const Outcome one = RunWorld(DrawPlan(7));
  const Outcome other = RunWorld(DrawPlan(7));
  EXPECT_EQ(one.trace, other.trace);
  EXPECT_EQ(one.events, other.events);
}

TEST(ReplicationSim, PlantedBugsAreFound) {
  for (const Plant plant : {Plant::kPromoteWithoutCommit, Plant::kIgnoreBase, Plant::kPromoteEarly, Plant::kAcknowledgeEarly, Plant::kNoSequences,
                            Plant::kNoLease, Plant::kSendAgainAsNew}) {
    bool found = false;
    for (uint64_t seed = 1; seed <= 20 && !found; ++seed) {
      Plan plan = DrawPlan(seed);
      plan.plant = plant;
      found = !RunWorld(plan).violation.empty();
    }
    EXPECT_TRUE(found) << PlantName(plant);
  }
}

}  // namespace
}  // namespace tarn::sim_data
