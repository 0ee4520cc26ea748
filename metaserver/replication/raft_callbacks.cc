// What libraft calls.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <span>
#include <utility>

#include "metaserver/replication/log_frame.h"
#include "metaserver/replication/raft_core.h"
#include "metaserver/replication/raft_envelope.h"
#include "metaserver/replication/raft_member_io.h"
#include "metaserver/replication/raft_message.h"
#include "metaserver/replication/raft_replicator.h"

namespace tarn::meta {
namespace {

constexpr size_t kMessageBytesAimed = 1u << 20;
constexpr size_t kHeldMessagesMax = 1024;
constexpr uint32_t kHeartbeatsPerElectionTimeout = 10;
constexpr uint32_t kCatchUpRoundMs = 60'000;

std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

// The C callbacks, turned into calls of the replicator.
struct RaftCallbacks {
  static RaftReplicator* Of(void* context) { return static_cast<RaftReplicator*>(context); }
  static std::string_view Text(const void* data, size_t bytes) { return {static_cast<const char*>(data), bytes}; }

  static void Apply(void* context, const void* data, size_t bytes) { Of(context)->OnApply(Text(data, bytes)); }
  static void Barrier(void* context, uint64_t term, uint64_t tag) { Of(context)->OnBarrier(term, tag); }
  static void Leadership(void* context, bool leads, uint64_t term, uint64_t leader, const char* address) {
    Of(context)->OnLeadership(leads, term, leader, address);
  }
  static void NotLeading(void* context) { Of(context)->leading_term_.store(0, std::memory_order_release); }
  static void Lost(void* context, uint64_t tag) { Of(context)->OnLost(tag); }
  static void Changed(void* context, int code) { Of(context)->group_.OnChanged(code); }
  static void Transferred(void* context) { Of(context)->group_.OnTransferred(); }
  static void Members(void* context) { Of(context)->OnMembers(); }
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
  static void Install(void* context, const void* data, size_t bytes) { Of(context)->OnInstall(Text(data, bytes)); }
  static void Stranger(void* context, uint64_t id, const char* address, uint64_t configuration_index) {
    size_t bytes = 0;
    uint8_t* data = tarn_message_encode_removed(configuration_index, &bytes);
    if (data == nullptr) return;
    Of(context)->OnSend(id, address, Text(data, bytes));
    std::free(data);
  }

  static uint64_t NowMs(void* context) { return static_cast<uint64_t>(Of(context)->clock_->MonotonicMs()); }
  static uint32_t Random(void* context) { return static_cast<uint32_t>(Of(context)->random_->Next() >> 33); }
  static void WriteVote(void* context, uint64_t term, uint64_t voted_for) {
    RaftReplicator* replicator = Of(context);
    replicator->vote_ticket_ = replicator->writer_->WriteVote(term, voted_for);
    replicator->writes_.push_back({.ticket = replicator->vote_ticket_, .request = nullptr, .is_append = false});
  }
  static void Append(void* context, uint64_t first_index, const tarn_entry* entries, size_t count, void* request) {
    RaftReplicator* replicator = Of(context);
    std::vector<LogEntryRef> list;
    list.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      list.push_back({.term = entries[i].term,
                      .type = entries[i].type,
                      .bytes = {static_cast<const uint8_t*>(entries[i].data), entries[i].bytes}});
    }
    const uint64_t ticket = replicator->writer_->Append(first_index, std::move(list));
    replicator->writes_.push_back({.ticket = ticket, .request = request, .is_append = true});
  }
  static void PutSnapshot(void* context, const tarn_snapshot* snapshot, uint64_t keep_from, void* request) {
    RaftReplicator* replicator = Of(context);
    LogMarker marker;
    marker.index = snapshot->index;
    marker.term = snapshot->term;
    marker.configuration_index = snapshot->configuration_index;
    marker.configuration = Text(snapshot->configuration, snapshot->configuration_bytes);
    marker.data = Text(snapshot->data, snapshot->data_bytes);
    const uint64_t ticket = replicator->writer_->PutMarker(std::move(marker), keep_from);
    replicator->writes_.push_back({.ticket = ticket, .request = request, .is_append = false});
  }
  static void Send(void* context, uint64_t to, const char* address, const uint8_t* data, size_t bytes) {
    Of(context)->OnSend(to, address, Text(data, bytes));
  }

  static tarn_raft_callbacks Table(RaftReplicator* replicator) {
    tarn_raft_callbacks table{};
    table.context = replicator;
    table.apply = Apply;
    table.barrier = Barrier;
    table.leadership = Leadership;
    table.not_leading = NotLeading;
    table.lost = Lost;
    table.changed = Changed;
    table.transferred = Transferred;
    table.members = Members;
    table.restore = Restore;
    table.snapshot = Snapshot;
    table.snapshot_held = SnapshotHeld;
    table.install = Install;
    table.stranger = Stranger;
    return table;
  }
  static tarn_member_io_functions IoFunctions(RaftReplicator* replicator) {
    tarn_member_io_functions functions{};
    functions.context = replicator;
    functions.now_ms = NowMs;
    functions.random = Random;
    functions.write_vote = WriteVote;
    functions.append = Append;
    functions.put_snapshot = PutSnapshot;
    functions.send = Send;
    functions.message_bytes_max = kMessageBytesAimed;
    return functions;
  }
  static tarn_member_io* MakeIo(RaftReplicator* replicator, const LoadedLog& log);
};

tarn_member_io* RaftCallbacks::MakeIo(RaftReplicator* replicator, const LoadedLog& log) {
  std::vector<tarn_entry> entries;
  entries.reserve(log.entries.size());
  for (const LoadedEntry& entry : log.entries) {
    entries.push_back(
        {.term = entry.term, .type = entry.type, .data = entry.bytes.data(), .bytes = entry.bytes.size()});
  }
  tarn_snapshot snapshot{};
  if (log.marker) {
    snapshot.index = log.marker->index;
    snapshot.term = log.marker->term;
    snapshot.configuration_index = log.marker->configuration_index;
    snapshot.configuration = log.marker->configuration.data();
    snapshot.configuration_bytes = log.marker->configuration.size();
    snapshot.data = log.marker->data.data();
    snapshot.data_bytes = log.marker->data.size();
  }
  tarn_loaded loaded{};
  loaded.term = log.term;
  loaded.voted_for = log.voted_for;
  loaded.snapshot = log.marker ? &snapshot : nullptr;
  loaded.start_index = log.start_index;
  loaded.entries = entries.data();
  loaded.entry_count = entries.size();
  const tarn_member_io_functions functions = IoFunctions(replicator);
  return tarn_member_io_new(&functions, &loaded);
}

Status RaftReplicator::Load() {
  LoadedLog log;
  ASSIGN_OR_RETURN(std::unique_ptr<LogFiles> files, LogFiles::Open(options_.directory, random_, &log));
  if (!log.torn.empty()) {
    spdlog::warn("the log's last write was cut short and is dropped: nobody was told of it place={}", log.torn);
  }
  if (!log.entries.empty() && log.term == 0) {
    return Status(StatusCode::kCorruption, options_.directory + ": the log has entries but term and vote are empty");
  }
  io_ = RaftCallbacks::MakeIo(this, log);
  if (io_ == nullptr)
    return Status(StatusCode::kCorruption, options_.directory + ": a configuration of the group is damaged");
  writer_ = std::make_unique<LogWriter>(
      std::move(files),
      LogWriter::Listener{.done =
                              [this](uint64_t ticket, bool last) { OnWritten(ticket, last); },
                          .failed =
                              [this](const Status& status) {
                                Fail(status.WithContext(options_.directory + ": a write to the log failed"));
                              }});
  const std::string address =
      options_.address.empty() ? "member-" + std::to_string(options_.member_id) : options_.address;
  tarn_raft_options options{};
  options.member_id = options_.member_id;
  options.address = address.c_str();
  options.election_timeout_ms = options_.election_timeout_ms;
  options.heartbeat_ms = options_.election_timeout_ms / kHeartbeatsPerElectionTimeout;
  options.snapshot_entries = options_.snapshot_entries_max;
  options.snapshot_trailing = options_.snapshot_trailing;
  options.catch_up_round_ms = kCatchUpRoundMs;
  const tarn_raft_callbacks callbacks = RaftCallbacks::Table(this);
  std::array<char, TARN_RAFT_ERROR_BYTES> error{};
  const int code = tarn_raft_open(&options, &callbacks, tarn_member_io_table(io_), &raft_, error.data());
  group_.SetRaft(raft_);
  lease_.SetRaft(raft_);
  if (code == 0) return Status::Ok();
  tarn_member_io_free(std::exchange(io_, nullptr));
  RETURN_IF_ERROR(load_error_);
  return Status(StatusCode::kCorruption, options_.directory + ": load the log: " + error.data());
}

void RaftReplicator::OnApply(std::string_view bytes) {
  ++handed_;
  bytes_since_snapshot_ += bytes.size();
  if (bytes_since_snapshot_ > options_.snapshot_bytes_max && !snapshot_forced_) {
    snapshot_forced_ = true;
    tarn_raft_set_snapshot_entries(raft_, 1);
  }
  if (handed_ <= skip_through_) return;
  const auto frame = DecodeLogFrame(Bytes(bytes));
  if (!frame.ok()) {
    Fail(frame.status().WithContext(options_.directory + ": log entry " + std::to_string(handed_)));
    return;
  }
  Task task;
  task.entry = std::string(frame->entry);
  task.number = handed_;
  if (frame->proposer == proposer_ && !pending_.empty() && pending_.front().tag == frame->proposal) {
    lease_.Renew(pending_.front().submitted_ns);
    task.committed = std::move(pending_.front().committed);
    task.entry_bytes = pending_.front().entry_bytes;
    pending_.pop_front();
  }
  Enqueue(std::move(task));
}

void RaftReplicator::OnBarrier(uint64_t barrier_term, uint64_t tag) {
  lease_.OnBarrier(tag);
  // One per term is told: the first.
  if (ready_term_.load(std::memory_order_relaxed) == barrier_term || gained_term_ == barrier_term) return;
  if (handed_ < skip_through_) {
    Fail(Status(StatusCode::kCorruption, options_.directory + ": the log ends at entry " + std::to_string(handed_) +
                                             " but the state holds " + std::to_string(skip_through_) +
                                             ": log or state was damaged or replaced"));
    return;
  }
  gained_term_ = barrier_term;
  Task task;
  task.kind = Task::Kind::kGained;
  task.number = barrier_term;
  Enqueue(std::move(task));
}

void RaftReplicator::OnLeadership(bool leads, uint64_t new_term, uint64_t leader, const char* leader_address) {
  const bool led = led_;
  const bool led_other_term = led && new_term != term_.load(std::memory_order_relaxed);
  led_ = leads;
  term_.store(new_term, std::memory_order_relaxed);
  leader_.store(leader, std::memory_order_relaxed);
  {
    MutexLock lock(mutex_);
    leader_address_ = leader_address;
    checkpoint_wake_.NotifyAll();
  }
  if (led && (!leads || led_other_term)) {
    leading_term_.store(0, std::memory_order_release);
    lease_.End();
    Task task;
    task.kind = Task::Kind::kLost;
    Enqueue(std::move(task));
  }
  if (!leads || (led && !led_other_term)) return;
  group_.ForgetHeard();
  leading_term_.store(new_term, std::memory_order_release);
  // Nobody else could lead: known before the first change. Else a tick decides.
  if (tarn_raft_votes_alone(raft_)) NoteRoom(clock_->MonotonicMs());
  lease_.Begin();
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
  if (marker->applied_entries() > skip_through_) {
    return Status(StatusCode::kCorruption, options_.directory + ": the log begins behind entry " +
                                               std::to_string(marker->applied_entries()) +
                                               " but the state holds only " + std::to_string(skip_through_) +
                                               ": log or state was damaged or replaced");
  }
  handed_ = marker->applied_entries();
  bytes_since_snapshot_ = 0;
  return Status::Ok();
}

void RaftReplicator::OnInstall(std::string_view data) {
  const auto marker = DecodeSnapshotMarker(Bytes(data));
  if (!marker.ok()) {
    Fail(marker.status().WithContext("a leader's snapshot"));
    return;
  }
  if (!options_.cluster_id.empty() && marker->cluster_id() != options_.cluster_id) {
    Fail(Status(StatusCode::kCorruption, "a leader's snapshot belongs to another cluster"));
    return;
  }
  MutexLock lock(mutex_);
  if (marker->applied_entries() > std::max(skip_through_, handed_)) {
    install_entries_ = marker->applied_entries();
    checkpoint_wake_.NotifyAll();
    return;
  }
  // The state has everything, or will once it has applied what it was handed: only then the old log may go.
  skip_through_ = std::max(skip_through_, handed_);
  flush_through_ = marker->applied_entries();
  flush_requested_ = true;
  flush_wake_.NotifyAll();
}

void RaftReplicator::OnSend(uint64_t to, const char* address, std::string_view body) {
  if (options_.transport == nullptr || failed_.load(std::memory_order_acquire)) return;
  Message message{.member = to, .address = address, .bytes = CloseEnvelope(body)};
  if (message.bytes.size() > kRaftMessageBytesMax) {
    spdlog::error("a message is too large and cannot be sent bytes={}", message.bytes.size());
    return;
  }
  if (done_ticket_ >= vote_ticket_) {
    Send(std::move(message));
  } else if (held_messages_.size() < kHeldMessagesMax) {
    held_messages_.push_back(std::move(message));
  }
}

void RaftReplicator::Send(Message message) {
  options_.transport->Send(message.member, message.address, std::move(message.bytes));
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

}  // namespace tarn::meta
