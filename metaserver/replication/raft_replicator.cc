#include "metaserver/replication/raft_replicator.h"

#include <spdlog/spdlog.h>
#include <sys/statvfs.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <span>
#include <utility>

#include "common/base/check.h"
#include "common/base/named_thread.h"
#include "metaserver/replication/log_check.h"
#include "metaserver/replication/log_frame.h"
#include "metaserver/replication/raft_core.h"

namespace tarn::meta {
namespace {

constexpr uint32_t kTickMs = 1000;
// How long a stop waits for what is in flight.
constexpr uint32_t kCloseTicksMax = 5;
// Of a frame (log_frame.h): filled in when its turn comes.
constexpr size_t kDurableIndexOffset = 8;
constexpr size_t kProposalOffset = 24;

std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

Status CheckDisk(const std::string& directory, uint64_t reserve_bytes) {
  struct statvfs disk {};
  if (statvfs(directory.c_str(), &disk) != 0 || uint64_t{disk.f_bavail} * disk.f_frsize >= reserve_bytes)
    return Status::Ok();
  return Status(StatusCode::kNoSpace, directory + ": less than " + std::to_string(reserve_bytes >> 20) +
                                          " MiB are left on the disk of the metadata log");
}

Status OneMemberOnly() { return Status(StatusCode::kNotSupported, "groups of several members are not supported yet"); }

}  // namespace

// The C callbacks, turned into calls of the replicator.
struct RaftCallbacks {
  static RaftReplicator* Of(void* context) { return static_cast<RaftReplicator*>(context); }
  static std::string_view Text(const void* data, size_t bytes) { return {static_cast<const char*>(data), bytes}; }

  static void Apply(void* context, const void* data, size_t bytes) { Of(context)->OnApply(Text(data, bytes)); }
  static void Barrier(void* context, uint64_t term) { Of(context)->OnBarrier(term); }
  static void Leadership(void* context, bool leads, uint64_t term) { Of(context)->OnLeadership(leads, term); }
  static void Lost(void* context, uint64_t tag) { Of(context)->OnLost(tag); }
  static int Restore(void* context, const void* data, size_t bytes) {
    Of(context)->load_error_ = Of(context)->OnRestore(Text(data, bytes));
    return Of(context)->load_error_.ok() ? 0 : -1;
  }
  static int Snapshot(void* context, void** data, size_t* bytes) {
    const std::string marker = Of(context)->MakeMarker();
    *data = std::malloc(marker.size());
    if (*data == nullptr) return -1;
    std::memcpy(*data, marker.data(), marker.size());
    *bytes = marker.size();
    return 0;
  }
  static void SnapshotHeld(void* context) {
    RaftReplicator* replicator = Of(context);
    MutexLock lock(replicator->mutex_);
    replicator->flush_requested_ = true;
    replicator->flush_wake_.NotifyAll();
  }
  static void Woken(void* context) { Of(context)->OnWoken(); }
  static void Tick(void* context) { Of(context)->OnTick(); }
  static void Failed(void* context, const char* text) {
    RaftReplicator* replicator = Of(context);
    replicator->Fail(
        Status(StatusCode::kIoError, replicator->options_.directory + ": a write to the log failed: " + text));
  }

  static tarn_raft_callbacks Table(RaftReplicator* replicator) {
    tarn_raft_callbacks table{};
    table.context = replicator;
    table.apply = Apply;
    table.barrier = Barrier;
    table.leadership = Leadership;
    table.lost = Lost;
    table.restore = Restore;
    table.snapshot = Snapshot;
    table.snapshot_held = SnapshotHeld;
    table.woken = Woken;
    table.tick = Tick;
    table.failed = Failed;
    return table;
  }
};

Status RaftReplicator::Bootstrap(const std::string& directory, uint64_t member_id, const std::string& /*address*/) {
  std::array<char, TARN_RAFT_ERROR_BYTES> error{};
  if (tarn_raft_bootstrap(directory.c_str(), member_id, error.data()) != 0) {
    return Status(StatusCode::kIoError, std::string("make the log: ") + error.data());
  }
  return Status::Ok();
}

Status RaftReplicator::PrepareToJoin(const std::string& /*directory*/) { return OneMemberOnly(); }

std::vector<GroupMember> RaftReplicator::members() const {
  return {GroupMember{.member = options_.member_id, .address = "", .role = MemberRole::kVoter}};
}

Result<std::vector<MemberProgress>> RaftReplicator::Progress() const {
  if (leader_member() != options_.member_id) return Status(StatusCode::kNotLeader, "this member does not lead");
  return std::vector<MemberProgress>{{.member = members().front()}};
}

void RaftReplicator::AddMember(uint64_t /*member*/, const std::string& /*address*/, Changed done) {
  AnswerChange(std::move(done), OneMemberOnly());
}

void RaftReplicator::PromoteMember(uint64_t /*member*/, Changed done) {
  AnswerChange(std::move(done), OneMemberOnly());
}

void RaftReplicator::RemoveMember(uint64_t /*member*/, Changed done) { AnswerChange(std::move(done), OneMemberOnly()); }

void RaftReplicator::TransferLeadership(uint64_t /*member*/, Changed done) {
  AnswerChange(std::move(done), OneMemberOnly());
}

void RaftReplicator::AnswerChange(Changed done, Status status) {
  Task answer;
  answer.kind = Task::Kind::kAnswer;
  answer.committed = std::move(done);
  answer.status = std::move(status);
  Enqueue(std::move(answer));
}

void RaftReplicator::Receive(uint64_t /*from_member*/, const std::string& /*from_address*/, std::string /*message*/) {}

Result<std::unique_ptr<RaftReplicator>> RaftReplicator::Open(const RaftReplicatorOptions& options,
                                                             LogConsumer* consumer, Random* random) {
  RETURN_IF_ERROR(CheckLogDirectory(options.directory));
  RETURN_IF_ERROR(CheckDisk(options.directory, options.disk_reserve_bytes));
  std::unique_ptr<RaftReplicator> replicator(new RaftReplicator(options, consumer, random));
  RETURN_IF_ERROR(replicator->Load());
  return replicator;
}

RaftReplicator::RaftReplicator(const RaftReplicatorOptions& options, LogConsumer* consumer, Random* random)
    : options_(options), consumer_(consumer), proposer_(random->NextNonZero()), applied_(options.applied_entries) {
  CHECK(options.snapshot_trailing > 0, "libraft takes a snapshot without trailing entries for one that it received");
}

RaftReplicator::~RaftReplicator() {
  Stop();
  if (raft_ != nullptr) tarn_raft_free(raft_);
  for (const Proposal& proposal : incoming_) std::free(proposal.frame);
}

Status RaftReplicator::Load() {
  tarn_raft_options options{};
  options.directory = options_.directory.c_str();
  options.member_id = options_.member_id;
  options.election_timeout_ms = options_.election_timeout_ms;
  options.heartbeat_ms = options_.election_timeout_ms / 10;
  options.snapshot_entries = options_.snapshot_entries_max;
  options.snapshot_trailing = options_.snapshot_trailing;
  options.tick_ms = kTickMs;
  const tarn_raft_callbacks callbacks = RaftCallbacks::Table(this);
  std::array<char, TARN_RAFT_ERROR_BYTES> error{};
  const int code = tarn_raft_open(&options, &callbacks, &raft_, error.data());
  RETURN_IF_ERROR(load_error_);
  if (code != 0) return Status(StatusCode::kCorruption, std::string("load the log: ") + error.data());
  if (tarn_raft_voters(raft_) != 1) {
    return Status(StatusCode::kNotSupported,
                  options_.directory + ": the log's group has several members: not supported yet");
  }
  return Status::Ok();
}

void RaftReplicator::Start() {
  apply_thread_ = StartNamedThread("apply", [this] { RunApply(); });
  flush_thread_ = StartNamedThread("flush", [this] { RunFlush(); });
  raft_thread_ = StartNamedThread("raft", [this] { tarn_raft_run(raft_); });
}

void RaftReplicator::Propose(std::string entry, Committed committed) {
  Proposal proposal;
  proposal.entry_bytes = entry.size();
  proposal.frame_bytes = LogFrameBytes(entry.size());
  proposal.committed = std::move(committed);
  const uint64_t before = in_flight_bytes_.fetch_add(entry.size(), std::memory_order_relaxed);
  const bool full = before != 0 && before + entry.size() > options_.in_flight_bytes_max;
  if (!full) {
    proposal.frame = static_cast<uint8_t*>(std::malloc(proposal.frame_bytes));
    CHECK(proposal.frame != nullptr, "out of memory");
    EncodeLogFrame({.durable_index = 0, .proposer = proposer_, .proposal = 0, .entry = entry},
                   {proposal.frame, proposal.frame_bytes});
    MutexLock lock(mutex_);
    if (!stop_requested_) {
      incoming_.push_back(std::move(proposal));
      const bool first = incoming_.size() == 1;
      // The loop lives until the stop was requested, hence the wake under the lock.
      if (first) tarn_raft_wake(raft_);
      return;
    }
  }
  std::free(proposal.frame);
  Task answer;
  answer.kind = Task::Kind::kAnswer;
  answer.entry_bytes = proposal.entry_bytes;
  answer.committed = std::move(proposal.committed);
  answer.status = full ? Status(StatusCode::kResourceExhausted, "too many bytes wait for the log")
                       : Status(StatusCode::kCancelled, "the server stops");
  Enqueue(std::move(answer));
}

bool RaftReplicator::HoldsLease() const {
  // One voter: nobody else can be elected while it does not step down.
  const uint64_t leading = leading_term_.load(std::memory_order_acquire);
  return leading != 0 && ready_term_.load(std::memory_order_acquire) == leading &&
         !failed_.load(std::memory_order_acquire);
}

uint64_t RaftReplicator::leader_member() const {
  return leading_term_.load(std::memory_order_relaxed) != 0 ? options_.member_id : 0;
}

// ---- Raft thread ----

void RaftReplicator::OnApply(std::string_view bytes) {
  ++handed_;
  bytes_since_snapshot_ += bytes.size();
  if (bytes_since_snapshot_ > options_.snapshot_bytes_max && !snapshot_forced_) {
    snapshot_forced_ = true;
    tarn_raft_set_snapshot_entries(raft_, 1);
  }
  if (handed_ <= options_.applied_entries) return;
  const auto frame = DecodeLogFrame(Bytes(bytes));
  if (!frame.ok()) {
    Fail(frame.status().WithContext(options_.directory + ": log entry " + std::to_string(handed_)));
    return;
  }
  Task task;
  task.entry = std::string(frame->entry);
  task.number = handed_;
  if (frame->proposer == proposer_ && !pending_.empty() && pending_.front().tag == frame->proposal) {
    task.committed = std::move(pending_.front().committed);
    task.entry_bytes = pending_.front().entry_bytes;
    pending_.pop_front();
  }
  Enqueue(std::move(task));
  // Not here: libraft is in the middle of a step.
  if (closing_) tarn_raft_wake(raft_);
}

void RaftReplicator::OnBarrier(uint64_t barrier_term) {
  if (handed_ < options_.applied_entries) {
    Fail(Status(StatusCode::kCorruption, options_.directory + ": the log ends at entry " + std::to_string(handed_) +
                                             " but the state holds " + std::to_string(options_.applied_entries) +
                                             ": log or state was damaged or replaced"));
    return;
  }
  Task task;
  task.kind = Task::Kind::kGained;
  task.number = barrier_term;
  Enqueue(std::move(task));
}

void RaftReplicator::OnLeadership(bool leads, uint64_t new_term) {
  term_.store(new_term, std::memory_order_relaxed);
  leading_term_.store(leads ? new_term : 0, std::memory_order_release);
  if (leads) {
    if (tarn_raft_barrier(raft_) != 0)
      Fail(Status(StatusCode::kInternal, "the log refused the barrier of a new leader"));
    return;
  }
  Task task;
  task.kind = Task::Kind::kLost;
  Enqueue(std::move(task));
}

void RaftReplicator::OnLost(uint64_t tag) {
  while (!pending_.empty() && pending_.front().tag <= tag) {
    Task answer;
    answer.kind = Task::Kind::kAnswer;
    answer.entry_bytes = pending_.front().entry_bytes;
    answer.committed = std::move(pending_.front().committed);
    answer.status = Status(StatusCode::kNotLeader, "leadership was lost before the entry was committed");
    pending_.pop_front();
    Enqueue(std::move(answer));
  }
}

Status RaftReplicator::OnRestore(std::string_view data) {
  auto marker = DecodeSnapshotMarker(Bytes(data));
  if (!marker.ok()) return marker.status().WithContext(options_.directory);
  if (!options_.cluster_id.empty() && marker->cluster_id() != options_.cluster_id) {
    return Status(StatusCode::kCorruption, options_.directory + ": the log belongs to another cluster");
  }
  if (marker->applied_entries() > options_.applied_entries) {
    return Status(StatusCode::kCorruption, options_.directory + ": the log begins behind entry " +
                                               std::to_string(marker->applied_entries()) +
                                               " but the state holds only " + std::to_string(options_.applied_entries) +
                                               ": log or state was damaged or replaced");
  }
  handed_ = marker->applied_entries();
  return Status::Ok();
}

std::string RaftReplicator::MakeMarker() {
  proto::SnapshotMarker marker;
  marker.set_version(1);
  marker.set_applied_entries(handed_);
  marker.set_cluster_id(options_.cluster_id);
  bytes_since_snapshot_ = 0;
  if (snapshot_forced_) {
    snapshot_forced_ = false;
    tarn_raft_set_snapshot_entries(raft_, options_.snapshot_entries_max);
  }
  MutexLock lock(mutex_);
  flush_through_ = handed_;
  return EncodeSnapshotMarker(marker);
}

void RaftReplicator::ProposeOnLoop(Proposal proposal) {
  const uint64_t tag = next_tag_++;
  const uint64_t durable_index = tarn_raft_durable_index(raft_);
  std::memcpy(proposal.frame + kDurableIndexOffset, &durable_index, sizeof durable_index);
  std::memcpy(proposal.frame + kProposalOffset, &tag, sizeof tag);
  // Before the proposal: were it committed at once, OnApply would look for it.
  pending_.push_back({tag, proposal.entry_bytes, std::move(proposal.committed)});
  std::array<char, TARN_RAFT_ERROR_BYTES> error{};
  const int code = tarn_raft_propose(raft_, proposal.frame, proposal.frame_bytes, tag, error.data());
  if (code == 0) return;
  std::free(proposal.frame);
  if (!tarn_raft_is_not_leader(code)) {
    Fail(Status(StatusCode::kIoError, options_.directory + ": " + error.data()));
    return;
  }
  Task answer;
  answer.kind = Task::Kind::kAnswer;
  answer.entry_bytes = pending_.back().entry_bytes;
  answer.committed = std::move(pending_.back().committed);
  answer.status = Status(StatusCode::kNotLeader, "this member does not lead");
  pending_.pop_back();
  Enqueue(std::move(answer));
}

void RaftReplicator::OnWoken() {
  std::vector<Proposal> proposals;
  bool release = false;
  bool stop = false;
  {
    MutexLock lock(mutex_);
    proposals.swap(incoming_);
    release = std::exchange(release_snapshot_, false);
    stop = stop_requested_;
  }
  for (Proposal& proposal : proposals) ProposeOnLoop(std::move(proposal));
  if (release && tarn_raft_release_snapshot(raft_) != 0) {
    Fail(Status(StatusCode::kIoError, options_.directory + ": the snapshot marker cannot be written"));
  }
  if (stop) {
    closing_ = true;
    CloseIfIdle(failed_.load(std::memory_order_acquire));
  }
}

void RaftReplicator::CloseIfIdle(bool at_once) {
  if (closing_ && (at_once || pending_.empty())) tarn_raft_close(raft_);
}

void RaftReplicator::OnTick() {
  if (closing_) {
    CloseIfIdle(++closing_ticks_ >= kCloseTicksMax);
    return;
  }
  if (const Status status = CheckDisk(options_.directory, options_.disk_reserve_bytes); !status.ok()) {
    Fail(status);
    return;
  }
  // Counted in ticks, not in time: a machine that was suspended has not stalled.
  const uint64_t oldest = pending_.empty() ? 0 : pending_.front().tag;
  stalled_ticks_ = oldest != 0 && oldest == stalled_tag_ ? stalled_ticks_ + 1 : 0;
  stalled_tag_ = oldest;
  if (stalled_ticks_ >= options_.stall_limit_s) {
    Fail(Status(StatusCode::kTimeout, options_.directory + ": a write to the log has not ended after " +
                                          std::to_string(stalled_ticks_) + " s"));
  }
}

// ---- Any thread ----

void RaftReplicator::Enqueue(Task task) {
  MutexLock lock(mutex_);
  tasks_.push_back(std::move(task));
  if (tasks_.size() == 1) apply_wake_.NotifyOne();
}

void RaftReplicator::Fail(const Status& status) {
  if (failed_.exchange(true)) return;
  spdlog::error("the metadata log failed: {}", status.ToString());
  consumer_->Failed(status);
}

// ---- Apply thread ----

void RaftReplicator::RunApply() {
  std::deque<Task> batch;
  while (true) {
    {
      MutexLock lock(mutex_);
      while (tasks_.empty() && !loop_ended_) apply_wake_.Wait(lock);
      if (tasks_.empty()) return;
      batch.swap(tasks_);
    }
    for (Task& task : batch) {
      if (!RunTask(task)) return;
    }
    batch.clear();
  }
}

bool RaftReplicator::RunTask(Task& task) {
  if (failed_.load(std::memory_order_acquire)) return false;
  switch (task.kind) {
    case Task::Kind::kEntry: {
      if (const Status status = consumer_->Apply(task.entry, task.number); !status.ok()) {
        Fail(status.WithContext("apply log entry " + std::to_string(task.number)));
        return false;
      }
      MutexLock lock(mutex_);
      applied_ = task.number;
      if (flush_requested_) flush_wake_.NotifyAll();
      break;
    }
    case Task::Kind::kAnswer:
      break;
    case Task::Kind::kGained:
      if (task.number == leading_term_.load(std::memory_order_acquire)) {
        consumer_->LeadershipGained(task.number);
        ready_term_.store(task.number, std::memory_order_release);
      }
      break;
    case Task::Kind::kLost:
      consumer_->LeadershipLost();
      break;
  }
  if (task.committed) task.committed(task.status);
  in_flight_bytes_.fetch_sub(task.entry_bytes, std::memory_order_relaxed);
  return true;
}

// ---- Flush thread ----

bool RaftReplicator::WaitForFlushRequest() {
  MutexLock lock(mutex_);
  while (!loop_ended_ && !failed_.load(std::memory_order_acquire)) {
    if (flush_requested_ && applied_ >= flush_through_) {
      flush_requested_ = false;
      return true;
    }
    flush_wake_.Wait(lock);
  }
  return false;
}

void RaftReplicator::RunFlush() {
  while (WaitForFlushRequest()) {
    if (const Status status = consumer_->MakeDurable(); !status.ok()) {
      Fail(status.WithContext("make the state durable"));
      return;
    }
    MutexLock lock(mutex_);
    release_snapshot_ = true;
    if (!loop_ended_) tarn_raft_wake(raft_);
  }
}

void RaftReplicator::Stop() {
  {
    MutexLock lock(mutex_);
    if (stopped_) return;
    stopped_ = true;
    stop_requested_ = true;
    if (raft_thread_.joinable()) tarn_raft_wake(raft_);
  }
  if (!raft_thread_.joinable()) {
    // Never started: the loop runs once more to close what Load opened.
    if (raft_ != nullptr) {
      tarn_raft_close(raft_);
      tarn_raft_run(raft_);
    }
    return;
  }
  raft_thread_.join();
  leading_term_.store(0, std::memory_order_release);
  {
    MutexLock lock(mutex_);
    loop_ended_ = true;
    apply_wake_.NotifyAll();
    flush_wake_.NotifyAll();
  }
  apply_thread_.join();
  flush_thread_.join();
  if (failed_.load(std::memory_order_acquire)) return;
  if (const Status status = consumer_->MakeDurable(); !status.ok()) Fail(status.WithContext("make the state durable"));
}

}  // namespace tarn::meta
