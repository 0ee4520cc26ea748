#include "tests/sim/data/plan.h"

#include <sstream>

#include "tests/sim/scheduler.h"

namespace tarn::sim_data {

std::string_view PlantName(Plant plant) {
  switch (plant) {
    case Plant::kNone: return "none";
    case Plant::kGrantWaitTooShort: return "grant-wait-too-short";
    case Plant::kNoReconcile: return "no-reconcile";
    case Plant::kPromoteWithoutCommit: return "promote-without-commit";
    case Plant::kIgnoreBase: return "ignore-base";
    case Plant::kNoLease: return "no-lease";
    case Plant::kPromoteEarly: return "promote-early";
    case Plant::kNoSequences: return "no-sequences";
    case Plant::kAcknowledgeEarly: return "acknowledge-early";
    case Plant::kForgetWindows: return "forget-windows";
    case Plant::kSendAgainAsNew: return "send-again-as-new";
  }
  return "unknown";
}

Plan DrawPlan(uint64_t seed) {
  sim::Dice dice(seed * 0x9E3779B97F4A7C15ull + 1);
  Plan plan;
  plan.seed = seed;
  plan.targets = static_cast<uint32_t>(dice.Between(3, 5));
  plan.groups = static_cast<uint32_t>(dice.Between(1, 3));
  plan.replicas = dice.Chance(0.5) ? 2 : 3;
  plan.clients = static_cast<uint32_t>(dice.Between(2, 4));
  plan.faulty_ns = dice.Between(15, 40) * sim::kSecond;
  if (dice.Chance(0.6)) plan.lost = 0.03 * static_cast<double>(dice.Below(100)) / 100;
  if (dice.Chance(0.5)) plan.twice = 0.05;
  if (dice.Chance(0.6)) plan.very_late = dice.Chance(0.5) ? 0.02 : 0.1;
  const auto maybe_every = [&dice](double chance, int64_t low_ms, int64_t high_ms) { return dice.Chance(chance) ? dice.Between(low_ms, high_ms) : 0; };
  plan.crash_every_ms = maybe_every(0.7, 1'500, 8'000);
  plan.clean_restart_every_ms = maybe_every(0.4, 2'000, 10'000);
  plan.cut_every_ms = maybe_every(0.6, 1'500, 8'000);
  plan.move_every_ms = maybe_every(0.5, 1'000, 5'000);
  plan.fence_every_ms = maybe_every(0.3, 2'000, 8'000);
  plan.outage_every_ms = maybe_every(0.2, 5'000, 15'000);
  plan.reads = 0.2 + 0.1 * static_cast<double>(dice.Below(6));
  plan.durable = 0.1 * static_cast<double>(dice.Below(6));
  plan.readers = static_cast<uint32_t>(dice.Between(1, 3));
  // In quiet runs what is wrong with a chunk stays so for long.
  if (dice.Chance(0.4)) {
    plan.chunks = kChunksPerGroupMax;
    plan.think_ms = dice.Between(200, 800);
    plan.late_ms_max = 12'000;
  }
  plan.lonely_every_ms = maybe_every(0.5, 3'000, 8'000);
  plan.accident_every_ms = maybe_every(0.5, 3'000, 8'000);
  plan.full_every_ms = maybe_every(0.3, 3'000, 10'000);
  plan.damage_every_ms = maybe_every(0.4, 500, 4'000);
  if (dice.Chance(0.5)) plan.cuts = 0.15;
  plan.lazy_acks = dice.Chance(0.4);
  plan.sharing = dice.Chance(0.6);
  if (plan.sharing && dice.Chance(0.3)) plan.replicas = 1;
  return plan;
}

std::string Describe(const Plan& plan) {
  std::ostringstream text;
  text << plan.targets << " targets, " << plan.groups << " groups of " << plan.replicas << ", " << plan.clients << " clients, lost " << plan.lost
       << ", twice " << plan.twice << ", late " << plan.very_late << ", crash " << plan.crash_every_ms << " ms, restart "
       << plan.clean_restart_every_ms << ", cut " << plan.cut_every_ms << ", move " << plan.move_every_ms << ", fence " << plan.fence_every_ms
       << ", outage " << plan.outage_every_ms << ", lonely " << plan.lonely_every_ms << ", accident " << plan.accident_every_ms << ", full " << plan.full_every_ms << ", damage "
       << plan.damage_every_ms << ", sharing " << plan.sharing << ", cuts " << plan.cuts << ", lazy acks " << plan.lazy_acks << ", think " << plan.think_ms << ", chunks " << plan.chunks;
  return text.str();
}

}  // namespace tarn::sim_data
