// How libraft's list of members is changed and leadership handed over (raft_core.h), one step after the other, and what
// is known of the members meanwhile. No thread, no clock of its own: the replicator drives it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "metaserver/replication/leader_lease.h"
#include "metaserver/replication/replicator.h"

struct tarn_raft;

namespace tarn::meta {

// A change of the group or a transfer, asked for.
struct GroupChange {
  enum class Kind { kAdd, kPromote, kRemove, kTransfer };
  Kind kind = Kind::kAdd;
  uint64_t member = 0;
  std::string address;
  Replicator::Changed done;
};

// Whoever drives libraft calls it.
class GroupChanges {
 public:
  struct Options {
    uint64_t member_id = 0;
    uint32_t election_timeout_ms = 0;
  };
  // What came of a change: to be told where nothing of libraft is on the stack.
  using Answer = std::function<void(Replicator::Changed done, Status status)>;

  // `clock` and `lease` outlive it.
  GroupChanges(const Options& options, const Clock* clock, LeaderLease* lease, Answer answer)
      : options_(options), clock_(clock), lease_(lease), answer_(std::move(answer)) {}
  GroupChanges(const GroupChanges&) = delete;
  GroupChanges& operator=(const GroupChanges&) = delete;

  // Before anything else; null again before it is freed.
  void SetRaft(tarn_raft* raft) { raft_ = raft; }

  // libraft is to be settled after it.
  void Begin(GroupChange change);
  // libraft calls back.
  void OnChanged(int code);
  void OnTransferred();
  // After each step of libraft, and each tick.
  void StepTransfer();
  bool transferring() const { return transferring_; }
  // This member is not to stand for election: the one that it hands leadership to may still take over, and it would only
  // compete with that one.
  bool HandsOver() const { return transferring_ && clock_->MonotonicMs() < transfer_deadline_ms_; }
  // The server stops: what is under way is answered so.
  void Cancel();

  // Of a member something was heard; a new term begins.
  void Hear(uint64_t member) { heard_ns_[member] = clock_->MonotonicNs(); }
  void ForgetHeard() { heard_ns_.clear(); }
  // As of the newest configuration.
  std::vector<GroupMember> Members() const;
  // While this member leads.
  std::vector<MemberProgress> Progress() const;

 private:
  int BeginChange(const GroupChange& change, char* error);
  uint64_t ChooseSuccessor() const;
  void BeginTransfer(GroupChange change);
  void EndChange(const Status& status);

  const Options options_;
  const Clock* const clock_;
  LeaderLease* const lease_;
  const Answer answer_;
  tarn_raft* raft_ = nullptr;

  GroupChange change_;  // under way, if done is set
  bool change_added_ = false;
  bool transferring_ = false;
  bool transfer_started_ = false;  // libraft has been told, and has not given up
  uint64_t transfer_to_ = 0;
  int64_t transfer_deadline_ms_ = 0;
  Replicator::Changed transfer_done_;
  std::map<uint64_t, int64_t> heard_ns_;  // of each member, in this term
};

}  // namespace tarn::meta
