// The replicator's outside and its apply, flush and checkpoint threads. What drives libraft: raft_loop.cc.
#include "metaserver/replication/raft_replicator.h"

#include <spdlog/spdlog.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "common/base/check.h"
#include "common/base/named_thread.h"
#include "metaserver/replication/log_frame.h"
#include "metaserver/replication/raft_core.h"
#include "metaserver/replication/raft_member_io.h"

namespace tarn::meta {
namespace {

constexpr size_t kChangesMax = 64;
constexpr size_t kReceivedMessagesMax = 8192;
constexpr size_t kReceivedBytesMax = 64u << 20;
constexpr auto kCheckpointRetryInterval = std::chrono::milliseconds(500);

bool IsPassing(StatusCode code) {
  return code == StatusCode::kUnavailable || code == StatusCode::kTimeout || code == StatusCode::kNotLeader ||
         code == StatusCode::kBusy || code == StatusCode::kResourceExhausted || code == StatusCode::kCancelled;
}

Status RefuseOldLog(const std::string& directory) {
  std::error_code ignored;
  if (LogFiles::Exists(directory)) return Status::Ok();
  for (const char* name : {"metadata1", "metadata2"}) {
    if (!std::filesystem::exists(directory + "/" + name, ignored)) continue;
    return Status(StatusCode::kNotSupported,
                  directory +
                      ": a log of an earlier version, which this one cannot read: start the earlier version on "
                      "it, copy the data out, and make the cluster anew");
  }
  return Status::Ok();
}

}  // namespace

Status RaftReplicator::Bootstrap(const std::string& directory, uint64_t member_id, const std::string& address) {
  size_t bytes = 0;
  const std::string name = address.empty() ? "member-" + std::to_string(member_id) : address;
  uint8_t* configuration = tarn_first_configuration(member_id, name.c_str(), &bytes);
  CHECK(configuration != nullptr, "out of memory");
  SystemRandom random;
  const LogEntryRef entry{.term = 1, .type = 3, .bytes = {configuration, bytes}};
  const Status status = LogFiles::Create(directory, entry, &random);
  std::free(configuration);
  return status.ok() ? status : status.WithContext("make the log");
}

Status RaftReplicator::PrepareToJoin(const std::string& directory) {
  SystemRandom random;
  const Status status = LogFiles::Create(directory, std::nullopt, &random);
  return status.ok() ? status : status.WithContext("make the log");
}

Result<std::unique_ptr<RaftReplicator>> RaftReplicator::Open(const RaftReplicatorOptions& options,
                                                             LogConsumer* consumer, Random* random) {
  RETURN_IF_ERROR(RefuseOldLog(options.directory));
  RETURN_IF_ERROR(DiskReserve(options.directory, options.disk_reserve_bytes).Check(/*alone=*/true));
  std::unique_ptr<RaftReplicator> replicator(new RaftReplicator(options, consumer, random));
  RETURN_IF_ERROR(replicator->Load());
  return replicator;
}

RaftReplicator::RaftReplicator(const RaftReplicatorOptions& options, LogConsumer* consumer, Random* random)
    : options_(options),
      consumer_(consumer),
      random_(random),
      proposer_(random->NextNonZero()),
      reserve_(options.directory, options.disk_reserve_bytes),
      clock_(options.clock != nullptr ? options.clock : &system_clock_),
      lease_(clock_, options.election_timeout_ms),
      group_({.member_id = options.member_id, .election_timeout_ms = options.election_timeout_ms}, clock_, &lease_,
             [this](Changed done, Status status) { AnswerChange(std::move(done), std::move(status)); }),
      skip_through_(options.applied_entries),
      applied_(options.applied_entries) {
  CHECK(options.snapshot_trailing > 0, "libraft takes a snapshot without trailing entries for one that it received");
}

RaftReplicator::~RaftReplicator() {
  Stop();
  for (const Proposal& proposal : incoming_) std::free(proposal.frame);
}

void RaftReplicator::Start() {
  apply_thread_ = StartNamedThread("apply", [this] { RunApply(); });
  flush_thread_ = StartNamedThread("flush", [this] { RunFlush(); });
  checkpoint_thread_ = StartNamedThread("checkpoint", [this] { RunCheckpoint(); });
  raft_thread_ = StartNamedThread("raft", [this] { RunLoop(); });
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
      if (Drive(lock)) WakeApply();
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

void RaftReplicator::Receive(uint64_t from_member, const std::string& from_address, std::string message) {
  MutexLock lock(mutex_);
  if (stop_requested_ || received_.size() >= kReceivedMessagesMax || received_bytes_ > kReceivedBytesMax) return;
  received_bytes_ += message.size();
  received_.push_back({.member = from_member, .address = from_address, .bytes = std::move(message)});
  if (Drive(lock)) WakeApply();
}

bool RaftReplicator::HoldsLease() const {
  const uint64_t leading = leading_term_.load(std::memory_order_acquire);
  if (leading == 0 || ready_term_.load(std::memory_order_acquire) != leading ||
      failed_.load(std::memory_order_acquire)) {
    return false;
  }
  if (votes_alone_.load(std::memory_order_acquire)) return true;
  return lease_.Holds();
}

uint64_t RaftReplicator::leader_member() const { return leader_.load(std::memory_order_relaxed); }

std::vector<GroupMember> RaftReplicator::members() const {
  MutexLock lock(mutex_);
  return members_;
}

Result<std::vector<MemberProgress>> RaftReplicator::Progress() const {
  if (leading_term_.load(std::memory_order_acquire) == 0) {
    return Status(StatusCode::kNotLeader, "this member does not lead");
  }
  MutexLock lock(mutex_);
  return progress_;
}

void RaftReplicator::AddMember(uint64_t member, const std::string& address, Changed done) {
  RequestChange({.kind = GroupChange::Kind::kAdd, .member = member, .address = address, .done = std::move(done)});
}

void RaftReplicator::PromoteMember(uint64_t member, Changed done) {
  RequestChange({.kind = GroupChange::Kind::kPromote, .member = member, .address = "", .done = std::move(done)});
}

void RaftReplicator::RemoveMember(uint64_t member, Changed done) {
  RequestChange({.kind = GroupChange::Kind::kRemove, .member = member, .address = "", .done = std::move(done)});
}

void RaftReplicator::TransferLeadership(uint64_t member, Changed done) {
  RequestChange({.kind = GroupChange::Kind::kTransfer, .member = member, .address = "", .done = std::move(done)});
}

// ---- Any thread ----

void RaftReplicator::RequestChange(GroupChange change) {
  Status refused;
  {
    MutexLock lock(mutex_);
    if (stop_requested_) {
      refused = Status(StatusCode::kCancelled, "the server stops");
    } else if (changes_.size() >= kChangesMax) {
      refused = Status(StatusCode::kResourceExhausted, "too many changes of the group wait");
    } else {
      changes_.push_back(std::move(change));
      WakeLoop();
      return;
    }
  }
  AnswerChange(std::move(change.done), std::move(refused));
}

void RaftReplicator::AnswerChange(Changed done, Status status) {
  Task answer;
  answer.kind = Task::Kind::kAnswer;
  answer.committed = std::move(done);
  answer.status = std::move(status);
  Enqueue(std::move(answer));
}

void RaftReplicator::WakeLoop() {
  if (loop_awake_) return;
  loop_awake_ = true;
  loop_wake_.NotifyOne();
}

void RaftReplicator::Enqueue(Task task) {
  MutexLock lock(mutex_);
  tasks_.push_back(std::move(task));
  if (!driving_) WakeApply();  // who drives does it when it is through
}

void RaftReplicator::WakeApply() {
  if (!tasks_.empty() && !applying_) apply_wake_.NotifyOne();
}

void RaftReplicator::EndApplying() {
  applying_ = false;
  if (install_entries_ != 0 && tasks_.empty()) checkpoint_wake_.NotifyAll();
}

void RaftReplicator::Fail(const Status& status) {
  if (failed_.exchange(true)) return;
  spdlog::error("the metadata log failed, this member falls silent: {}", status.ToString());
  consumer_->Failed(status);
}

// ---- Apply thread ----

void RaftReplicator::RunApply() {
  std::deque<Task> batch;
  MutexLock lock(mutex_);
  while (true) {
    while ((tasks_.empty() || applying_) && !loop_ended_) apply_wake_.Wait(lock);
    if (tasks_.empty()) return;
    batch.swap(tasks_);
    applying_ = true;
    lock.Unlock();
    for (Task& task : batch) {
      if (!RunTask(task)) return;
    }
    batch.clear();
    lock.Lock();
    EndApplying();
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
    case Task::Kind::kMembers:
      consumer_->MembersChanged(task.members);
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
    WakeLoop();
  }
}

// ---- Checkpoint thread ----

bool RaftReplicator::WaitForCheckpointRequest(CheckpointRequest* request) {
  MutexLock lock(mutex_);
  while (!loop_ended_ && !stopping_.load(std::memory_order_acquire)) {
    if (install_entries_ != 0 && tasks_.empty() && !applying_) {
      request->leader = leader_.load(std::memory_order_relaxed);
      request->leader_address = leader_address_;
      request->at_least_entries = install_entries_;
      return true;
    }
    checkpoint_wake_.Wait(lock);
  }
  return false;
}

void RaftReplicator::RunCheckpoint() {
  CheckpointRequest request;
  request.cancelled = [this] { return stopping_.load(std::memory_order_acquire); };
  while (WaitForCheckpointRequest(&request)) {
    spdlog::info("fetches a checkpoint leader={} address={} at_least_entries={}", request.leader,
                 request.leader_address, request.at_least_entries);
    const auto installed = consumer_->InstallCheckpoint(request);
    MutexLock lock(mutex_);
    if (installed.ok() && *installed >= request.at_least_entries) {
      applied_ = *installed;
      install_entries_ = 0;
      release_snapshot_ = true;
      WakeLoop();
      continue;
    }
    if (installed.ok() || IsPassing(installed.status().code())) {
      spdlog::warn("no checkpoint yet: {}",
                   installed.ok() ? "it holds too few entries" : installed.status().ToString());
      if (!stopping_.load(std::memory_order_acquire)) checkpoint_wake_.WaitFor(lock, kCheckpointRetryInterval);
      continue;
    }
    lock.Unlock();
    Fail(installed.status().WithContext("take over a checkpoint"));
    return;
  }
}

void RaftReplicator::Stop() {
  {
    MutexLock lock(mutex_);
    if (stopped_) return;
    stopped_ = true;
    stop_requested_ = true;
    stopping_.store(true, std::memory_order_release);
    checkpoint_wake_.NotifyAll();
    WakeLoop();
  }
  if (!raft_thread_.joinable()) {
    if (raft_ != nullptr) CloseLoop();
    if (writer_ != nullptr) writer_->Stop(false);
    return;
  }
  raft_thread_.join();
  leading_term_.store(0, std::memory_order_release);
  {
    MutexLock lock(mutex_);
    loop_ended_ = true;
    apply_wake_.NotifyAll();
    flush_wake_.NotifyAll();
    checkpoint_wake_.NotifyAll();
  }
  apply_thread_.join();
  flush_thread_.join();
  checkpoint_thread_.join();
  if (failed_.load(std::memory_order_acquire)) return;
  if (const Status status = consumer_->MakeDurable(); !status.ok()) Fail(status.WithContext("make the state durable"));
}

}  // namespace tarn::meta
