// Runs seeds of the simulator of data replication (docs/simulator.md).
//
//   replication_sim --seeds N [--first S] [--plant NAME] [--trace] [--verbose]
// prints each seed that fails, and a line at the end; exit status 1 if any failed. --trace: prints what happens; --verbose: a line for each seed.
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <iostream>
#include <string_view>

#include "tests/sim/data/world.h"

namespace {

using tarn::sim_data::Outcome;
using tarn::sim_data::Plan;
using tarn::sim_data::Plant;

struct Arguments {
  uint64_t seeds = 1;
  uint64_t first = 1;
  Plant plant = Plant::kNone;
  bool trace = false;
  bool verbose = false;
};

bool Parse(int argc, char** argv, Arguments* arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const bool has_value = i + 1 < argc;
    if (word == "--seeds" && has_value) {
      arguments->seeds = std::strtoull(argv[++i], nullptr, 10);
    } else if (word == "--first" && has_value) {
      arguments->first = std::strtoull(argv[++i], nullptr, 10);
    } else if (word == "--plant" && has_value) {
      const std::string_view name = argv[++i];
      for (const Plant plant : tarn::sim_data::kPlants) {
        if (PlantName(plant) == name) arguments->plant = plant;
      }
      if (arguments->plant == Plant::kNone) return false;
    } else if (word == "--trace") {
      arguments->trace = true;
    } else if (word == "--verbose") {
      arguments->verbose = true;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (!Parse(argc, argv, &arguments)) {
    std::cerr << "usage: replication_sim --seeds N [--first S] [--plant NAME] [--trace] [--verbose]\nplants:";
    for (const Plant plant : tarn::sim_data::kPlants) std::cerr << " " << PlantName(plant);
    std::cerr << "\n";
    return 2;
  }
  spdlog::set_level(spdlog::level::off);
  uint64_t failed = 0;
  Outcome sum;
  for (uint64_t seed = arguments.first; seed < arguments.first + arguments.seeds; ++seed) {
    Plan plan = tarn::sim_data::DrawPlan(seed);
    plan.plant = arguments.plant;
    if (arguments.verbose || arguments.trace) std::cout << "seed " << seed << ": " << Describe(plan) << "\n";
    tarn::sim_data::TraceListener listener;
    if (arguments.trace) listener = [](int64_t now_ns, const std::string& what) { std::cout << now_ns / 1'000 << " us " << what << "\n"; };
    const Outcome outcome = RunWorld(plan, listener);
    if (arguments.verbose) {
      std::cout << "  trace " << std::hex << outcome.trace << std::dec << ", events " << outcome.events << ", writes " << outcome.writes << ", reads "
                << outcome.reads << ", commits " << outcome.commits << ", crashes " << outcome.crashes << ", epochs " << outcome.epochs << ", losses "
                << outcome.losses << std::endl;
    }
    sum.writes += outcome.writes;
    sum.reads += outcome.reads;
    sum.commits += outcome.commits;
    sum.sent_again += outcome.sent_again;
    sum.given_way += outcome.given_way;
    sum.given_up += outcome.given_up;
    sum.crashes += outcome.crashes;
    sum.epochs += outcome.epochs;
    sum.losses += outcome.losses;
    sum.damages += outcome.damages;
    sum.changes_of_leader += outcome.changes_of_leader;
    sum.changes_of_fleet += outcome.changes_of_fleet;
    sum.groups_given_up += outcome.groups_given_up;
    if (outcome.violation.empty()) continue;
    ++failed;
    std::cout << "seed " << seed << " FAILED after " << outcome.violation_ns / 1'000'000 << " ms: " << outcome.violation << std::endl;
  }
  std::cout << arguments.seeds << " seeds, " << failed << " failed, " << sum.writes << " acknowledged writes, " << sum.reads << " reads and "
            << sum.commits << " commits checked, " << sum.sent_again << " writes sent again (" << sum.given_way << " gave way, " << sum.given_up << " given up), " << sum.crashes << " crashes, " << sum.epochs << " epochs, " << sum.damages << " damaged blocks, "
            << sum.changes_of_leader << " changes of the leader, " << sum.changes_of_fleet << " servers added, drained or retired, " << sum.losses
            << " times all members had crashed, " << sum.groups_given_up << " groups given up\n";
  return failed == 0 ? 0 : 1;
}
