// One run: a cluster, its clients, the faults of its plan, and the judgement at the end.
//
// Phases: faults happen until the plan's time is over; then everything heals, clients finish what they have under way,
// and within kQuietTimeMax all members must hold the same state with every entry. That is also the check that the
// cluster comes back by itself.
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/sim/chunk_server.h"
#include "tests/sim/client.h"
#include "tests/sim/file_client.h"
#include "tests/sim/file_oracle.h"
#include "tests/sim/group_operator.h"
#include "tests/sim/member.h"
#include "tests/sim/network.h"
#include "tests/sim/oracle.h"
#include "tests/sim/plan.h"
#include "tests/sim/scheduler.h"

namespace tarn::sim {

struct Outcome {
  std::string violation;  // empty: none
  int64_t violation_ns = 0;
  uint64_t trace = 0;
  int64_t simulated_ns = 0;
  uint64_t events = 0;
  uint64_t entries = 0;
  uint64_t mutations = 0;
  uint64_t reads = 0;
  uint64_t remembered = 0;  // of those, answered by clients from what they remember
  uint64_t repeats = 0;  // commands that reached the log a second time
  uint64_t crashes = 0;
  uint64_t leaders = 0;
  uint64_t checkpoints = 0;
  uint64_t file_writes = 0;
  uint64_t file_looks = 0;
  uint64_t fenced = 0;  // sessions
  uint64_t operations_on_group = 0;  // of an operator, done
  uint64_t joins = 0;
};

using TraceListener = std::function<void(int64_t now_ns, std::string_view what, uint64_t a, uint64_t b)>;

// Runs the plan until its end or the first violation.
Outcome RunWorld(const Plan& plan, const TraceListener& listener = nullptr);

}  // namespace tarn::sim
