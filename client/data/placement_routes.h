// Which chunk servers to ask for a chunk: the cluster map, indexed.
//
// Immutable after construction.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
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

struct GroupMember {
  TargetId target;
  std::string address;  // empty: the map does not say (yet)
  std::string node;
};

// Who may be asked for the chunks of a group in this epoch.
struct GroupRoute {
  GroupId group;
  Epoch epoch;
  std::vector<GroupMember> members;  // the in-sync ones, the primary first; never empty

  const GroupMember& primary() const { return members.front(); }
};

// Where one request goes.
struct Route {
  GroupId group;
  Epoch epoch;
  TargetId target;
  std::string address;
};

class PlacementRoutes {
 public:
  explicit PlacementRoutes(const proto::ClusterMap& map);

  uint64_t map_version() const { return map_version_; }
  uint32_t map_incarnation() const { return map_incarnation_; }
  const std::string& cluster_id() const { return cluster_id_; }

  // kUnavailable, saying what the map lacks, if it does not (yet) name the group set or a member of the group. The
  // answer lives as long as this object.
  Result<const GroupRoute*> OfColumn(const FileLayout& layout, uint32_t column) const;
  // To the primary; kUnavailable also if its address is not known.
  Result<Route> ToPrimary(const FileLayout& layout, uint32_t column) const;
  // Where a target is served now; group and epoch are not set.
  Result<Route> OfTarget(TargetId target) const;
  // False also for a group that the map does not name.
  bool IsPrimary(TargetId target, GroupId group) const;
  // The process that serves a target; nullopt if the map does not name the target.
  std::optional<Incarnation> IncarnationOf(TargetId target) const;
  // Servers of durable targets that may pass a request on to the one at this address, the likeliest first: those that
  // are in a group with it must reach it themselves. Else in an order that spreads clients (`spread`).
  std::vector<std::string> RelaysTo(const std::string& address, uint64_t spread) const;

  bool has_elastic() const { return !elastic_.empty(); }
  // The elastic target to be asked for a chunk: the one on this node, else the chunk's home. Null: there is none. The
  // answer lives as long as this object.
  const GroupMember* ElasticFor(ChunkId chunk, const std::string& node) const;

  // Addresses of servers that were asked as the primary of a group by these routes, and are not by the newer ones.
  std::vector<std::string> AddressesLeftBy(const PlacementRoutes& newer) const;

 private:
  uint64_t map_version_ = 0;
  uint32_t map_incarnation_ = 0;
  std::string cluster_id_;
  std::unordered_map<GroupSetVersion, std::vector<GroupId>> group_sets_;
  std::unordered_map<GroupId, GroupRoute> groups_;
  std::unordered_map<TargetId, std::string> addresses_;
  std::unordered_map<TargetId, Incarnation> incarnations_;
  std::vector<std::string> durable_addresses_;  // of servers that are not known to be gone; each once, in order
  std::vector<GroupMember> elastic_;  // those online
  std::vector<TargetId> elastic_ids_;
  std::unordered_map<std::string, std::vector<size_t>> elastic_of_node_;
};

}  // namespace tarn::client
