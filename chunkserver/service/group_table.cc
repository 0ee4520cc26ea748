#include "chunkserver/service/group_table.h"

#include <algorithm>

namespace tarn::chunk {

GroupTable::GroupTable(const proto::ClusterMap& map, TargetId target) : version_(map.version()), target_(target) {
  for (const proto::PlacementGroup& group : map.groups()) {
    const auto& members = group.targets();
    if (std::find(members.begin(), members.end(), target.value()) != members.end()) epochs_.emplace(GroupId(group.id()), Epoch(group.epoch()));
  }
  for (const proto::FencedSession& fenced : map.fenced_sessions()) fenced_.emplace(fenced.session());
}

GroupTable::Verdict GroupTable::Check(const proto::ChunkAddress& address) const {
  if (target_.valid() && address.target() != target_.value()) return Verdict::kWrongTarget;
  const auto found = epochs_.find(GroupId(address.group()));
  // A group that is not on this target by our map may be by a newer one.
  if (found == epochs_.end() || found->second < Epoch(address.epoch())) return Verdict::kTableIsOlder;
  return found->second == Epoch(address.epoch()) ? Verdict::kCurrent : Verdict::kRequestIsOlder;
}

}  // namespace tarn::chunk
