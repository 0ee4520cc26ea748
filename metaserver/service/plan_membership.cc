#include "metaserver/service/plan_membership.h"

#include <algorithm>

namespace tarn::meta {
namespace {

// A learner that was not heard of for so long would only hold up the change.
constexpr int64_t kHeardMsMax = 2'000;
constexpr uint64_t kPromotionLagMax = 4'096;

using Kind = MembershipStep::Kind;

const MemberProgress* Find(const std::vector<MemberProgress>& progress, uint64_t member) {
  const auto found = std::ranges::find_if(progress, [&](const auto& each) { return each.member.member == member; });
  return found == progress.end() ? nullptr : &*found;
}

bool IsVoter(const std::vector<MemberProgress>& progress, uint64_t member) {
  const MemberProgress* found = Find(progress, member);
  return found != nullptr && found->member.role == MemberRole::kVoter;
}

bool HasCaughtUp(const MemberProgress& progress) {
  return progress.heard_ms_ago >= 0 && progress.heard_ms_ago <= kHeardMsMax && !progress.fetches_checkpoint &&
         progress.lag_entries <= kPromotionLagMax;
}

// The member whose place another one has taken; 0: none.
uint64_t FindReplaced(const proto::ClusterMap& map, const std::vector<MemberProgress>& progress) {
  for (const proto::MetaserverMember& newer : map.metaservers()) {
    if (!IsVoter(progress, newer.id())) continue;
    for (const proto::MetaserverMember& older : map.metaservers()) {
      if (older.id() >= newer.id()) continue;
      if (older.id() == newer.replaces() || older.address() == newer.address()) return older.id();
    }
  }
  return 0;
}

}  // namespace

std::optional<MembershipStep> PlanMembership(const proto::ClusterMap& map, const std::vector<MemberProgress>& progress,
                                             uint64_t self) {
  if (map.metaservers().empty()) return std::nullopt;
  const auto in_map = [&map](uint64_t member) {
    return std::ranges::any_of(map.metaservers(), [&](const auto& each) { return each.id() == member; });
  };
  if (const uint64_t replaced = FindReplaced(map, progress); replaced != 0)
    return MembershipStep{Kind::kForget, replaced};
  for (const MemberProgress& each : progress) {
    if (in_map(each.member.member)) continue;
    return MembershipStep{each.member.member == self ? Kind::kStepAside : Kind::kRemove, each.member.member};
  }
  for (const MemberProgress& each : progress) {
    if (each.member.role == MemberRole::kLearner && HasCaughtUp(each))
      return MembershipStep{Kind::kPromote, each.member.member};
  }
  for (const proto::MetaserverMember& member : map.metaservers()) {
    const MemberProgress* known = Find(progress, member.id());
    if (known == nullptr || known->member.role == MemberRole::kAdded)
      return MembershipStep{Kind::kAddLearner, member.id()};
  }
  return std::nullopt;
}

}  // namespace tarn::meta
