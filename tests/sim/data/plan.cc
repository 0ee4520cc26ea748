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
    case Plant::kHastyLeader: return "hasty-leader";
    case Plant::kDropDrained: return "drop-drained";
    case Plant::kNoProof: return "no-proof";
    case Plant::kOneNode: return "one-node";
    case Plant::kNoSequences: return "no-sequences";
    case Plant::kAcknowledgeEarly: return "acknowledge-early";
    case Plant::kForgetWindows: return "forget-windows";
    case Plant::kSendAgainAsNew: return "send-again-as-new";
  }
  return "unknown";
}

namespace {

// Chunks are written once and then left alone, while primaries die with what they had under way: what a new primary does not put right stays wrong
// until the end, where copies are compared.
void LeaveAlone(sim::Dice* dice, Plan* plan) {
  plan->targets = static_cast<uint32_t>(dice->Between(4, 5));
  plan->nodes = plan->targets;
  plan->groups = 1;
  plan->replicas = 3;
  plan->single_copies = false;
  plan->sharing = false;
  plan->chunks = 900;
  plan->think_ms = dice->Between(200, 400);
  plan->reads = 0.1;
  plan->durable = 0;
  plan->accident_every_ms = dice->Between(2'000, 5'000);
  for (int64_t* every_ms : {&plan->crash_every_ms, &plan->clean_restart_every_ms, &plan->cut_every_ms, &plan->fence_every_ms, &plan->outage_every_ms,
                            &plan->leader_change_every_ms, &plan->lonely_every_ms, &plan->full_every_ms, &plan->damage_every_ms, &plan->weigh_every_ms,
                            &plan->add_every_ms, &plan->drain_every_ms, &plan->retire_every_ms, &plan->destroy_every_ms}) {
    *every_ms = 0;
  }
}

// Groups move all the time, while what clients send and are answered is late: repeats come to a primary that got the chunk and what it knows of
// sessions from another one, and after the next write of the cell.
void MoveMuch(sim::Dice* dice, Plan* plan) {
  plan->replicas = static_cast<uint32_t>(dice->Between(1, 2));
  plan->nodes = plan->targets;
  plan->groups = static_cast<uint32_t>(dice->Between(2, 3));
  plan->sharing = false;
  plan->chunks = 2;
  plan->think_ms = dice->Between(10, 60);
  plan->reads = 0.3;
  plan->cuts = 0;
  plan->lazy_acks = true;
  plan->clients_late = 0.1 + 0.1 * static_cast<double>(dice->Below(3));
  plan->late_ms_max = 3'000;
  plan->lost = 0;
  plan->very_late = 0;
  plan->drain_every_ms = dice->Between(500, 1'200);
  plan->drain_ms_max = 1'500;
  plan->weigh_every_ms = dice->Between(300, 1'000);
  plan->move_pause_ms = 200;
  for (int64_t* every_ms : {&plan->crash_every_ms, &plan->clean_restart_every_ms, &plan->cut_every_ms, &plan->outage_every_ms, &plan->leader_change_every_ms, &plan->lonely_every_ms,
                            &plan->accident_every_ms, &plan->full_every_ms, &plan->retire_every_ms, &plan->destroy_every_ms}) {
    *every_ms = 0;
  }
}

// Primaries are cut off from everybody but clients all the time, and readers stay with them.
void IsolateMuch(sim::Dice* dice, Plan* plan) {
  plan->targets = static_cast<uint32_t>(dice->Between(4, 5));
  plan->nodes = plan->targets;
  plan->replicas = static_cast<uint32_t>(dice->Between(2, 3));
  plan->single_copies = false;
  plan->groups = 1;
  plan->readers = 3;
  plan->think_ms = dice->Between(10, 60);
  plan->lost = 0;
  plan->lonely_every_ms = dice->Between(1'000, 2'500);
  for (int64_t* every_ms : {&plan->crash_every_ms, &plan->clean_restart_every_ms, &plan->cut_every_ms, &plan->outage_every_ms, &plan->accident_every_ms,
                            &plan->full_every_ms, &plan->drain_every_ms, &plan->retire_every_ms, &plan->destroy_every_ms}) {
    *every_ms = 0;
  }
}

// As MoveMuch, but what is late is so together: a client hears no answers for as long as a move takes, asks the new primary meanwhile, and this
// comes after what it writes next.
void StallMuch(sim::Dice* dice, Plan* plan) {
  MoveMuch(dice, plan);
  plan->clients_late = 0;
  plan->single_copies = false;
  plan->groups = 2;
  plan->clients = 4;
  plan->fence_every_ms = 0;
  plan->stall_every_ms = dice->Between(300, 800);
}

// Servers crash, and are primaries again when registrations from before are still on their way.
void RegisterMuch(sim::Dice* dice, Plan* plan) {
  plan->targets = static_cast<uint32_t>(dice->Between(3, 4));
  plan->nodes = plan->targets;
  plan->replicas = 2;
  plan->groups = 2;
  plan->registration_copies = 6;
  plan->crash_every_ms = dice->Between(2'000, 5'000);
  plan->clean_restart_every_ms = 0;
  plan->lost = 0;
  plan->very_late = 0;
  for (int64_t* every_ms : {&plan->cut_every_ms, &plan->outage_every_ms, &plan->lonely_every_ms, &plan->full_every_ms, &plan->drain_every_ms, &plan->retire_every_ms,
                            &plan->destroy_every_ms}) {
    *every_ms = 0;
  }
}

// The only copies crash all the time, under what several clients write in the same places.
void LoseMuch(sim::Dice* dice, Plan* plan) {
  plan->replicas = 1;
  plan->single_copies = false;
  plan->sharing = true;
  plan->clients = 4;
  plan->durable = 0;
  plan->crash_every_ms = dice->Between(1'000, 2'500);
  for (int64_t* every_ms : {&plan->clean_restart_every_ms, &plan->accident_every_ms, &plan->outage_every_ms, &plan->full_every_ms, &plan->destroy_every_ms}) *every_ms = 0;
}

}  // namespace

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
  plan.weigh_every_ms = maybe_every(0.6, 500, 4'000);
  plan.fence_every_ms = maybe_every(0.3, 2'000, 8'000);
  plan.outage_every_ms = maybe_every(0.2, 5'000, 15'000);
  plan.leader_change_every_ms = maybe_every(0.4, 3'000, 12'000);
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
  plan.single_copies = dice.Chance(0.3);
  plan.nodes = dice.Chance(0.6) ? plan.targets : static_cast<uint32_t>(dice.Between(plan.replicas, plan.targets));
  plan.zones = static_cast<uint32_t>(dice.Between(1, 3));
  // In half of the runs the cluster stays as it is, but for what fails.
  if (dice.Chance(0.5)) {
    plan.add_every_ms = maybe_every(0.7, 4'000, 15'000);
    plan.drain_every_ms = maybe_every(0.7, 3'000, 10'000);
    plan.retire_every_ms = maybe_every(0.4, 6'000, 20'000);
    plan.destroy_every_ms = maybe_every(0.5, 6'000, 20'000);
  }
  plan.replace_delay_ms = dice.Between(3'000, 12'000);
  plan.move_pause_ms = dice.Between(200, 3'000);
  const uint64_t kind = dice.Below(8);
  if (kind == 0) LeaveAlone(&dice, &plan);
  if (kind == 1) MoveMuch(&dice, &plan);
  if (kind == 2) IsolateMuch(&dice, &plan);
  // Draws of its own: all other seeds stay what they were.
  sim::Dice stragglers(seed * 0xD1B54A32D192ED03ull + 1);
  const uint64_t straggling = stragglers.Below(12);
  if (straggling == 0) StallMuch(&stragglers, &plan);
  if (straggling == 1) RegisterMuch(&stragglers, &plan);
  if (straggling == 2) LoseMuch(&stragglers, &plan);
  return plan;
}

std::string Describe(const Plan& plan) {
  std::ostringstream text;
  text << plan.targets << " targets on " << plan.nodes << " nodes in " << plan.zones << " zones, " << plan.groups << " groups of " << plan.replicas << (plan.single_copies ? " and of 1, " : ", ") << plan.clients << " clients, lost " << plan.lost
       << ", twice " << plan.twice << ", late " << plan.very_late << ", clients late " << plan.clients_late << ", crash " << plan.crash_every_ms << " ms, restart "
       << plan.clean_restart_every_ms << ", cut " << plan.cut_every_ms << ", weigh " << plan.weigh_every_ms << ", add " << plan.add_every_ms << ", drain " << plan.drain_every_ms << ", retire " << plan.retire_every_ms
       << ", destroy " << plan.destroy_every_ms << ", leader " << plan.leader_change_every_ms << ", replace " << plan.replace_delay_ms << ", pause " << plan.move_pause_ms << ", fence " << plan.fence_every_ms
       << ", outage " << plan.outage_every_ms << ", lonely " << plan.lonely_every_ms << ", accident " << plan.accident_every_ms << ", full " << plan.full_every_ms << ", damage "
       << plan.damage_every_ms << ", stall " << plan.stall_every_ms << ", registration copies " << plan.registration_copies << ", sharing " << plan.sharing << ", cuts " << plan.cuts << ", lazy acks " << plan.lazy_acks << ", think " << plan.think_ms << ", chunks " << plan.chunks;
  return text.str();
}

}  // namespace tarn::sim_data
