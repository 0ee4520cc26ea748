#include "tests/sim/group_operator.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/check.h"

namespace tarn::sim {
namespace {

constexpr int64_t kPollNs = 100 * kMillisecond;
constexpr int64_t kQuestionTimeoutNs = 700 * kMillisecond;
// Since the group was last changed, before a disk may be lost: longer than any write takes.
constexpr int64_t kSettledNs = 3 * kSecond;
constexpr Endpoint kOperator = kFirstOperator;

bool IsSilence(StatusCode code) {
  return code == StatusCode::kUnavailable || code == StatusCode::kTimeout || code == StatusCode::kResourceExhausted;
}

}  // namespace

void GroupOperator::Start() {
  wanted_.insert(1);
  machine(1).BeginGroup();
  Next();
}

void GroupOperator::Next() {
  const int64_t interval_ns = cluster_->plan->operate_interval_ns;
  const bool growing = wanted_.size() < cluster_->plan->group_size;
  const int64_t pause_ns = dice().Between(interval_ns / 4, interval_ns * 7 / 4) / (growing ? 4 : 1);
  cluster_->scheduler->After(pause_ns, [this] {
    if (!ended_ && !busy_) Act();
    if (!ended_) Next();
  });
}

void GroupOperator::Act() {
  const uint64_t kind = dice().Below(100);
  if (wanted_.size() < cluster_->plan->group_size && kind < 70) return Add();
  if (kind < 15) return Add();
  if (kind < 35) return Remove();
  if (kind < 60) return ReplaceLost();
  if (kind < 80) return Transfer();
  StopLeader();
}

void GroupOperator::Done(const char* what) {
  cluster_->scheduler->Trace(what);
  ++done_;
  busy_ = false;
  changed_ns_ = cluster_->scheduler->now_ns();
}

// ---- Questions ----

void GroupOperator::Ask(GroupQuestion question, Then then) {
  Attempt(std::make_shared<GroupQuestion>(std::move(question)), then, begun_at_);
}

void GroupOperator::Attempt(const std::shared_ptr<GroupQuestion>& question, const Then& then, uint64_t number) {
  const auto answered = std::make_shared<bool>(false);
  begun_at_ = number;
  const uint64_t next = number % cluster_->members->size() + 1;
  cluster_->network->Send(kOperator, number, "question", [=, this, asked = *question] {
    machine(number).ReceiveQuestion(asked, [=, this](const GroupAnswer& answer) {
      cluster_->network->Send(number, kOperator, "question answered", [=, this] {
        if (std::exchange(*answered, true)) return;
        const StatusCode code = answer.status.code();
        if (code == StatusCode::kNotLeader || IsSilence(code)) {
          if (IsSilence(code)) question->removal.set_asked_before(true);
          const uint64_t to = answer.leader != 0 ? answer.leader : next;
          cluster_->scheduler->After(kPollNs / 2, [=, this] { Attempt(question, then, to); });
          return;
        }
        then(answer);
      });
    });
  });
  cluster_->scheduler->After(kQuestionTimeoutNs, [=, this] {
    if (std::exchange(*answered, true)) return;
    question->removal.set_asked_before(true);
    Attempt(question, then, next);
  });
}

// ---- What he does ----

uint64_t GroupOperator::DrawIdle() {
  std::vector<uint64_t> idle;
  for (const auto& member : *cluster_->members) {
    if (!wanted_.contains(member->id()) && !member->in_use()) idle.push_back(member->id());
  }
  return idle.empty() ? 0 : idle[dice().Below(idle.size())];
}

uint64_t GroupOperator::DrawWanted() {
  auto at = wanted_.begin();
  std::advance(at, dice().Below(wanted_.size()));
  return *at;
}

void GroupOperator::Add() {
  const uint64_t number = DrawIdle();
  if (number == 0) return;
  busy_ = true;
  wanted_.insert(number);
  cluster_->scheduler->Trace("operator adds", number);
  machine(number).Join(dice().Next() | 1, 0);
  WaitForVote(number, 0);
}

void GroupOperator::JoinWhenEmpty(uint64_t number, uint64_t replaces) {
  if (machine(number).in_use()) {
    cluster_->scheduler->After(kPollNs, [this, number, replaces] { JoinWhenEmpty(number, replaces); });
    return;
  }
  machine(number).Join(dice().Next() | 1, replaces);
  WaitForVote(number, replaces);
}

void GroupOperator::WaitForVote(uint64_t number, uint64_t gone) {
  Ask({}, [this, number, gone](const GroupAnswer& answer) {
    bool votes = false;
    bool still_there = false;
    for (const proto::MetaserverMember& member : answer.list.members()) {
      const bool here = machine(number).group_id() != 0 && member.id() == machine(number).group_id();
      votes = votes || (here && (member.role() == "leader" || member.role() == "follower"));
      still_there = still_there || (gone != 0 && member.id() == gone);
    }
    if (votes && !still_there) return Done("operator has added");
    cluster_->scheduler->After(kPollNs, [this, number, gone] { WaitForVote(number, gone); });
  });
}

void GroupOperator::Remove() {
  if (wanted_.size() < 2) return;
  const uint64_t number = DrawWanted();
  const uint64_t id = machine(number).group_id();
  if (id == 0) return;
  busy_ = true;
  cluster_->scheduler->Trace("operator removes", number, id);
  GroupQuestion question;
  question.kind = GroupQuestion::Kind::kRemove;
  question.removal.set_member(id);
  Ask(std::move(question), [this, number, id](const GroupAnswer& answer) {
    if (!answer.status.ok()) {
      if (answer.status.code() != StatusCode::kBusy)
        cluster_->violation("member " + std::to_string(id) + " cannot be removed: " + answer.status.ToString());
      return Done("operator does not remove");
    }
    wanted_.erase(number);
    WaitUntilGone(id);
  });
}

// He takes the server down when the others do not have it any more.
void GroupOperator::WaitUntilGone(uint64_t id) {
  Ask({}, [this, id](const GroupAnswer& answer) {
    const auto is_it = [id](const proto::MetaserverMember& member) { return member.id() == id; };
    if (std::ranges::any_of(answer.list.members(), is_it)) {
      cluster_->violation("member " + std::to_string(id) + " is listed, though its removal was answered");
      return;
    }
    const std::string unrest = Unrest();
    if (!unrest.empty()) {
      cluster_->scheduler->After(kPollNs, [this, id] { WaitUntilGone(id); });
      return;
    }
    for (const auto& member : *cluster_->members) {
      if (member->group_id() == id) member->Wipe();
    }
    Done("operator has removed");
  });
}

void GroupOperator::ReplaceLost() {
  const bool settled = cluster_->scheduler->now_ns() - changed_ns_ > kSettledNs;
  if (wanted_.size() < 3 || !settled || !Unrest().empty()) return;
  const uint64_t lost = DrawWanted();
  const uint64_t lost_id = machine(lost).group_id();
  busy_ = true;
  const uint64_t idle = DrawIdle();
  const uint64_t number = idle != 0 && dice().Chance(0.5) ? idle : lost;
  cluster_->scheduler->Trace("operator replaces", lost, number);
  machine(lost).Wipe();
  wanted_.erase(lost);
  wanted_.insert(number);
  JoinWhenEmpty(number, lost_id);
}

void GroupOperator::Transfer() {
  busy_ = true;
  GroupQuestion question;
  question.kind = GroupQuestion::Kind::kTransfer;
  if (dice().Chance(0.6)) question.transfer_to = machine(DrawWanted()).group_id();
  cluster_->scheduler->Trace("operator transfers", question.transfer_to);
  // Whatever comes of it: it may fail.
  Ask(std::move(question), [this](const GroupAnswer&) { Done("operator has transferred"); });
}

void GroupOperator::StopLeader() {
  for (const uint64_t number : wanted_) {
    if (!machine(number).Leads()) continue;
    machine(number).StopGracefully();
    ++done_;
    return;
  }
}

// ---- What there should be ----

std::string GroupOperator::Unrest() const {
  std::set<uint64_t> ids;
  for (const uint64_t number : wanted_) {
    if (!machine(number).alive() || machine(number).group_id() == 0)
      return "machine " + std::to_string(number) + " is to be in the group and does not run";
    ids.insert(machine(number).group_id());
  }
  for (const uint64_t number : wanted_) {
    const std::string name = "machine " + std::to_string(number);
    const auto in_map = machine(number).MapMembers();
    if (std::set<uint64_t>(in_map.begin(), in_map.end()) != ids) return name + " has another map of the group";
    std::set<uint64_t> voters;
    size_t members = 0;
    for (const meta::GroupMember& member : machine(number).GroupMembers()) {
      ++members;
      if (member.role == meta::MemberRole::kVoter) voters.insert(member.member);
    }
    if (voters != ids || members != ids.size()) return name + " knows other voters";
  }
  return {};
}

std::string GroupOperator::WhatIsWrong() const { return busy_ ? "an operator waits" : Unrest(); }

}  // namespace tarn::sim
