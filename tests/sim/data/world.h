// One run: targets with the real replication engine over simulated stores, the real planner and state of the metadata leader, clients, faults, and the checks. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "tests/sim/data/plan.h"

namespace tarn::sim_data {

struct Outcome {
  std::string violation;  // empty: none
  int64_t violation_ns = 0;
  uint64_t trace = 0;     // a hash over what happened: equal for two runs of one plan
  uint64_t events = 0;
  uint64_t writes = 0;    // acknowledged
  uint64_t reads = 0;     // checked
  uint64_t commits = 0;
  uint64_t sent_again = 0;  // writes of shared cells, after their primary had changed or begun anew
  uint64_t given_way = 0;   // of these: later bytes lay there
  uint64_t given_up = 0;    // of these: what became of it was not known
  uint64_t crashes = 0;
  uint64_t epochs = 0;
  uint64_t damages = 0;   // blocks of single copies
  uint64_t changes_of_leader = 0;
  uint64_t changes_of_fleet = 0;  // servers added, drained, retired
  uint64_t groups_given_up = 0;   // all disks with a current copy were lost
  uint64_t losses = 0;    // times all in-sync members of a group had crashed: what was not durable may be gone
};

using TraceListener = std::function<void(int64_t now_ns, const std::string& what)>;
Outcome RunWorld(const Plan& plan, const TraceListener& listener = nullptr);

}  // namespace tarn::sim_data
