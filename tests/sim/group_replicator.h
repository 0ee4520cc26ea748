// The Replicator of a simulated member whose group changes: everything of production beneath and around libraft that has
// no thread (raft_core.h, raft_member_io.h, raft_message.h, raft_envelope.h, log_frame.h; group_changes.h and
// leader_lease.h, which decide how members are added, promoted and removed, leadership is handed over, and until when a
// leader may answer) over the simulated disk, network and clock.
//
// What raft_replicator.h does with its threads stands here as events, by its rules:
//   - committed entries are counted and matched to proposals, and handed to an apply queue, one task an event;
//   - no message leaves before term and vote are written, and the time-out begins after that;
//   - a snapshot's marker is written when the state with so many entries is durable; a leader's one when a checkpoint
//     with so many is taken over;
//   - nothing is proposed while leadership is handed over.
// One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "metaserver/replication/group_changes.h"
#include "metaserver/replication/leader_lease.h"
#include "tests/sim/sim_replicator.h"

struct tarn_member_io;
struct tarn_raft;

namespace tarn::sim {

// The first entry of the log of a new group of this one member.
LogRecord FirstConfiguration(uint64_t member_id);

class GroupReplicator final : public MemberLog {
 public:
  // All outlive it.
  GroupReplicator(const SimReplicator::Options& options, const Plan& plan, ProcessPort* port, Scheduler* scheduler,
                  SimClock* clock, LogDisk* disk, meta::LogConsumer* consumer);
  ~GroupReplicator() override;
  GroupReplicator(const GroupReplicator&) = delete;
  GroupReplicator& operator=(const GroupReplicator&) = delete;

  // ---- MemberLog ----
  void Start() override;
  void Receive(uint64_t from_member, const std::string& message) override;
  uint64_t applied() const override { return applied_; }
  // While nothing is applied.
  bool MayTakeOver() const override { return install_entries_ != 0 && tasks_.empty(); }
  void TakeOver(uint64_t applied_entries) override;

  // ---- Replicator ----
  void Propose(std::string entry, Committed committed) override;
  bool HoldsLease() const override;
  uint64_t leader_member() const override;
  uint64_t term() const override;
  std::vector<meta::GroupMember> members() const override { return members_; }
  Result<std::vector<meta::MemberProgress>> Progress() const override;
  void AddMember(uint64_t member, const std::string& address, Changed done) override;
  void PromoteMember(uint64_t member, Changed done) override;
  void RemoveMember(uint64_t member, Changed done) override;
  void TransferLeadership(uint64_t member, Changed done) override;
  void Stop() override {}

 private:
  friend struct GroupHost;

  struct Pending {
    uint64_t tag = 0;
    int64_t submitted_ns = 0;
    Committed committed;
  };
  struct Task {
    enum class Kind { kEntry, kAnswer, kGained, kLost };
    Kind kind = Kind::kEntry;
    std::string entry;
    uint64_t number = 0;  // kGained: the term
    Committed committed;
    Status status;
  };
  struct Message {
    uint64_t member = 0;
    std::string bytes;
  };

  void Open();
  void Tick();
  void ProposeOnLoop();
  void RequestChange(meta::GroupChange change);
  // libraft has done a step.
  void Settle();

  void OnApply(std::string_view frame);
  void OnBarrier(uint64_t term, uint64_t tag);
  void OnLeadership(bool leads, uint64_t term);
  void OnLost(uint64_t tag);
  void OnMembers();
  void OnRemoved(uint64_t configuration_index);
  bool OnRestore(std::string_view data);
  void OnInstall(std::string_view data);
  std::string MakeMarker();
  void OnSend(uint64_t to, std::string_view body);
  void WriteVote(uint64_t term, uint64_t vote);
  // Once everything through held_through_ is applied: makes it durable and lets the marker be written.
  void ReleaseIfApplied();
  void Enqueue(Task task);
  void RunTask();

  const SimReplicator::Options options_;
  const Plan& plan_;
  ProcessPort* const port_;
  Scheduler* const scheduler_;
  SimClock* const clock_;
  LogDisk* const disk_;
  meta::LogConsumer* const consumer_;
  meta::LeaderLease lease_;
  meta::GroupChanges group_;
  tarn_member_io* io_ = nullptr;
  tarn_raft* raft_ = nullptr;
  bool opening_ = false;
  bool closing_ = false;

  std::deque<std::pair<std::string, Committed>> incoming_;  // proposals keep their order
  std::deque<Pending> pending_;
  uint64_t next_tag_ = 1;
  uint64_t handed_ = 0;
  uint64_t skip_through_ = 0;
  uint64_t applied_ = 0;
  bool led_ = false;
  uint64_t term_ = 0;
  uint64_t leading_term_ = 0;
  uint64_t ready_term_ = 0;
  uint64_t gained_term_ = 0;
  std::vector<meta::GroupMember> members_;
  bool told_removed_ = false;
  size_t votes_waiting_ = 0;  // writes of term and vote
  std::vector<Message> held_messages_;

  std::deque<Task> tasks_;
  bool task_scheduled_ = false;
  bool flush_wanted_ = false;
  bool flushing_ = false;
  uint64_t held_through_ = 0;
  uint64_t install_entries_ = 0;  // a checkpoint with so many is wanted; 0: none
};

}  // namespace tarn::sim
