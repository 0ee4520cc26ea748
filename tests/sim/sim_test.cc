// The simulator holds: seeds pass, a seed replays exactly, and each planted bug is found.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <string>
#include <utility>

#include "tests/sim/world.h"

namespace tarn::sim {
namespace {

class Simulator : public testing::Test {
 protected:
  Simulator() { spdlog::set_level(spdlog::level::off); }
};

Outcome RunSeed(uint64_t seed, Plant plant = Plant::kNone) {
  Plan plan = DrawPlan(seed);
  plan.plant = plant;
  return RunWorld(plan);
}

TEST_F(Simulator, SeedsFindNothing) {
  Outcome sum;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    const Outcome outcome = RunSeed(seed);
    EXPECT_EQ(outcome.violation, "") << "replay with: build/release/tests/sim/run --seed " << seed << " --trace";
    sum.mutations += outcome.mutations;
    sum.reads += outcome.reads;
    sum.remembered += outcome.remembered;
    sum.crashes += outcome.crashes;
    sum.leaders += outcome.leaders;
    sum.repeats += outcome.repeats;
    sum.checkpoints += outcome.checkpoints;
    sum.file_writes += outcome.file_writes;
    sum.file_looks += outcome.file_looks;
    sum.fenced += outcome.fenced;
  }
  // Else it finds nothing because it does nothing.
  EXPECT_GT(sum.mutations, 5'000u);
  EXPECT_GT(sum.reads, 3'000u);
  EXPECT_GT(sum.remembered, 500u);
  EXPECT_GT(sum.crashes, 50u);
  EXPECT_GT(sum.leaders, 80u);
  EXPECT_GT(sum.repeats, 20u);
  EXPECT_GT(sum.checkpoints, 0u);
  EXPECT_GT(sum.file_writes, 800u);
  EXPECT_GT(sum.file_looks, 2'000u);
  EXPECT_GT(sum.fenced, 1u);
}

// Each showed a defect that only rare runs show; docs/simulator.md tells of them.
TEST_F(Simulator, SeedsThatFoundSomethingFindItNoMore) {
  for (const uint64_t seed : {461u, 523u, 547u, 655u, 671u, 1497u, 1563u, 1653u, 1819u, 1879u})
    EXPECT_EQ(RunSeed(seed).violation, "") << "replay with: build/release/tests/sim/run --seed " << seed << " --trace";
}

TEST_F(Simulator, ASeedReplaysExactly) {
  for (const uint64_t seed : {3u, 8u, 21u}) {
    const Outcome first = RunSeed(seed);
    const Outcome second = RunSeed(seed);
    EXPECT_EQ(first.trace, second.trace) << "seed " << seed;
    EXPECT_EQ(first.events, second.events) << "seed " << seed;
    EXPECT_EQ(first.entries, second.entries) << "seed " << seed;
  }
  EXPECT_NE(RunSeed(3).trace, RunSeed(8).trace);
}

// Members are added, removed and replaced, leadership is handed over, and the other faults go on.
TEST_F(Simulator, ChangesOfTheGroupFindNothing) {
  Outcome sum;
  // Those behind 10 have found something.
  for (const uint64_t seed : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 9u, 10u, 21u, 29u, 56u, 73u, 110u, 351u, 720u}) {
    Plan plan = DrawPlan(seed);
    DrawGroupChanges(&plan);
    const Outcome outcome = RunWorld(plan);
    EXPECT_EQ(outcome.violation, "") << "replay with: build/release/tests/sim/run --seed " << seed << " --group --trace";
    sum.mutations += outcome.mutations;
    sum.operations_on_group += outcome.operations_on_group;
    sum.joins += outcome.joins;
    sum.checkpoints += outcome.checkpoints;
  }
  EXPECT_GT(sum.mutations, 1'000u);
  EXPECT_GT(sum.operations_on_group, 20u);
  EXPECT_GT(sum.joins, 15u);
  EXPECT_GT(sum.checkpoints, 5u);
}

TEST_F(Simulator, ASeedWithChangesOfTheGroupReplaysExactly) {
  Plan plan = DrawPlan(5);
  DrawGroupChanges(&plan);
  const Outcome first = RunWorld(plan);
  const Outcome second = RunWorld(plan);
  EXPECT_EQ(first.trace, second.trace);
  EXPECT_EQ(first.entries, second.entries);
}

class PlantedBug : public testing::TestWithParam<std::pair<Plant, uint64_t>> {};

TEST_P(PlantedBug, IsFound) {
  spdlog::set_level(spdlog::level::off);
  const auto [plant, seeds_max] = GetParam();
  for (uint64_t seed = 1; seed <= seeds_max; ++seed) {
    if (!RunSeed(seed, plant).violation.empty()) return;
  }
  FAIL() << PlantName(plant) << " was not found by seeds 1.." << seeds_max;
}

INSTANTIATE_TEST_SUITE_P(Each, PlantedBug,
                         testing::Values(std::pair{Plant::kForgetResult, 20}, std::pair{Plant::kServeTooEarly, 20},
                                         std::pair{Plant::kAckUnsynced, 20}, std::pair{Plant::kCountWrong, 20},
                                         std::pair{Plant::kTrimTooEarly, 20}, std::pair{Plant::kReadWithoutLease, 50},
                                         std::pair{Plant::kNoSecondLook, 50}, std::pair{Plant::kIgnorePush, 40},
                                         std::pair{Plant::kIgnoreRecall, 20}, std::pair{Plant::kForgetSize, 20},
                                         std::pair{Plant::kHideOpen, 30}, std::pair{Plant::kHideWritten, 60},
                                         std::pair{Plant::kNewLeaderRushes, 30}, std::pair{Plant::kBelieveLonger, 100}),
                         [](const auto& test) {
                           std::string name(PlantName(test.param.first));
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace tarn::sim
