#include "metaserver/service/service_context.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "metaserver/service/reply_faults.h"

namespace tarn::meta {
namespace {

constexpr int64_t kSilentMsMax = 3'000;

}  // namespace

Status ServiceContext::CheckLease() const {
  if (serving.load(std::memory_order_acquire) && replicator->HoldsLease()) return Status::Ok();
  return Status(StatusCode::kNotLeader, "this metadata server does not lead (yet)");
}

Result<proto::MutationReply> ServiceContext::SubmitForAnswer(proto::Mutation mutation) const {
  std::vector<ReplyFaults::Subject> subjects;
  if (reply_faults != nullptr) subjects = reply_faults->Note({&mutation, 1});
  Result<proto::MutationReply> reply = proposer->SubmitAndWait(std::move(mutation));
  // A refusal is committed, too, but nobody can tell it from what never came so far.
  if (reply.ok() && !subjects.empty()) RETURN_IF_ERROR(reply_faults->MeddleBlocking(subjects));
  return reply;
}

proto::MetaserverMember ServiceContext::Leader() const {
  if (!serving.load(std::memory_order_acquire)) return {};
  const uint64_t leader = replicator->leader_member();
  if (leader == 0) return {};
  // Itself, without the lease: it is only about to lead, or has just lost it. A client is to look around, not to insist.
  if (leader == self.member_id && !replicator->HoldsLease()) return {};
  if (leader != self.member_id) return members->Find(leader);
  proto::MetaserverMember member;
  DescribeSelf(&member);
  return member;
}

void ServiceContext::DescribeSelf(proto::MetaserverMember* member) const {
  member->set_id(self.member_id);
  member->set_address(self.address);
  member->set_grpc_address(self.grpc_address);
  member->set_pid(self.pid);
  member->set_applied_entries(state->applied_entries());
  member->set_heard_ns(clock->WallNs());
}

void ServiceContext::FillMetaservers(google::protobuf::RepeatedPtrField<proto::MetaserverMember>* metaservers) const {
  metaservers->Clear();
  const uint64_t leader = replicator->leader_member();
  const std::vector<GroupMember> group = replicator->members();
  const auto progress = replicator->Progress();
  const auto map = state->cluster_map();
  for (const proto::MetaserverMember& in_map : map->metaservers()) {
    proto::MetaserverMember* member = metaservers->Add();
    *member = members->Find(in_map.id());
    member->clear_nonce();
    member->set_role("learner");
    for (const GroupMember& each : group) {
      if (each.member == in_map.id() && each.role == MemberRole::kVoter)
        member->set_role(each.member == leader ? "leader" : "follower");
    }
    if (in_map.id() == self.member_id) DescribeSelf(member);
    if (!progress.ok() || in_map.id() == self.member_id) continue;
    for (const MemberProgress& each : *progress) {
      if (each.member.member != in_map.id()) continue;
      member->set_applied_entries(state->applied_entries() - std::min(each.lag_entries, state->applied_entries()));
      if (each.heard_ms_ago >= 0 && each.heard_ms_ago <= kSilentMsMax) continue;
      member->set_role("unknown");
      member->clear_pid();
    }
  }
  if (!metaservers->empty()) return;
  // The first leader has not recorded itself yet.
  proto::MetaserverMember* alone = metaservers->Add();
  DescribeSelf(alone);
  alone->set_role(leader == self.member_id ? "leader" : "unknown");
}

proto::ClusterMap ServiceContext::LiveMap() const {
  proto::ClusterMap map = *state->cluster_map();
  servers->FillUsage(&map);
  FillMetaservers(map.mutable_metaservers());
  return map;
}

Result<proto::ClusterMap> ServiceContext::MapOfUsedGroups() const {
  proto::ClusterMap map = *state->cluster_map();
  proto::ListVolumesReply volumes;  // those that are being deleted as well
  RETURN_IF_ERROR(state->ListVolumes(&volumes));
  auto* groups = map.mutable_groups();
  groups->erase(std::remove_if(groups->begin(), groups->end(),
                               [&](const proto::PlacementGroup& group) {
                                 return std::ranges::find(volumes.volumes(), group.replicas(),
                                                          &proto::Volume::replicas) == volumes.volumes().end();
                               }),
                groups->end());
  return map;
}

Status ServiceContext::ListVolumes(proto::ListVolumesReply* reply) const {
  RETURN_IF_ERROR(state->ListVolumes(reply));
  auto* volumes = reply->mutable_volumes();
  volumes->erase(
      std::remove_if(volumes->begin(), volumes->end(), [](const proto::Volume& volume) { return volume.deleting(); }),
      volumes->end());
  return Status::Ok();
}

}  // namespace tarn::meta
