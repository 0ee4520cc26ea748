#include "metaserver/service/group_keeper.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <span>
#include <utility>

#include "metaserver/service/plan_membership.h"

namespace tarn::meta {
namespace {

constexpr int64_t kPauseAfterFailureMs = 1'000;
constexpr int64_t kSilentMsMax = 3'000;

size_t CountVoters(const std::vector<MemberProgress>& progress) {
  return static_cast<size_t>(std::ranges::count_if(
      progress, [](const MemberProgress& each) { return each.member.role == MemberRole::kVoter; }));
}

}  // namespace

bool JudgeGroup(const std::vector<MemberProgress>& progress, std::vector<std::string>* problems) {
  bool degraded = false;
  for (const MemberProgress& each : progress) {
    const std::string name = "metadata server " + std::to_string(each.member.member);
    const bool silent = each.heard_ms_ago < 0 || each.heard_ms_ago > kSilentMsMax;
    if (each.member.role == MemberRole::kVoter && silent) {
      degraded = true;
      problems->push_back(name + " does not answer");
    } else if (each.member.role != MemberRole::kVoter) {
      problems->push_back(
          name + (silent ? " is to join and does not answer" : " joins: it has no vote before it has caught up"));
    }
  }
  const size_t voters = CountVoters(progress);
  if (voters % 2 == 0 && voters > 0) {
    problems->push_back(std::to_string(voters) + " metadata servers vote: an even number bears no more failures than " +
                        std::to_string(voters - 1));
  }
  return degraded;
}

void GroupKeeper::Step() {
  if (busy_.load(std::memory_order_acquire) || !context_->replicator->HoldsLease()) return;
  const int64_t now_ns = context_->clock->MonotonicNs();
  if (failed_.exchange(false)) not_before_ns_ = now_ns + kPauseAfterFailureMs * 1'000'000;
  if (now_ns < not_before_ns_ || context_->state->header().cluster_id().empty()) return;
  if (!RecordAddresses()) FollowMap();
}

bool GroupKeeper::RecordAddresses() {
  const SelfDescription& self = context_->self;
  const auto map = context_->state->cluster_map();
  proto::SetMetaserversOp op;
  const proto::MetaserverMember* known = FindMetaserver(*map, self.member_id);
  // A leader that the map of others does not have is being removed.
  const bool is_first = map->metaservers().empty();
  const bool has_moved =
      known != nullptr && (known->address() != self.address || known->grpc_address() != self.grpc_address);
  if (is_first || has_moved) {
    proto::MetaserverMember* member = op.add_members();
    member->set_id(self.member_id);
    member->set_address(self.address);
    member->set_grpc_address(self.grpc_address);
  }
  for (const proto::MetaserverMember& moved : context_->members->Moved()) {
    if (moved.id() != self.member_id) *op.add_members() = moved;
  }
  if (op.members().empty()) return false;
  for (const proto::MetaserverMember& member : op.members())
    spdlog::info("metadata server is at member={} address={}", member.id(), member.address());
  Propose(std::move(op), "record the addresses of metadata servers");
  return true;
}

void GroupKeeper::FollowMap() {
  const auto progress = context_->replicator->Progress();
  if (!progress.ok()) return;
  const size_t voters = CountVoters(*progress);
  if (voters % 2 == 0 && voters != std::exchange(warned_voters_, voters)) {
    spdlog::warn("{} metadata servers vote: an even number bears no more failures than {}", voters, voters - 1);
  }
  warned_voters_ = voters;
  const auto step = PlanMembership(*context_->state->cluster_map(), *progress, context_->self.member_id);
  if (!step) return;
  const std::string name = "metadata server " + std::to_string(step->member);
  switch (step->kind) {
    case MembershipStep::Kind::kForget: {
      spdlog::info("metadata server is replaced member={}", step->member);
      proto::SetMetaserversOp op;
      op.add_removed(step->member);
      return Propose(std::move(op), "forget " + name);
    }
    case MembershipStep::Kind::kRemove:
      busy_.store(true, std::memory_order_release);
      return context_->replicator->RemoveMember(step->member, OnChanged("remove " + name));
    case MembershipStep::Kind::kStepAside:
      busy_.store(true, std::memory_order_release);
      return context_->replicator->TransferLeadership(0, OnChanged("hand over leadership before this member goes"));
    case MembershipStep::Kind::kPromote:
      busy_.store(true, std::memory_order_release);
      return context_->replicator->PromoteMember(step->member, OnChanged("give a vote to " + name));
    case MembershipStep::Kind::kAddLearner:
      busy_.store(true, std::memory_order_release);
      return context_->replicator->AddMember(step->member, MemberName(step->member), OnChanged("add " + name));
  }
}

void GroupKeeper::Propose(proto::SetMetaserversOp op, std::string what) {
  busy_.store(true, std::memory_order_release);
  std::vector<proto::Mutation> mutations(1);
  *mutations[0].mutable_set_metaservers() = std::move(op);
  context_->proposer->Submit(std::move(mutations), [done = OnChanged(std::move(what))](
                                                       const Status& status, std::span<proto::MutationReply> replies) {
    if (!status.ok()) return done(status);
    done(replies[0].status() == 0 ? Status::Ok()
                                  : Status(static_cast<StatusCode>(replies[0].status()), replies[0].message()));
  });
}

Replicator::Changed GroupKeeper::OnChanged(std::string what) {
  return [this, what = std::move(what)](const Status& status) {
    if (status.ok()) {
      spdlog::info("done: {}", what);
    } else if (context_->replicator->HoldsLease()) {  // else it is for the next leader
      spdlog::warn("cannot {}: {}", what, status.ToString());
    }
    if (!status.ok()) failed_.store(true);
    busy_.store(false, std::memory_order_release);
  };
}

}  // namespace tarn::meta
