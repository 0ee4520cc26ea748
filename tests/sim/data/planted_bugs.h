// Plants a bug around the engine (plan.h lists them), to show that the checks can fail.
#pragma once

#include "chunkserver/replication/testing/fake_network.h"
#include "tests/sim/data/fleet.h"
#include "tests/sim/data/leader.h"
#include "tests/sim/data/plan.h"

namespace tarn::sim_data {

// Everything outlives the network. Some plants sit in Server, Client and Leader.
void PlantBug(Plant plant, replication::testing::FakeNetwork* peers, Fleet* fleet, Leader* leader);
// Plant::kPromoteEarly: what the leader proposes now and then, a syncing member in-sync.
proto::Mutation PlantMutation(const Leader& leader, sim::Dice* dice);

}  // namespace tarn::sim_data
