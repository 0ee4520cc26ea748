// The replicator over libraft (raft_core.h). One voter for now; more are refused.
//
// Threads: `raft` runs libraft's loop and must not block; `apply` gives entries to the consumer; `flush` makes the
// consumer's state durable for snapshots. Proposals, committed entries and answers pass between them in queues under
// one mutex.
//
// Numbers: libraft tells neither an entry's index nor its number to apply(), so commands are counted: the snapshot's
// marker gives the count to start from, each command adds one. Those up to RaftReplicatorOptions::applied_entries are
// in the consumer's state already and are skipped.
//
// Snapshots hold no state, only a marker with the count of entries. libraft takes one on its loop thread, at an event,
// with all committed entries handed over but not yet applied; nothing may block there (and the library's "asynchronous"
// hook runs on the same thread). So:
//   1. raft thread: the marker gets the count of entries handed to the apply thread so far; writing it to disk is held
//   back (raft_core.h).
//   2. flush thread: waits until the apply thread has applied that many, then calls LogConsumer::MakeDurable.
//   3. raft thread: lets libraft write the marker; only after that does libraft trim the log, keeping
//   `snapshot_trailing` entries behind it.
// A crash before 3 leaves the previous marker and the whole log; the entries that the state already has are skipped. At
// no time does the log lack an entry that the durable state lacks. A directory that breaks this (state or log replaced
// or damaged) is refused at start.
//
// Failures: a write error, a full disk (less than disk_reserve_bytes left), a write that does not end, or an error of
// the consumer ends the replicator through LogConsumer::Failed. Nothing is retried: what an error left on the disk is
// unknown.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/base/mutex.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "metaserver/replication/message_transport.h"
#include "metaserver/replication/replicator.h"

struct tarn_raft;

namespace tarn::meta {

struct RaftReplicatorOptions {
  std::string directory;
  uint64_t member_id = 1;
  // To the other members; outlives the replicator. Null: enough for a group of one.
  MessageTransport* transport = nullptr;
  std::string cluster_id;        // 16 bytes; a snapshot of another cluster is refused
  uint64_t applied_entries = 0;  // that the consumer's durable state holds
  uint32_t election_timeout_ms = 1000;
  // A snapshot is due after this many entries or bytes, whichever comes first: it bounds memory (libraft keeps the
  // entries since the last one) and what a restart applies again.
  uint32_t snapshot_entries_max = 16'384;
  uint64_t snapshot_bytes_max = 32u << 20;
  uint32_t snapshot_trailing = 128;
  uint64_t in_flight_bytes_max = 32u << 20;
  uint64_t disk_reserve_bytes = 64u << 20;
  uint32_t stall_limit_s = 30;
};

class RaftReplicator final : public Replicator {
 public:
  // Makes the log of a new group of this one member, reached at `address` (lean frames, HOST:PORT), in an empty
  // directory.
  static Status Bootstrap(const std::string& directory, uint64_t member_id, const std::string& address);
  // Makes the log of a member that joins an existing group, in an empty directory: it knows no group and waits until
  // a leader that has added it sends it the log. A wiped member joins under a new id: it has forgotten its votes.
  static Status PrepareToJoin(const std::string& directory);

  // Loads the log; the consumer, which outlives the replicator, hears nothing before Start. kCorruption, naming the
  // file, if the log is damaged or does not fit to the consumer's state.
  static Result<std::unique_ptr<RaftReplicator>> Open(const RaftReplicatorOptions& options, LogConsumer* consumer,
                                                      Random* random);
  // Starts the threads. Once.
  void Start();

  ~RaftReplicator() override;
  RaftReplicator(const RaftReplicator&) = delete;
  RaftReplicator& operator=(const RaftReplicator&) = delete;

  void Propose(std::string entry, Committed committed) override;
  bool HoldsLease() const override;
  uint64_t leader_member() const override;
  uint64_t term() const override { return term_.load(std::memory_order_relaxed); }
  std::vector<GroupMember> members() const override;
  Result<std::vector<MemberProgress>> Progress() const override;
  void AddMember(uint64_t member, const std::string& address, Changed done) override;
  void PromoteMember(uint64_t member, Changed done) override;
  void RemoveMember(uint64_t member, Changed done) override;
  void TransferLeadership(uint64_t member, Changed done) override;
  void Stop() override;

  // A message of another member, as MessageTransport::Send of that member got it. Any thread; cheap; dropped if too
  // much waits or if it is none. From Open to Stop.
  void Receive(uint64_t from_member, const std::string& from_address, std::string message);

 private:
  friend struct RaftCallbacks;  // libraft's side, raft_replicator.cc

  struct Proposal {
    uint8_t* frame = nullptr;  // malloc
    size_t frame_bytes = 0;
    size_t entry_bytes = 0;
    Committed committed;
  };
  // Proposed and not yet committed.
  struct Pending {
    uint64_t tag = 0;
    size_t entry_bytes = 0;
    Committed committed;
  };
  // For the apply thread, in order.
  struct Task {
    enum class Kind { kEntry, kAnswer, kGained, kLost };
    Kind kind = Kind::kEntry;
    std::string entry;
    uint64_t number = 0;  // kGained: the term
    size_t entry_bytes = 0;
    Committed committed;
    Status status;
  };

  RaftReplicator(const RaftReplicatorOptions& options, LogConsumer* consumer, Random* random);
  Status Load();

  // Raft thread.
  void OnApply(std::string_view frame);
  void OnBarrier(uint64_t barrier_term);
  void OnLeadership(bool leads, uint64_t new_term);
  void OnLost(uint64_t tag);
  Status OnRestore(std::string_view data);
  std::string MakeMarker();
  void OnWoken();
  void OnTick();
  void ProposeOnLoop(Proposal proposal);
  void CloseIfIdle(bool at_once);

  // Any thread.
  void Enqueue(Task task);
  void AnswerChange(Changed done, Status status);
  void Fail(const Status& status);

  void RunApply();
  bool RunTask(Task& task);
  void RunFlush();
  bool WaitForFlushRequest();

  // ---- Immutable after construction ----
  const RaftReplicatorOptions options_;
  LogConsumer* const consumer_;
  const uint64_t proposer_;
  tarn_raft* raft_ = nullptr;  // set before the threads start

  // ---- Thread-safe ----
  std::atomic<uint64_t> term_{0};
  std::atomic<uint64_t> leading_term_{0};  // 0: does not lead
  std::atomic<uint64_t> ready_term_{0};    // the term whose barrier is applied
  std::atomic<uint64_t> in_flight_bytes_{0};
  std::atomic<bool> failed_{false};

  // ---- Raft thread ----
  std::deque<Pending> pending_;
  uint64_t next_tag_ = 1;
  uint64_t handed_ = 0;  // commands of the log so far
  uint64_t bytes_since_snapshot_ = 0;
  bool snapshot_forced_ = false;
  bool closing_ = false;
  uint64_t stalled_tag_ = 0;
  uint32_t stalled_ticks_ = 0;
  uint32_t closing_ticks_ = 0;
  Status load_error_;  // of a callback during Load

  // ---- Any thread ----
  mutable Mutex mutex_;
  CondVar apply_wake_;
  CondVar flush_wake_;
  std::vector<Proposal> incoming_ GUARDED_BY(mutex_);
  std::deque<Task> tasks_ GUARDED_BY(mutex_);
  uint64_t applied_ GUARDED_BY(mutex_) = 0;
  uint64_t flush_through_ GUARDED_BY(mutex_) = 0;  // what the held snapshot's marker says
  bool flush_requested_ GUARDED_BY(mutex_) = false;
  bool release_snapshot_ GUARDED_BY(mutex_) = false;
  bool stop_requested_ GUARDED_BY(mutex_) = false;
  bool loop_ended_ GUARDED_BY(mutex_) = false;
  bool stopped_ GUARDED_BY(mutex_) = false;

  std::thread raft_thread_;
  std::thread apply_thread_;
  std::thread flush_thread_;
};

}  // namespace tarn::meta
