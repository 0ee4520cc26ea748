// The cluster map and what is known of its targets, indexed for the planners.
//
// Immutable after construction; refers to what it was made from.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "proto/cluster.pb.h"

namespace tarn::meta {

// What the leader knows of a target beyond the map.
struct TargetFacts {
  bool lease_over = false;   // it neither reads nor writes for anybody
  int64_t silent_ms = 0;     // since it was heard of last
  uint64_t map_version = 0;  // that its server has adopted, as far as it has told
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;
  uint64_t available_bytes = 0;
};

struct ReplicationFacts {
  std::unordered_map<uint64_t, TargetFacts> targets;  // by id
  // The map version with which a group got its epoch; absent: the first that is known.
  std::unordered_map<uint32_t, uint64_t> epoch_since;
  std::unordered_map<uint32_t, uint64_t> group_bytes;  // what one copy of a group holds, where it was measured
  int64_t quiet_ms = 0;  // since anything was missing anywhere, or a server registered
};

class ClusterView {
 public:
  // Both outlive the view.
  ClusterView(const proto::ClusterMap& map, const ReplicationFacts& facts);

  const proto::ClusterMap& map() const { return map_; }
  const proto::Target* Find(uint64_t target) const;
  // Zeros if nothing is known.
  const TargetFacts& Facts(uint64_t target) const;
  // It answers. A new leader knows of no lease that is over, but the map says who was offline: neither is said of such a
  // target until it is heard of, or its time is up.
  bool HasLease(uint64_t target) const;
  bool LeaseOver(uint64_t target) const;
  bool IsFailed(uint64_t target) const;
  bool IsRetired(uint64_t target) const;
  bool IsDraining(uint64_t target) const;
  // Durable, and neither failed, retired nor draining.
  bool TakesCopies(uint64_t target) const;
  // The same, and it has its lease: a copy there counts.
  bool Counts(uint64_t target) const { return TakesCopies(target) && HasLease(target); }
  // Its server knows that the group has the epoch it has: it does not take itself for an earlier epoch's primary.
  bool KnowsEpoch(uint64_t target, const proto::PlacementGroup& group) const;
  // A server that named no node is one of its own.
  const std::string& Node(uint64_t target) const;
  const std::string& Zone(uint64_t target) const;
  // Of what it may hold; 0 if the capacity is not known.
  double UsedShare(uint64_t target) const;

 private:
  const proto::ClusterMap& map_;
  const ReplicationFacts& facts_;
  std::unordered_map<uint64_t, const proto::Target*> targets_;
  std::unordered_map<uint64_t, std::string> nodes_;
};

std::string NodeOf(const proto::Target& target);

}  // namespace tarn::meta
