#include "metaserver/replication/group_changes.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "metaserver/replication/raft_core.h"

namespace tarn::meta {
namespace {

GroupMember MemberAt(const tarn_raft* raft, unsigned i) {
  const tarn_raft_member member = tarn_raft_member_at(raft, i);
  const MemberRole role = member.role == TARN_RAFT_VOTER   ? MemberRole::kVoter
                          : member.role == TARN_RAFT_SPARE ? MemberRole::kAdded
                                                           : MemberRole::kLearner;
  return {.member = member.id, .address = member.address, .role = role};
}

Status StatusOfCode(int code, const char* text) {
  if (tarn_raft_is_not_leader(code)) return Status(StatusCode::kNotLeader, text);
  if (tarn_raft_is_busy(code)) return Status(StatusCode::kBusy, text);
  if (tarn_raft_is_duplicate(code)) return Status(StatusCode::kExists, text);
  if (tarn_raft_is_unknown_member(code)) return Status(StatusCode::kNotFound, text);
  if (tarn_raft_is_no_connection(code)) return Status(StatusCode::kTimeout, "the learner did not catch up");
  return Status(StatusCode::kInternal, text);
}

// libraft's role of a member; nullopt: no member.
std::optional<int> RoleOf(const tarn_raft* raft, uint64_t id) {
  for (unsigned i = 0; i < tarn_raft_member_count(raft); ++i) {
    const tarn_raft_member member = tarn_raft_member_at(raft, i);
    if (member.id == id) return member.role;
  }
  return std::nullopt;
}

// A hand-over takes two writes of a vote, one after the other, and neither is bounded by the election time-out on a
// busy disk. Nothing is proposed meanwhile, so it must end.
constexpr int64_t kTransferElectionTimeouts = 6;

}  // namespace

void GroupChanges::Begin(GroupChange change) {
  if (change.kind == GroupChange::Kind::kTransfer) {
    BeginTransfer(std::move(change));
    return;
  }
  std::array<char, TARN_RAFT_ERROR_BYTES> error{};
  if (const int code = BeginChange(change, error.data()); code != 0) {
    answer_(std::move(change.done), StatusOfCode(code, error.data()));
    return;
  }
  change_ = std::move(change);
}

int GroupChanges::BeginChange(const GroupChange& change, char* error) {
  if (change.kind == GroupChange::Kind::kPromote) return tarn_raft_assign(raft_, change.member, TARN_RAFT_VOTER, error);
  if (change.kind == GroupChange::Kind::kRemove) return tarn_raft_remove(raft_, change.member, error);
  // An earlier attempt may have got half-way: libraft adds members that get nothing yet.
  change_added_ = RoleOf(raft_, change.member) == TARN_RAFT_SPARE;
  return change_added_ ? tarn_raft_assign(raft_, change.member, TARN_RAFT_STANDBY, error)
                       : tarn_raft_add(raft_, change.member, change.address.c_str(), error);
}

// ---- Handing over leadership ----

// Other than this one; the one with the longest log among those heard of lately. 0: none.
uint64_t GroupChanges::ChooseSuccessor() const {
  uint64_t best = 0;
  std::pair<bool, uint64_t> best_rank;
  for (unsigned i = 0; i < tarn_raft_member_count(raft_); ++i) {
    const tarn_raft_member member = tarn_raft_member_at(raft_, i);
    if (member.id == options_.member_id || member.role != TARN_RAFT_VOTER) continue;
    const auto heard = heard_ns_.find(member.id);
    const bool lately = heard != heard_ns_.end() &&
                        clock_->MonotonicNs() - heard->second < int64_t{options_.election_timeout_ms} * 1'000'000;
    const std::pair<bool, uint64_t> rank{lately, tarn_raft_progress_at(raft_, i).match_index};
    if (best != 0 && rank <= best_rank) continue;
    best = member.id;
    best_rank = rank;
  }
  return best;
}

void GroupChanges::BeginTransfer(GroupChange change) {
  Status refused;
  const uint64_t to = change.member != 0 || !tarn_raft_leads(raft_) ? change.member : ChooseSuccessor();
  if (!tarn_raft_leads(raft_)) {
    refused = Status(StatusCode::kNotLeader, "this member does not lead");
  } else if (transferring_) {
    refused = Status(StatusCode::kBusy, "leadership is being handed over already");
  } else if (to == options_.member_id || RoleOf(raft_, to) != TARN_RAFT_VOTER) {
    refused = Status(StatusCode::kNotFound, "no other member with a vote to hand leadership to");
  }
  if (!refused.ok()) {
    answer_(std::move(change.done), std::move(refused));
    return;
  }
  // From here on nobody may read on the strength of the lease: the other member need not wait for its end.
  transferring_ = true;
  transfer_started_ = false;
  lease_->Suspend();
  transfer_to_ = to;
  transfer_done_ = std::move(change.done);
  transfer_deadline_ms_ = clock_->MonotonicMs() + kTransferElectionTimeouts * options_.election_timeout_ms;
  StepTransfer();
}

// libraft gives its order once, perhaps before the other member has the whole log, and then it is ignored. So nothing
// new is proposed, and the order waits until the other one has everything. libraft also gives up after one election
// time-out, though the order may be lost or the other one's vote still be on its way to the disk: then it is given
// again (one that stands for election already ignores it) until the deadline. The lease stays dropped all the time.
void GroupChanges::StepTransfer() {
  if (!transferring_ || transfer_started_) return;
  const bool late = clock_->MonotonicMs() >= transfer_deadline_ms_;
  if (!tarn_raft_leads(raft_)) {
    // Stepped down between two orders: who follows will be known soon.
    if (late || tarn_raft_leader(raft_) != 0) OnTransferred();
    return;
  }
  bool ready = false;
  for (unsigned i = 0; i < tarn_raft_member_count(raft_); ++i) {
    if (tarn_raft_member_at(raft_, i).id != transfer_to_) continue;
    ready = tarn_raft_progress_at(raft_, i).match_index == tarn_raft_last_index(raft_);
  }
  if (!ready) {
    if (late) OnTransferred();
    return;
  }
  std::array<char, TARN_RAFT_ERROR_BYTES> error{};
  transfer_started_ = tarn_raft_transfer(raft_, transfer_to_, error.data()) == 0;
  if (!transfer_started_) OnTransferred();
}

void GroupChanges::OnChanged(int code) {
  if (code == 0 && change_.kind == GroupChange::Kind::kAdd && !change_added_) {
    change_added_ = true;
    std::array<char, TARN_RAFT_ERROR_BYTES> error{};
    code = tarn_raft_assign(raft_, change_.member, TARN_RAFT_STANDBY, error.data());
    if (code == 0) return;
  }
  EndChange(code == 0 ? Status::Ok() : StatusOfCode(code, "the change of the group failed"));
}

void GroupChanges::EndChange(const Status& status) {
  if (change_.done) answer_(std::exchange(change_.done, nullptr), status);
}

void GroupChanges::OnTransferred() {
  const bool leads = tarn_raft_leads(raft_);
  if (leads && transfer_started_ && clock_->MonotonicMs() < transfer_deadline_ms_) {
    transfer_started_ = false;
    return;
  }
  transferring_ = false;
  lease_->Resume();
  if (!transfer_done_) return;
  // Not leader_: libraft tells of the end of the transfer before it tells who leads.
  const uint64_t leader = tarn_raft_leader(raft_);
  Status status;
  if (leads) {
    status = Status(StatusCode::kTimeout, "the other member did not take over");
  } else if (leader == 0) {
    status = Status(StatusCode::kTimeout, "nobody has taken over yet");
  } else if (leader != transfer_to_) {
    status = Status(StatusCode::kUnavailable, "another member took over: " + std::to_string(leader));
  }
  answer_(std::exchange(transfer_done_, nullptr), status);
}

void GroupChanges::Cancel() {
  const Status status(StatusCode::kCancelled, "the server stops");
  EndChange(status);
  if (transfer_done_) answer_(std::exchange(transfer_done_, nullptr), status);
}

// ---- What is known ----

std::vector<GroupMember> GroupChanges::Members() const {
  std::vector<GroupMember> members;
  for (unsigned i = 0; i < tarn_raft_member_count(raft_); ++i) members.push_back(MemberAt(raft_, i));
  return members;
}

std::vector<MemberProgress> GroupChanges::Progress() const {
  std::vector<MemberProgress> progress;
  const uint64_t last_index = tarn_raft_last_index(raft_);
  const int64_t now_ns = clock_->MonotonicNs();
  for (unsigned i = 0; i < tarn_raft_member_count(raft_); ++i) {
    const tarn_raft_progress known = tarn_raft_progress_at(raft_, i);
    MemberProgress one;
    one.member = MemberAt(raft_, i);
    one.lag_entries = last_index - std::min(last_index, known.match_index);
    one.fetches_checkpoint = known.needs_snapshot;
    if (one.member.member != options_.member_id) {
      const auto heard = heard_ns_.find(one.member.member);
      one.heard_ms_ago = heard == heard_ns_.end() ? -1 : (now_ns - heard->second) / 1'000'000;
    }
    progress.push_back(std::move(one));
  }
  return progress;
}

}  // namespace tarn::meta
