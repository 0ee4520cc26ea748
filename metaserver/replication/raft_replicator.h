// The replicator over libraft (raft_core.h) with a log (log_files.h), a transport and a lease of our own.
//
// Threads: `log write` writes (log_writer.h); `apply` gives entries to the consumer; `flush` makes the consumer's state
// durable for snapshots; `checkpoint` takes over a leader's checkpoint; `raft` brings the ticks. libraft has no thread
// of its own: whoever brings it work (a proposal, a message, the end of a write) drives it, one at a time, and takes
// along what others bring meanwhile (Drive). Driving never waits for a disk. Between the threads pass queues under one
// mutex.
//
// A thread that hands over to a sleeping one costs tens of microseconds, as much as the work itself. So a lone small
// entry goes from the caller of Propose to the writer and from there, if nothing else is to be written, through the
// consumer to the answer: one hand-over. Under load the writer writes and the apply thread applies, at the same time.
//
// Numbers: libraft tells neither an entry's index nor its number to apply(), so commands are counted: the snapshot's
// marker gives the count to start from, each command adds one. Those that are in the consumer's state already are
// skipped.
//
// Snapshots hold no state, only a marker with the count of entries. libraft takes one on its loop thread, at an event,
// with all committed entries handed over but not yet applied; nothing may block there. So:
//   1. raft thread: the marker gets the count of entries handed to the apply thread so far; writing it to disk is held
//   back (raft_core.h).
//   2. flush thread: waits until the apply thread has applied that many, then calls LogConsumer::MakeDurable.
//   3. raft thread: lets libraft write the marker; only after that does the log lose entries, but for the last
//   `snapshot_trailing` ones before it.
// A member that is too far behind is sent a leader's marker: its own log is dropped only after the checkpoint thread
// has a state that holds at least what the marker counts. A crash before leaves the old log beside a newer state:
// entries that the state has are skipped, and the leader sends the rest. At no time does the log lack an entry that the
// durable state lacks. A directory that breaks this (state or log replaced or damaged) is refused.
//
// Term and vote: libraft believes them written when it asks for it. No message leaves until they are, and only then
// does the time-out begin after which this member tries another election: on a disk that takes longer than that to
// write a vote, candidates would otherwise give up before anybody has heard of them, and voters before they have
// answered.
//
// Lease (while other members vote): an entry that this leader submitted at time t and that is committed proves that a
// majority answered after t; no voter among them helps to elect another leader within one election time-out of that
// (libraft refuses votes while it hears of a leader, and a restarted member stays silent for as long). So reads may be
// served until t + 0.75 x the time-out on CLOCK_BOOTTIME, which counts on while the process or the machine is stopped;
// the rest is for clocks that run at different rates. When there is nothing to commit, barriers keep the lease. A
// transfer of leadership does not wait for the time-out: the lease is dropped before it, and not renewed while orders
// to take over are given. After a transfer that failed only entries submitted later count. Once such an entry is
// committed, an order that is still under way does no harm: a member that has the entry does not obey, since the order
// names the end of the log that it was given for, and one that obeyed without it gets no vote of the majority that has
// it. Alone with a vote, the leader cannot be replaced, and always holds the lease.
//
// Failures: a write error, a full disk (disk_reserve.h), a write that does not end, or an error of
// the consumer ends the replicator through LogConsumer::Failed; it falls silent at once, so that the group goes on
// without it. Nothing is retried: what an error left on the disk is unknown.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "metaserver/replication/disk_reserve.h"
#include "metaserver/replication/group_changes.h"
#include "metaserver/replication/leader_lease.h"
#include "metaserver/replication/log_writer.h"
#include "metaserver/replication/message_transport.h"
#include "metaserver/replication/replicator.h"

struct tarn_member_io;
struct tarn_raft;

namespace tarn::meta {

struct RaftReplicatorOptions {
  std::string directory;
  uint64_t member_id = 1;
  // To the other members; outlives the replicator. Null: enough for a group of one.
  MessageTransport* transport = nullptr;
  std::string cluster_id;        // 16 bytes; a snapshot of another cluster is refused
  std::string address;           // of this member: lean frames, HOST:PORT
  Clock* clock = nullptr;        // null: the system's
  uint64_t applied_entries = 0;  // that the consumer's durable state holds
  // Followers wait for once to twice this long before they look for another leader: a fail-over takes about one and a
  // half of it.
  uint32_t election_timeout_ms = 500;
  // A snapshot is due after this many entries or bytes, whichever comes first: it bounds memory (libraft keeps the
  // entries since the last one) and what a restart applies again.
  uint32_t snapshot_entries_max = 16'384;
  uint64_t snapshot_bytes_max = 32u << 20;
  uint32_t snapshot_trailing = 128;
  uint64_t in_flight_bytes_max = 32u << 20;
  uint64_t disk_reserve_bytes = 0;  // DiskLimitsFor
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
  bool HasRoom() const override { return has_room_.load(std::memory_order_relaxed); }
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
  friend struct RaftCallbacks;  // libraft's side, raft_callbacks.cc

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
    int64_t submitted_ns = 0;
    Committed committed;
  };
  // For the apply thread, in order.
  struct Task {
    enum class Kind { kEntry, kAnswer, kGained, kLost, kMembers };
    Kind kind = Kind::kEntry;
    std::string entry;
    uint64_t number = 0;  // kGained: the term
    size_t entry_bytes = 0;
    Committed committed;
    Status status;
    std::vector<GroupMember> members;
  };
  struct Message {
    uint64_t member = 0;  // from or to
    std::string address;
    std::string bytes;
  };
  // What waits for whoever drives.
  struct Work {
    std::vector<Proposal> proposals;
    std::deque<Message> messages;
    std::deque<GroupChange> changes;
    uint64_t written = 0;
    bool release = false;
    bool stop = false;
  };
  // Asked of the writer, not done.
  struct Write {
    uint64_t ticket = 0;
    void* request = nullptr;  // of raft_member_io.h; null: term and vote
    bool is_append = false;
  };

  RaftReplicator(const RaftReplicatorOptions& options, LogConsumer* consumer, Random* random);
  Status Load();

  // ---- Whoever drives: raft_loop.cc ----
  void RunLoop();   // raft thread
  void CloseLoop();
  Work TakeWork() REQUIRES(mutex_);
  void Step(Work work);
  void TakeDone(uint64_t done_ticket);
  void ReceiveOnLoop(const Message& message);
  void ProposeOnLoop(Proposal proposal);
  void Tick(int64_t now_ms);
  void TickSlowly();
  bool MayClose();
  void HoldElection();

  // ---- Whoever drives: raft_members.cc ----
  void ChangeOnLoop(GroupChange change);
  void OnMembers();
  void OnRemoved(uint64_t configuration_index);
  void NoteProgress();

  // ---- Whoever drives, called by libraft: raft_callbacks.cc ----
  void OnApply(std::string_view frame);
  void OnBarrier(uint64_t barrier_term, uint64_t tag);
  void OnLeadership(bool leads, uint64_t new_term, uint64_t leader, const char* leader_address);
  void OnLost(uint64_t tag);
  Status OnRestore(std::string_view data);
  void OnInstall(std::string_view data);
  void OnSend(uint64_t to, const char* address, std::string_view body);
  void Send(Message message);
  std::string MakeMarker();

  // Any thread.
  // There is new work: carried out here, or by the thread that drives already (then false), or later by the raft thread.
  // What there is to apply then waits in tasks_: WakeApply, before the lock is given up.
  bool Drive(MutexLock& lock) REQUIRES(mutex_);
  // Writer thread. `last`: of what it has begun with.
  void OnWritten(uint64_t ticket, bool last);
  void Enqueue(Task task);
  void AnswerChange(Changed done, Status status);
  void RequestChange(GroupChange change);
  void Fail(const Status& status);
  void NoteRoom(int64_t now_ms);
  void WakeLoop() REQUIRES(mutex_);

  void RunApply();
  void WakeApply() REQUIRES(mutex_);
  void EndApplying() REQUIRES(mutex_);
  bool RunTask(Task& task);
  void RunFlush();
  bool WaitForFlushRequest();
  void RunCheckpoint();
  bool WaitForCheckpointRequest(CheckpointRequest* request);

  // ---- Immutable after construction ----
  const RaftReplicatorOptions options_;
  LogConsumer* const consumer_;
  Random* const random_;
  const uint64_t proposer_;
  const DiskReserve reserve_;
  SystemClock system_clock_;
  Clock* const clock_;
  tarn_member_io* io_ = nullptr;  // these are set before the threads start
  tarn_raft* raft_ = nullptr;
  std::unique_ptr<LogWriter> writer_;

  // ---- Thread-safe ----
  std::atomic<uint64_t> term_{0};
  std::atomic<uint64_t> leading_term_{0};  // 0: does not lead
  std::atomic<uint64_t> ready_term_{0};    // the term whose barrier is applied
  std::atomic<uint64_t> leader_{0};
  std::atomic<bool> votes_alone_{false};
  std::atomic<uint64_t> in_flight_bytes_{0};
  std::atomic<bool> failed_{false};
  std::atomic<bool> has_room_{true};
  std::atomic<bool> stopping_{false};

  // ---- Whoever drives, and Holds of the lease any thread ----
  LeaderLease lease_;

  // ---- Whoever drives ----
  GroupChanges group_;
  std::deque<Pending> pending_;
  std::deque<Write> writes_;
  std::deque<Message> held_messages_;  // until term and vote are written
  uint64_t vote_ticket_ = 0;
  uint64_t done_ticket_ = 0;
  uint64_t next_tag_ = 1;
  uint64_t handed_ = 0;        // commands of the log so far
  uint64_t skip_through_ = 0;  // that the state had
  uint64_t bytes_since_snapshot_ = 0;
  bool snapshot_forced_ = false;
  bool led_ = false;
  uint64_t gained_term_ = 0;  // the last one that the consumer was told of
  int64_t next_room_transfer_ms_ = 0;
  bool told_removed_ = false;
  bool closing_ = false;
  int64_t close_at_ms_ = 0;
  int64_t slow_tick_ms_ = 0;
  uint64_t stalled_ticket_ = 0;
  uint32_t stalled_ticks_ = 0;
  Status load_error_;  // of a callback during Load

  // ---- Any thread ----
  mutable Mutex mutex_;
  CondVar loop_wake_;
  CondVar apply_wake_;
  CondVar flush_wake_;
  CondVar checkpoint_wake_;
  CondVar driver_gone_;
  bool loop_awake_ GUARDED_BY(mutex_) = false;
  bool driving_ GUARDED_BY(mutex_) = true;  // somebody is; the raft thread before its start and after its end
  bool work_ GUARDED_BY(mutex_) = false;    // since the driver took the last
  bool loop_waits_ GUARDED_BY(mutex_) = false;  // the raft thread wants to drive
  std::vector<Proposal> incoming_ GUARDED_BY(mutex_);
  std::deque<Message> received_ GUARDED_BY(mutex_);
  size_t received_bytes_ GUARDED_BY(mutex_) = 0;
  std::deque<GroupChange> changes_ GUARDED_BY(mutex_);
  uint64_t written_ticket_ GUARDED_BY(mutex_) = 0;
  std::deque<Task> tasks_ GUARDED_BY(mutex_);
  bool applying_ GUARDED_BY(mutex_) = false;  // somebody is: the apply thread or the writer
  uint64_t applied_ GUARDED_BY(mutex_) = 0;
  uint64_t flush_through_ GUARDED_BY(mutex_) = 0;  // what the held snapshot's marker says
  bool flush_requested_ GUARDED_BY(mutex_) = false;
  bool release_snapshot_ GUARDED_BY(mutex_) = false;
  uint64_t install_entries_ GUARDED_BY(mutex_) = 0;  // a checkpoint with so many is wanted; 0: none
  std::string leader_address_ GUARDED_BY(mutex_);
  std::vector<GroupMember> members_ GUARDED_BY(mutex_);
  std::vector<MemberProgress> progress_ GUARDED_BY(mutex_);
  bool stop_requested_ GUARDED_BY(mutex_) = false;
  bool loop_ended_ GUARDED_BY(mutex_) = false;
  bool stopped_ GUARDED_BY(mutex_) = false;

  std::thread raft_thread_;
  std::thread apply_thread_;
  std::thread flush_thread_;
  std::thread checkpoint_thread_;
};

}  // namespace tarn::meta
