// Runs seeds of the simulator (docs/simulator.md).
//
//   run --seeds N [--seed FIRST] [--plant NAME] [--calm] [--group] [--trace] [--verbose]
// prints each seed that fails, and a line at the end; exit status 1 if any failed. --calm: without faults;
// --group: with changes of the group's members in every seed; --trace: prints everything that happens; --verbose: a line for each seed.
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>

#include "tests/sim/world.h"

namespace {

using tarn::sim::Outcome;
using tarn::sim::Plan;
using tarn::sim::Plant;

struct Arguments {
  uint64_t seeds = 1;
  uint64_t first = 1;
  Plant plant = Plant::kNone;
  bool trace = false;
  bool verbose = false;
  bool calm = false;
  bool group = false;
};

bool ParsePlant(std::string_view name, Plant* plant) {
  for (const Plant each : tarn::sim::kPlants) {
    if (tarn::sim::PlantName(each) != name) continue;
    *plant = each;
    return true;
  }
  return false;
}

bool Parse(int argc, char** argv, Arguments* arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const bool has_value = i + 1 < argc;
    if (word == "--seeds" && has_value) {
      arguments->seeds = std::strtoull(argv[++i], nullptr, 10);
    } else if (word == "--seed" && has_value) {
      arguments->first = std::strtoull(argv[++i], nullptr, 10);
    } else if (word == "--plant" && has_value) {
      if (!ParsePlant(argv[++i], &arguments->plant)) return false;
    } else if (word == "--trace") {
      arguments->trace = true;
    } else if (word == "--calm") {
      arguments->calm = true;
    } else if (word == "--group") {
      arguments->group = true;
    } else if (word == "--verbose") {
      arguments->verbose = true;
    } else {
      return false;
    }
  }
  return true;
}

Outcome RunSeed(uint64_t seed, const Arguments& arguments) {
  Plan plan = tarn::sim::DrawPlan(seed);
  plan.plant = arguments.plant;
  if (arguments.group) tarn::sim::DrawGroupChanges(&plan);
  if (arguments.calm) {
    const int64_t latency_ns = plan.faults.latency_ns;
    const int64_t sync_ns = plan.faults.sync_ns;
    plan.faults = tarn::sim::FaultPlan();
    plan.faults.latency_ns = latency_ns;
    plan.faults.sync_ns = sync_ns;
  }
  if (arguments.verbose || arguments.trace) std::cout << "seed " << seed << ": " << Describe(plan) << "\n";
  tarn::sim::TraceListener listener;
  if (arguments.trace) {
    listener = [](int64_t now_ns, std::string_view what, uint64_t a, uint64_t b) {
      std::cout << now_ns / 1000 << " us " << what << " " << a << " " << b << "\n";
    };
  }
  return tarn::sim::RunWorld(plan, listener);
}

void PrintOutcome(uint64_t seed, const Outcome& outcome) {
  std::cout << "seed " << seed << " trace " << std::hex << outcome.trace << std::dec << " simulated_ms "
            << outcome.simulated_ns / 1'000'000 << " events " << outcome.events << " entries " << outcome.entries
            << " mutations " << outcome.mutations << " reads " << outcome.reads << " repeats " << outcome.repeats
            << " crashes " << outcome.crashes << " leaders " << outcome.leaders << " checkpoints "
            << outcome.checkpoints << " file_writes " << outcome.file_writes << " file_looks " << outcome.file_looks
            << " fenced " << outcome.fenced << " joins " << outcome.joins << " group_operations "
            << outcome.operations_on_group << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (!Parse(argc, argv, &arguments)) {
    std::cerr << "usage: run --seeds N [--seed FIRST] [--plant NAME] [--calm] [--group] [--trace] [--verbose]\nplants:";
    for (const Plant plant : tarn::sim::kPlants) std::cerr << " " << tarn::sim::PlantName(plant);
    std::cerr << "\n";
    return 2;
  }
  spdlog::set_level(spdlog::level::off);
  uint64_t failed = 0;
  Outcome sum;
  for (uint64_t seed = arguments.first; seed < arguments.first + arguments.seeds; ++seed) {
    const Outcome outcome = RunSeed(seed, arguments);
    if (arguments.verbose) PrintOutcome(seed, outcome);
    sum.simulated_ns += outcome.simulated_ns;
    sum.mutations += outcome.mutations;
    sum.reads += outcome.reads;
    sum.remembered += outcome.remembered;
    sum.crashes += outcome.crashes;
    sum.repeats += outcome.repeats;
    sum.file_writes += outcome.file_writes;
    sum.file_looks += outcome.file_looks;
    sum.fenced += outcome.fenced;
    sum.joins += outcome.joins;
    sum.operations_on_group += outcome.operations_on_group;
    if (outcome.violation.empty()) continue;
    ++failed;
    std::cout << "seed " << seed << " FAILED after " << outcome.violation_ns / 1'000'000 << " ms: " << outcome.violation
              << std::endl;
  }
  std::cout << arguments.seeds << " seeds, " << failed << " failed, " << sum.simulated_ns / 1'000'000'000
            << " simulated seconds, " << sum.mutations << " mutations and " << sum.reads << " reads checked (" << sum.remembered << " from clients' caches), "
            << sum.repeats << " repeats in logs, " << sum.crashes << " crashes, " << sum.file_writes << " file writes and "
            << sum.file_looks << " looks at files, " << sum.fenced << " fenced sessions, " << sum.operations_on_group << " operations on the group, " << sum.joins << " joins\n";
  return failed == 0 ? 0 : 1;
}
