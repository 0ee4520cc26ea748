#include "chunkserver/service/group_table.h"

#include <algorithm>

namespace tarn::chunk {
namespace {

bool Contains(const google::protobuf::RepeatedField<uint64_t>& members, TargetId target) {
  return std::find(members.begin(), members.end(), target.value()) != members.end();
}

}  // namespace

GroupTable::GroupTable(const proto::ClusterMap& map, const std::vector<TargetId>& own) : version_(map.version()) {
  for (const TargetId target : own) {
    Epochs epochs;
    for (const proto::PlacementGroup& group : map.groups()) {
      if (Contains(group.targets(), target) || Contains(group.syncing_targets(), target)) {
        epochs.emplace(GroupId(group.id()), Epoch(group.epoch()));
      }
    }
    own_.emplace_back(target, std::move(epochs));
  }
  for (const proto::PlacementGroup& group : map.groups()) epochs_.emplace(group.id(), group.epoch());
  for (const proto::Target& target : map.targets()) addresses_.emplace(target.id(), target.address());
}

GroupTable::Verdict GroupTable::Check(TargetId target, GroupId group, Epoch epoch) const {
  // Not registered yet: any of the targets may turn out to be ours.
  if (version_ == 0) return Verdict::kTableIsOlder;
  const auto own = std::find_if(own_.begin(), own_.end(), [&](const auto& each) { return each.first == target; });
  if (own == own_.end()) return Verdict::kWrongTarget;
  const auto found = own->second.find(group);
  if (found != own->second.end() && found->second == epoch) return Verdict::kCurrent;
  // A group that is not on this target by our map may be by a newer one; but whoever asks by our map or an older one is told to look again,
  // without a question to the metadata server for each request.
  const auto known = epochs_.find(group);
  return known == epochs_.end() || known->second < epoch ? Verdict::kTableIsOlder : Verdict::kRequestIsOlder;
}

std::string GroupTable::AddressOf(TargetId target) const {
  const auto found = addresses_.find(target);
  return found == addresses_.end() ? std::string() : found->second;
}

}  // namespace tarn::chunk
