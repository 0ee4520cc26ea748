// The operator of a metadata group whose members change: adds servers, removes them, replaces one whose disk was lost,
// hands leadership over, stops the leader; one thing at a time, through any member that he can reach, and again until he
// is answered, as the command line does it.
//
// Fault model: questions and answers are lost, late and repeated like all messages, so that what he asks for may be in
// force although he was not answered. A disk is lost only while all that vote have theirs, know the same group and have
// done so for a while: so never more than one at a time.
//
// What is checked: what he was answered is in force, once; in the end the group has the members that it should have.
// One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "tests/sim/member.h"

namespace tarn::sim {

class GroupOperator {
 public:
  explicit GroupOperator(Cluster* cluster) : cluster_(cluster) {}
  GroupOperator(const GroupOperator&) = delete;
  GroupOperator& operator=(const GroupOperator&) = delete;

  void Start();
  // Nothing new is begun; what is under way is brought to its end.
  void EndFaults() { ended_ = true; }
  // Empty: the group is as it should be, and rests.
  std::string WhatIsWrong() const;
  uint64_t done() const { return done_; }

 private:
  using Then = std::function<void(const GroupAnswer&)>;

  Dice& dice() { return *cluster_->group_dice; }
  Member& machine(uint64_t number) const { return *(*cluster_->members)[number - 1]; }
  void Next();
  void Act();
  void Add();
  void Remove();
  void ReplaceLost();
  void Transfer();
  void StopLeader();
  // Asks until it is answered otherwise than by a member that does not lead; then it goes on with the answer.
  void Ask(GroupQuestion question, Then then);
  void Attempt(const std::shared_ptr<GroupQuestion>& question, const Then& then, uint64_t number);
  void Done(const char* what);
  void JoinWhenEmpty(uint64_t number, uint64_t replaces);
  // Until the group has this machine's server with a vote, and none under `gone` (0: none).
  void WaitForVote(uint64_t number, uint64_t gone);
  void WaitUntilGone(uint64_t id);
  // All that should be in the group run, vote, and know the same group.
  std::string Unrest() const;
  // A machine that is not wanted; 0: none.
  uint64_t DrawIdle();
  uint64_t DrawWanted();

  Cluster* const cluster_;
  std::set<uint64_t> wanted_;  // machines
  uint64_t begun_at_ = 1;      // the machine that was asked last
  bool busy_ = false;
  bool ended_ = false;
  int64_t changed_ns_ = 0;
  uint64_t done_ = 0;
};

}  // namespace tarn::sim
