// The Replicator of a simulated member: libraft's core over the simulated disk, network and clock.
//
// It keeps the rules of the production replicator (metaserver/replication) with its threads turned into events:
//   - committed entries are counted, framed and matched to proposals as there, and handed to an apply queue that runs
//     apart from libraft, one task an event;
//   - a snapshot is a marker; it is written, and the log trimmed, only after the state was made durable;
//   - a member that gets a marker ahead of its state takes over a checkpoint of the leader's state first;
//   - the lease: an entry proposed at t, committed and applied proves that a majority has heard of this leader after t,
//     so no other can be elected before t + an election time-out; it is used for three quarters of that. It begins with
//     an applied entry of the leader's own term. A member that has restarted gives no vote for one election time-out,
//     since it has forgotten what it promised.
// One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "metaserver/replication/replicator.h"
#include "tests/sim/libraft_member.h"
#include "tests/sim/log_disk.h"
#include "tests/sim/plan.h"
#include "tests/sim/sim_clock.h"

namespace tarn::sim {

inline constexpr int64_t kElectionTimeoutMs = 300;
inline constexpr int64_t kHeartbeatMs = 30;

// What the replicator needs of the member it belongs to. Nothing it schedules runs after the member's process ended.
class ProcessPort {
 public:
  virtual ~ProcessPort() = default;
  // As an event of the process: later if it is stopped, never if it died.
  virtual void Post(int64_t delay_ns, std::function<void()> action) = 0;
  // The same on the Raft thread, which may stand still while the rest of the process goes on.
  virtual void PostToLoop(int64_t delay_ns, std::function<void()> action) = 0;
  virtual void SendToMember(uint64_t member, std::string message) = 0;
  // A write begins: perhaps the process dies at it. From then on nothing it does has an effect.
  virtual void AtWrite() = 0;
  virtual bool dead() const = 0;
  // The state holds fewer entries than the log's beginning: it must be replaced by a checkpoint that holds so many.
  virtual void FetchCheckpoint(bool at_start, uint64_t at_least_entries) = 0;
  virtual void Violation(const std::string& what) = 0;
};

// A member's log, as the member drives it.
class MemberLog : public meta::Replicator {
 public:
  virtual void Start() = 0;
  virtual void Receive(uint64_t from_member, const std::string& message) = 0;
  // Entries that this member's state holds, for those who fetch a checkpoint.
  virtual uint64_t applied() const = 0;
  // A checkpoint may take the state's place now; it has, durably. Only where the process goes on with it.
  virtual bool MayTakeOver() const { return true; }
  virtual void TakeOver(uint64_t /*applied_entries*/) {}
};

class SimReplicator final : public MemberLog {
 public:
  struct Options {
    uint64_t member_id = 0;
    uint64_t applied_entries = 0;
    uint64_t proposer = 0;
  };

  // All outlive it.
  SimReplicator(const Options& options, const Plan& plan, ProcessPort* port, Scheduler* scheduler, SimClock* clock,
                LogDisk* disk, meta::LogConsumer* consumer);
  ~SimReplicator() override;
  SimReplicator(const SimReplicator&) = delete;
  SimReplicator& operator=(const SimReplicator&) = delete;

  void Start() override;
  void Receive(uint64_t from_member, const std::string& message) override;
  uint64_t applied() const override { return applied_; }

  void Propose(std::string entry, Committed committed) override;
  bool HoldsLease() const override;
  uint64_t leader_member() const override;
  uint64_t term() const override;
  std::vector<meta::GroupMember> members() const override { return {}; }
  Result<std::vector<meta::MemberProgress>> Progress() const override {
    return Status(StatusCode::kNotSupported, "not simulated");
  }
  // The simulated group stays as it is.
  void AddMember(uint64_t /*member*/, const std::string& /*address*/, Changed /*done*/) override {}
  void PromoteMember(uint64_t /*member*/, Changed /*done*/) override {}
  void RemoveMember(uint64_t /*member*/, Changed /*done*/) override {}
  void TransferLeadership(uint64_t /*member*/, Changed /*done*/) override {}
  void Stop() override {}

 private:
  friend struct Host;

  struct Pending {
    uint64_t tag = 0;
    int64_t proposed_ns = 0;
    Committed committed;
  };
  struct Task {
    enum class Kind { kEntry, kAnswer, kGained, kLost };
    Kind kind = Kind::kEntry;
    std::string entry;
    uint64_t number = 0;      // kGained: the term
    int64_t proposed_ns = 0;  // 0: not this leader's
    Committed committed;
    Status status;
  };

  void Tick();
  void ProposeOnLoop();
  void ProposeBarrier();
  void Load(sim_loaded* loaded);
  void Append(uint64_t request, const sim_entry* entries, unsigned count);
  void OnApply(std::string_view frame);
  void OnBarrier(uint64_t tag, bool committed);
  void OnLeadership(bool leads, uint64_t term);
  void OnLost(uint64_t tag);
  void OnRestore(std::string_view data);
  std::string MakeMarker();
  void PutSnapshot(uint64_t request, unsigned trailing, StoredSnapshot snapshot);
  void GetSnapshot(uint64_t request);
  void ReleaseSnapshotIfApplied();
  void Enqueue(Task task);
  void RunTask();
  void ExtendLease(int64_t proposed_ns, uint64_t term);

  const Options options_;
  const Plan& plan_;
  ProcessPort* const port_;
  Scheduler* const scheduler_;
  SimClock* const clock_;
  LogDisk* const disk_;
  meta::LogConsumer* const consumer_;
  sim_member* member_ = nullptr;

  int64_t silent_until_ns_ = 0;  // by the member's clock
  std::vector<sim_entry> loading_;

  std::deque<std::pair<std::string, Committed>> incoming_;  // proposals keep their order
  std::deque<Pending> pending_;
  std::deque<Pending> barriers_;
  uint64_t next_tag_ = 1;
  uint64_t handed_ = 0;
  uint64_t applied_ = 0;
  uint64_t leading_term_ = 0;
  uint64_t ready_term_ = 0;
  uint64_t lease_term_ = 0;
  int64_t lease_from_ns_ = 0;

  std::deque<Task> tasks_;
  bool task_scheduled_ = false;
  bool must_fetch_ = false;
  bool snapshot_taking_ = false;
  std::optional<StoredSnapshot> known_snapshot_;  // the newest that libraft was told of

  struct {
    bool waits = false;
    bool flushing = false;
    uint64_t request = 0;
    unsigned trailing = 0;
    uint64_t through = 0;
    StoredSnapshot snapshot;
  } held_;
};

}  // namespace tarn::sim
