// Which chunk server to ask for a chunk: the cluster map, indexed.
//
// Immutable after construction.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/layout/layout.h"

namespace tarn::proto {
class ClusterMap;
}

namespace tarn::client {

struct Route {
  GroupId group;
  Epoch epoch;
  TargetId target;  // the group's primary
  std::string address;
};

class PlacementRoutes {
 public:
  explicit PlacementRoutes(const proto::ClusterMap& map);

  uint64_t map_version() const { return map_version_; }
  const std::string& cluster_id() const { return cluster_id_; }

  // kUnavailable, saying what the map lacks, if it does not (yet) name the group set, the group or its target.
  Result<Route> OfColumn(const FileLayout& layout, uint32_t column) const;
  // Where a target is served now; group and epoch are not set.
  Result<Route> OfTarget(TargetId target) const;

 private:
  struct Group {
    Epoch epoch;
    TargetId primary;
  };

  uint64_t map_version_ = 0;
  std::string cluster_id_;
  std::unordered_map<GroupSetVersion, std::vector<GroupId>> group_sets_;
  std::unordered_map<GroupId, Group> groups_;
  std::unordered_map<TargetId, std::string> addresses_;
};

}  // namespace tarn::client
