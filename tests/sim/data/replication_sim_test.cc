// Some dozens of seeds, that a seed replays exactly, and that planted bugs are found.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include "tests/sim/data/world.h"

namespace tarn::sim_data {
namespace {

// The real leader would tell of every change.
class ReplicationSim : public ::testing::Test {
 protected:
  ReplicationSim() { spdlog::set_level(spdlog::level::off); }
};

TEST_F(ReplicationSim, SeedsFindNothing) {
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

TEST_F(ReplicationSim, ASeedReplaysExactly) {
  const Outcome one = RunWorld(DrawPlan(7));
  const Outcome other = RunWorld(DrawPlan(7));
  EXPECT_EQ(one.trace, other.trace);
  EXPECT_EQ(one.events, other.events);
}

bool IsFound(Plant plant, uint64_t seeds) {
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    Plan plan = DrawPlan(seed);
    plan.plant = plant;
    if (!RunWorld(plan).violation.empty()) return true;
  }
  return false;
}

TEST_F(ReplicationSim, PlantedBugsAreFound) {
  for (const Plant plant : {Plant::kPromoteWithoutCommit, Plant::kIgnoreBase, Plant::kPromoteEarly, Plant::kAcknowledgeEarly, Plant::kNoSequences,
                            Plant::kNoLease, Plant::kSendAgainAsNew, Plant::kHastyLeader, Plant::kDropDrained, Plant::kOneNode, Plant::kNoReconcile,
                            Plant::kGrantWaitTooShort, Plant::kNoProof, Plant::kForgetWindows}) {
    EXPECT_TRUE(IsFound(plant, 60)) << PlantName(plant);
  }
}

}  // namespace
}  // namespace tarn::sim_data
