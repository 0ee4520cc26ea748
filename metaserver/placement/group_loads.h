// How heavily targets are loaded with placement groups, for their size: what rebalancing evens out.
//
// A group weighs what it holds, and a share that it has even while it is empty: half of what the average group holds,
// and 64 MiB at least. So where there is little data it is the numbers of groups that count, which decide where new data
// goes, and where there is much it is both, the bytes twice as much. Groups of each number of copies are looked at for
// themselves, since each volume uses one kind only.
//
// Immutable after construction; refers to what it was made from.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <utility>

#include "metaserver/placement/cluster_view.h"
#include "proto/cluster.pb.h"

namespace tarn::meta {

class GroupLoads {
 public:
  // The view and the facts outlive it.
  GroupLoads(const ClusterView& view, const ReplicationFacts& facts);

  // In bytes.
  double WeightOf(const proto::PlacementGroup& group) const;
  uint64_t BytesOf(uint32_t group) const;
  // What the target can hold, beside that of the average one; 1 if it is not known.
  double SizeOf(uint64_t target) const;
  // The weight of all groups of that many copies of which it is a member, in-sync or syncing, for its size.
  double LoadOf(uint64_t target, uint32_t replicas) const;
  // How much it would help if the target, a member of the group, were none: larger is better. Of a group that has just
  // been moved this is larger where it came from than where it went, also if one of them is much smaller.
  double ReliefOf(uint64_t target, const proto::PlacementGroup& group) const;

 private:
  const ReplicationFacts& facts_;
  std::map<uint32_t, double> base_weight_;  // by the number of copies
  std::unordered_map<uint64_t, double> sizes_;
  std::map<std::pair<uint64_t, uint32_t>, double> loads_;  // by target and number of copies; not divided by the size
};

}  // namespace tarn::meta
