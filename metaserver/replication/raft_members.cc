// Who belongs to the group: what group_changes.h decides, and who is told of it.
#include <spdlog/spdlog.h>

#include <utility>

#include "metaserver/replication/raft_core.h"
#include "metaserver/replication/raft_replicator.h"

namespace tarn::meta {

void RaftReplicator::ChangeOnLoop(GroupChange change) {
  if (closing_ && change.kind != GroupChange::Kind::kTransfer) {
    AnswerChange(std::move(change.done), Status(StatusCode::kCancelled, "the server stops"));
    return;
  }
  group_.Begin(std::move(change));
  tarn_raft_settle(raft_);
}

void RaftReplicator::OnMembers() {
  const std::vector<GroupMember> members = group_.Members();
  votes_alone_.store(tarn_raft_votes_alone(raft_), std::memory_order_release);
  {
    MutexLock lock(mutex_);
    members_ = members;
  }
  told_removed_ = false;
  Task task;
  task.kind = Task::Kind::kMembers;
  task.members = members;
  Enqueue(std::move(task));
}

void RaftReplicator::OnRemoved(uint64_t configuration_index) {
  if (told_removed_ || tarn_raft_leads(raft_) || tarn_raft_knows_configuration(raft_, configuration_index)) return;
  told_removed_ = true;
  spdlog::warn("this member was removed from the group member={} configuration_index={}", options_.member_id,
               configuration_index);
  Task task;
  task.kind = Task::Kind::kMembers;
  for (const GroupMember& member : group_.Members()) {
    if (member.member != options_.member_id) task.members.push_back(member);
  }
  {
    MutexLock lock(mutex_);
    members_ = task.members;
  }
  Enqueue(std::move(task));
}

void RaftReplicator::NoteProgress() {
  if (leading_term_.load(std::memory_order_relaxed) == 0) return;
  std::vector<MemberProgress> progress = group_.Progress();
  MutexLock lock(mutex_);
  progress_.swap(progress);
}

}  // namespace tarn::meta
