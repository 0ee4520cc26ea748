// Plants a bug around the engine (plan.h lists them), to show that the checks can fail.
#pragma once

#include <map>
#include <memory>

#include "chunkserver/replication/testing/fake_network.h"
#include "tests/sim/data/leader.h"
#include "tests/sim/data/plan.h"
#include "tests/sim/data/server.h"

namespace tarn::sim_data {

// Everything outlives the network. Some plants sit in Server and Leader.
void PlantBug(Plant plant, replication::testing::FakeNetwork* peers, std::map<TargetId, std::unique_ptr<Server>>* servers, Leader* leader);

}  // namespace tarn::sim_data
