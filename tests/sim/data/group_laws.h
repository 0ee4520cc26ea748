// What no change of a placement group may do, whoever decided on it. Judged by what is true in the run, not by what the leader knows.
//
//   - epochs only rise, and lists change only with them; somebody is always in-sync; nobody is listed twice;
//   - who becomes in-sync was syncing, who becomes the primary was in-sync (but for what an operator gives up);
//   - nobody leaves the in-sync members who has its lease, by its own clock, and takes itself for the primary;
//   - who is well leaves only if enough others stay that are to keep their copies.
#pragma once

#include <cstdint>
#include <string>

#include "proto/cluster.pb.h"
#include "proto/metadata.pb.h"
#include "proto/state.pb.h"
#include "tests/sim/data/fleet.h"
#include "tests/sim/data/net.h"

namespace tarn::sim_data {

// One thread.
class GroupLaws {
 public:
  // Both outlive it.
  GroupLaws(Bench* bench, const Fleet* fleet) : bench_(bench), fleet_(fleet) {}

  // The entry made the map `after` of the map `before`.
  void Check(const proto::ClusterMap& before, const proto::ClusterMap& after, const proto::LogEntry& entry) const;

 private:
  void CheckStep(const proto::PlacementGroup& before, const proto::PlacementGroup& after) const;
  void CheckLeaving(const proto::ClusterMap& map, const proto::PlacementGroup& before, const proto::PlacementGroup& after, uint64_t member) const;
  void Break(const proto::PlacementGroup& group, const std::string& how) const;

  Bench* const bench_;
  const Fleet* const fleet_;
};

// It is to keep its copies, as the map says.
bool KeepsCopies(const proto::ClusterMap& map, uint64_t target);

}  // namespace tarn::sim_data
