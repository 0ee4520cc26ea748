// Chooses targets for copies: on nodes where the group has none, in other zones as far as possible, among targets that
// share groups already once there are enough of those, on the one with the fewest groups for its size.
//
// One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "metaserver/placement/cluster_view.h"

namespace tarn::meta {

class TargetChooser {
 public:
  // Knows the map's groups; the view outlives it.
  TargetChooser(const ClusterView& view, uint32_t partners_max);

  // Never one of `excluded`, nor one on a node of `others`, the members that stay. 0: there is none.
  // `only_with_lease`: a target that is away does not do.
  uint64_t Choose(const std::vector<uint64_t>& others, const std::set<uint64_t>& excluded, bool only_with_lease) const;
  // The group has these members now.
  void Note(const std::vector<uint64_t>& members, uint64_t added);

  uint32_t groups_of(uint64_t target) const;

 private:
  const ClusterView& view_;
  const uint32_t partners_max_;
  std::vector<uint64_t> candidates_;
  std::unordered_map<uint64_t, uint32_t> groups_;
  std::unordered_map<uint64_t, std::set<uint64_t>> partners_;
};

}  // namespace tarn::meta
