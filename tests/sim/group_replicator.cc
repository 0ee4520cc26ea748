#include "tests/sim/group_replicator.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <set>
#include <span>

#include "common/base/check.h"
#include "metaserver/replication/log_frame.h"
#include "metaserver/replication/raft_core.h"
#include "metaserver/replication/raft_envelope.h"
#include "metaserver/replication/raft_member_io.h"
#include "metaserver/replication/raft_message.h"
#include "metaserver/service/member_table.h"

namespace tarn::sim {
namespace {

constexpr unsigned kSnapshotTrailing = 4;
constexpr unsigned kCatchUpRoundMs = 60'000;
constexpr size_t kMessageBytesAimed = 1u << 20;
constexpr size_t kHeldMessagesMax = 1024;
constexpr uint8_t kConfigurationEntry = 3;

std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::string Text(const void* data, size_t bytes) { return {static_cast<const char*>(data), bytes}; }

// libraft 0.22.1 sends a field of a message that it has not set: it shall find the same there whenever a seed is run.
__attribute__((noinline)) void WipeStack() {
  volatile char space[16384];
  for (size_t i = 0; i < sizeof space; i += sizeof(uint64_t)) *reinterpret_cast<volatile uint64_t*>(space + i) = 0;
}

std::set<uint64_t> VotersOf(const std::vector<meta::GroupMember>& members) {
  std::set<uint64_t> voters;
  for (const meta::GroupMember& member : members) {
    if (member.role == meta::MemberRole::kVoter) voters.insert(member.member);
  }
  return voters;
}

}  // namespace

LogRecord FirstConfiguration(uint64_t member_id) {
  size_t bytes = 0;
  uint8_t* data = tarn_first_configuration(member_id, meta::MemberName(member_id).c_str(), &bytes);
  CHECK(data != nullptr, "out of memory");
  LogRecord record{1, kConfigurationEntry, Text(data, bytes)};
  std::free(data);
  return record;
}

// The C callbacks, turned into calls of the replicator. A dead process hears and does nothing.
struct GroupHost {
  static GroupReplicator* Of(void* context) { return static_cast<GroupReplicator*>(context); }
  static bool Dead(void* context) { return Of(context)->closing_ || Of(context)->port_->dead(); }

  static void Apply(void* context, const void* data, size_t bytes) {
    if (!Dead(context)) Of(context)->OnApply({static_cast<const char*>(data), bytes});
  }
  static void Barrier(void* context, uint64_t term, uint64_t tag) {
    if (!Dead(context)) Of(context)->OnBarrier(term, tag);
  }
  static void Leadership(void* context, bool leads, uint64_t term, uint64_t /*leader*/, const char* /*address*/) {
    if (!Dead(context)) Of(context)->OnLeadership(leads, term);
  }
  static void NotLeading(void* context) { Of(context)->leading_term_ = 0; }
  static void Lost(void* context, uint64_t tag) {
    if (!Dead(context)) Of(context)->OnLost(tag);
  }
  static void Changed(void* context, int code) {
    if (!Dead(context)) Of(context)->group_.OnChanged(code);
  }
  static void Transferred(void* context) {
    if (!Dead(context)) Of(context)->group_.OnTransferred();
  }
  static void Members(void* context) {
    if (!Dead(context)) Of(context)->OnMembers();
  }
  static int Restore(void* context, const void* data, size_t bytes) {
    return Of(context)->OnRestore({static_cast<const char*>(data), bytes}) ? 0 : -1;
  }
  static int Snapshot(void* context, void** data, size_t* bytes) {
    if (Dead(context)) return -1;
    const std::string marker = Of(context)->MakeMarker();
    *data = std::malloc(marker.size());
    std::memcpy(*data, marker.data(), marker.size());
    *bytes = marker.size();
    return 0;
  }
  static void SnapshotHeld(void* context) {
    Of(context)->flush_wanted_ = true;
    Of(context)->ReleaseIfApplied();
  }
  static void Install(void* context, const void* data, size_t bytes) {
    if (!Dead(context)) Of(context)->OnInstall({static_cast<const char*>(data), bytes});
  }
  static void Stranger(void* context, uint64_t id, const char* /*address*/, uint64_t configuration_index) {
    size_t bytes = 0;
    uint8_t* data = tarn_message_encode_removed(configuration_index, &bytes);
    CHECK(data != nullptr, "out of memory");
    if (!Dead(context)) Of(context)->OnSend(id, {reinterpret_cast<const char*>(data), bytes});
    std::free(data);
  }

  // While it starts: what a member that restarts promises begins then. With Plant::kVoteAtOnce it seems long ago.
  static uint64_t NowMs(void* context) {
    const auto now_ms = static_cast<uint64_t>(Of(context)->clock_->MonotonicMs());
    const bool earlier = Of(context)->opening_ && Of(context)->plan_.plant == Plant::kVoteAtOnce;
    return earlier ? now_ms - kElectionTimeoutMs : now_ms;
  }
  static uint32_t Random(void* context) { return static_cast<uint32_t>(Of(context)->scheduler_->dice().Next() >> 33); }
  static void WriteVote(void* context, uint64_t term, uint64_t voted_for) {
    if (!Dead(context)) Of(context)->WriteVote(term, voted_for);
  }
  static void Append(void* context, uint64_t first_index, const tarn_entry* entries, size_t count, void* request) {
    GroupReplicator* replicator = Of(context);
    if (Dead(context)) return;
    std::vector<LogRecord> records;
    for (size_t i = 0; i < count; ++i)
      records.push_back({entries[i].term, entries[i].type, Text(entries[i].data, entries[i].bytes)});
    replicator->port_->AtWrite();
    replicator->disk_->Truncate(first_index);
    replicator->disk_->Append(std::move(records), [replicator, request] {
      replicator->port_->PostToLoop(0, [replicator, request] {
        WipeStack();
        tarn_member_io_appended(replicator->io_, request);
        replicator->Settle();
      });
    });
  }
  static void PutSnapshot(void* context, const tarn_snapshot* snapshot, uint64_t keep_from, void* request) {
    GroupReplicator* replicator = Of(context);
    if (Dead(context)) return;
    StoredSnapshot stored;
    stored.index = snapshot->index;
    stored.term = snapshot->term;
    stored.configuration_index = snapshot->configuration_index;
    stored.configuration = Text(snapshot->configuration, snapshot->configuration_bytes);
    stored.data = Text(snapshot->data, snapshot->data_bytes);
    replicator->scheduler_->Trace("put snapshot", snapshot->index, snapshot->configuration_index);
    const auto trailing = static_cast<unsigned>(keep_from == 0 ? 0 : snapshot->index + 1 - keep_from);
    replicator->port_->AtWrite();
    replicator->disk_->PutSnapshot(std::move(stored), trailing, [replicator, request] {
      replicator->port_->PostToLoop(0, [replicator, request] {
        tarn_member_io_stored(replicator->io_, request);
        replicator->Settle();
      });
    });
  }
  static void Send(void* context, uint64_t to, const char* /*address*/, const uint8_t* data, size_t bytes) {
    if (!Dead(context)) Of(context)->OnSend(to, {reinterpret_cast<const char*>(data), bytes});
  }

  static tarn_raft_callbacks Table(GroupReplicator* replicator) {
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
  static tarn_member_io_functions IoFunctions(GroupReplicator* replicator) {
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
};

GroupReplicator::GroupReplicator(const SimReplicator::Options& options, const Plan& plan, ProcessPort* port,
                                 Scheduler* scheduler, SimClock* clock, LogDisk* disk, meta::LogConsumer* consumer)
    : options_(options),
      plan_(plan),
      port_(port),
      scheduler_(scheduler),
      clock_(clock),
      disk_(disk),
      consumer_(consumer),
      lease_(clock, kElectionTimeoutMs),
      group_({.member_id = options.member_id, .election_timeout_ms = kElectionTimeoutMs}, clock, &lease_,
             [this](Changed done, Status status) {
               Task answer;
               answer.kind = Task::Kind::kAnswer;
               answer.committed = std::move(done);
               answer.status = std::move(status);
               Enqueue(std::move(answer));
             }),
      skip_through_(options.applied_entries),
      applied_(options.applied_entries) {}

GroupReplicator::~GroupReplicator() {
  closing_ = true;
  if (raft_ != nullptr) {
    tarn_raft_close(raft_);
    tarn_raft_settle(raft_);
    tarn_raft_free(raft_);
  }
  if (io_ != nullptr) tarn_member_io_free(io_);
}

void GroupReplicator::Start() {
  opening_ = true;
  Open();
  opening_ = false;
  group_.SetRaft(raft_);
  lease_.SetRaft(raft_);
  Settle();
  port_->PostToLoop(clock_->WorldTime(kHeartbeatMs * kMillisecond), [this] { Tick(); });
}

void GroupReplicator::Open() {
  std::vector<tarn_entry> entries;
  for (const LogRecord& record : disk_->records()) {
    entries.push_back({.term = record.term,
                       .type = static_cast<uint8_t>(record.type),
                       .data = record.data.data(),
                       .bytes = record.data.size()});
  }
  tarn_snapshot snapshot{};
  if (disk_->snapshot()) {
    const StoredSnapshot& stored = *disk_->snapshot();
    snapshot = {.index = stored.index,
                .term = stored.term,
                .configuration_index = stored.configuration_index,
                .configuration = stored.configuration.data(),
                .configuration_bytes = stored.configuration.size(),
                .data = stored.data.data(),
                .data_bytes = stored.data.size()};
  }
  tarn_loaded loaded{};
  loaded.term = disk_->term();
  loaded.voted_for = disk_->vote();
  loaded.snapshot = disk_->snapshot() ? &snapshot : nullptr;
  loaded.start_index = disk_->start_index();
  loaded.entries = entries.data();
  loaded.entry_count = entries.size();
  const tarn_member_io_functions functions = GroupHost::IoFunctions(this);
  io_ = tarn_member_io_new(&functions, &loaded);
  CHECK(io_ != nullptr, "a log is read as it was written");
  const std::string name = meta::MemberName(options_.member_id);
  tarn_raft_options options{};
  options.member_id = options_.member_id;
  options.address = name.c_str();
  options.election_timeout_ms = kElectionTimeoutMs;
  options.heartbeat_ms = kHeartbeatMs;
  options.snapshot_entries = plan_.snapshot_entries;
  options.snapshot_trailing = kSnapshotTrailing;
  options.catch_up_round_ms = kCatchUpRoundMs;
  const tarn_raft_callbacks callbacks = GroupHost::Table(this);
  std::array<char, TARN_RAFT_ERROR_BYTES> error{};
  const int code = tarn_raft_open(&options, &callbacks, tarn_member_io_table(io_), &raft_, error.data());
  CHECK(code == 0, std::string("libraft starts from what it wrote: ") + error.data());
}

void GroupReplicator::Settle() {
  tarn_raft_settle(raft_);
  if (!GroupHost::Dead(this)) group_.StepTransfer();
}

void GroupReplicator::Tick() {
  if (votes_waiting_ > 0 || group_.HandsOver()) tarn_raft_hold_election(raft_);
  WipeStack();
  tarn_member_io_tick(io_);
  tarn_raft_settle(raft_);
  if (leading_term_ != 0 && lease_.Keep()) tarn_raft_settle(raft_);
  group_.StepTransfer();
  port_->PostToLoop(clock_->WorldTime(kHeartbeatMs * kMillisecond), [this] { Tick(); });
}

void GroupReplicator::Receive(uint64_t from_member, const std::string& message) {
  const auto body = meta::OpenEnvelope(message);
  CHECK(body.has_value(), "a message comes as it was sent");
  const auto* data = reinterpret_cast<const uint8_t*>(body->data());
  uint64_t configuration_index = 0;
  if (tarn_message_decode_removed(data, body->size(), &configuration_index) != 0) {
    OnRemoved(configuration_index);
    return;
  }
  if (leading_term_ != 0) group_.Hear(from_member);
  WipeStack();
  const bool read =
      tarn_member_io_receive(io_, from_member, meta::MemberName(from_member).c_str(), data, body->size());
  CHECK(read, "a message is one of libraft's");
  Settle();
}

// ---- Storage ----

void GroupReplicator::WriteVote(uint64_t term, uint64_t vote) {
  port_->AtWrite();
  ++votes_waiting_;
  disk_->PutVote(term, vote, [this] {
    port_->PostToLoop(0, [this] {
      if (--votes_waiting_ > 0) return;
      if (!held_messages_.empty()) tarn_raft_hold_election(raft_);
      for (const Message& message : std::exchange(held_messages_, {})) port_->SendToMember(message.member, message.bytes);
    });
  });
}

void GroupReplicator::OnSend(uint64_t to, std::string_view body) {
  std::string bytes = meta::CloseEnvelope(body);
  if (votes_waiting_ == 0) {
    port_->SendToMember(to, std::move(bytes));
  } else if (held_messages_.size() < kHeldMessagesMax) {
    held_messages_.push_back({to, std::move(bytes)});
  }
}

std::string GroupReplicator::MakeMarker() {
  proto::SnapshotMarker marker;
  marker.set_version(1);
  marker.set_applied_entries(handed_);
  marker.set_cluster_id("simulated");
  held_through_ = handed_;
  return meta::EncodeSnapshotMarker(marker);
}

void GroupReplicator::ReleaseIfApplied() {
  const bool early = plan_.plant == Plant::kTrimTooEarly;
  if (!flush_wanted_ || flushing_ || (!early && applied_ < held_through_)) return;
  flush_wanted_ = false;
  flushing_ = true;
  port_->Post(early ? 0 : scheduler_->dice().LongTailed(plan_.faults.sync_ns), [this, early] {
    if (!early) CHECK(consumer_->MakeDurable().ok(), "the simulated store can be flushed");
    flushing_ = false;
    port_->PostToLoop(0, [this] {
      skip_through_ = std::max(skip_through_, applied_);
      tarn_raft_release_snapshot(raft_);
      Settle();
    });
  });
}

bool GroupReplicator::OnRestore(std::string_view data) {
  const auto marker = meta::DecodeSnapshotMarker(Bytes(data));
  CHECK(marker.ok(), "a marker comes back as it was written");
  if (marker->applied_entries() > skip_through_) {
    port_->Violation("member " + std::to_string(options_.member_id) + " has a log that begins behind entry " +
                     std::to_string(marker->applied_entries()) + ", of which its state holds only " +
                     std::to_string(skip_through_));
    skip_through_ = marker->applied_entries();
  }
  handed_ = marker->applied_entries();
  return true;
}

void GroupReplicator::OnInstall(std::string_view data) {
  const auto marker = meta::DecodeSnapshotMarker(Bytes(data));
  CHECK(marker.ok(), "a marker comes as it was sent");
  if (marker->applied_entries() > std::max(skip_through_, handed_)) {
    install_entries_ = marker->applied_entries();
    port_->FetchCheckpoint(false, install_entries_);
    return;
  }
  skip_through_ = std::max(skip_through_, handed_);
  held_through_ = marker->applied_entries();
  flush_wanted_ = true;
  ReleaseIfApplied();
}

void GroupReplicator::TakeOver(uint64_t applied_entries) {
  applied_ = applied_entries;
  install_entries_ = 0;
  port_->PostToLoop(0, [this] {
    skip_through_ = std::max(skip_through_, applied_);
    tarn_raft_release_snapshot(raft_);
    Settle();
  });
}

// ---- Log ----

void GroupReplicator::OnApply(std::string_view bytes) {
  ++handed_;
  const bool again =
      plan_.plant == Plant::kCountWrong && options_.applied_entries > 20 && handed_ == options_.applied_entries;
  if (handed_ <= skip_through_ && !again) return;
  const auto frame = meta::DecodeLogFrame(Bytes(bytes));
  CHECK(frame.ok(), "a frame comes back as it was written");
  Task task;
  task.entry = std::string(frame->entry);
  if (again) ++handed_;
  task.number = handed_;
  if (frame->proposer == options_.proposer && !pending_.empty() && pending_.front().tag == frame->proposal) {
    lease_.Renew(pending_.front().submitted_ns);
    task.committed = std::move(pending_.front().committed);
    pending_.pop_front();
  }
  Enqueue(std::move(task));
}

void GroupReplicator::OnBarrier(uint64_t barrier_term, uint64_t tag) {
  lease_.OnBarrier(tag);
  if (ready_term_ == barrier_term || gained_term_ == barrier_term) return;
  if (handed_ < skip_through_) return port_->Violation("a log ends before the state does");
  gained_term_ = barrier_term;
  Task task;
  task.kind = Task::Kind::kGained;
  task.number = barrier_term;
  Enqueue(std::move(task));
}

void GroupReplicator::OnLeadership(bool leads, uint64_t new_term) {
  scheduler_->Trace(leads ? "leads" : "follows", options_.member_id, new_term);
  const bool led = led_;
  const bool led_other_term = led && new_term != term_;
  led_ = leads;
  term_ = new_term;
  if (led && (!leads || led_other_term)) {
    leading_term_ = 0;
    lease_.End();
    Task task;
    task.kind = Task::Kind::kLost;
    Enqueue(std::move(task));
  }
  if (!leads || (led && !led_other_term)) return;
  group_.ForgetHeard();
  leading_term_ = new_term;
  if (plan_.plant == Plant::kServeTooEarly) {
    Task task;
    task.kind = Task::Kind::kGained;
    task.number = gained_term_ = new_term;
    Enqueue(std::move(task));
  }
  lease_.Begin();
}

void GroupReplicator::OnLost(uint64_t tag) {
  while (!pending_.empty() && pending_.front().tag <= tag) {
    Task answer;
    answer.kind = Task::Kind::kAnswer;
    answer.committed = std::move(pending_.front().committed);
    answer.status = Status(StatusCode::kNotLeader, "leadership was lost before the entry was committed");
    pending_.pop_front();
    Enqueue(std::move(answer));
  }
}

void GroupReplicator::Propose(std::string entry, Committed committed) {
  incoming_.emplace_back(std::move(entry), std::move(committed));
  port_->PostToLoop(scheduler_->dice().Between(0, 100 * kMicrosecond), [this] { ProposeOnLoop(); });
}

void GroupReplicator::ProposeOnLoop() {
  auto [entry, committed] = std::move(incoming_.front());
  incoming_.pop_front();
  const uint64_t tag = next_tag_++;
  const size_t bytes = meta::LogFrameBytes(entry.size());
  auto* frame = static_cast<uint8_t*>(std::malloc(bytes));
  CHECK(frame != nullptr, "out of memory");
  meta::EncodeLogFrame({.durable_index = 0, .proposer = options_.proposer, .proposal = tag, .entry = entry},
                       {frame, bytes});
  pending_.push_back({tag, clock_->MonotonicNs(), std::move(committed)});
  std::array<char, TARN_RAFT_ERROR_BYTES> error{};
  const bool refused = group_.transferring();
  WipeStack();
  if (!refused && tarn_raft_propose(raft_, frame, bytes, tag, error.data()) == 0) return Settle();
  std::free(frame);
  Task answer;
  answer.kind = Task::Kind::kAnswer;
  answer.committed = std::move(pending_.back().committed);
  answer.status = Status(StatusCode::kNotLeader, "this member does not lead");
  pending_.pop_back();
  Enqueue(std::move(answer));
}

// ---- Members ----

void GroupReplicator::AddMember(uint64_t member, const std::string& address, Changed done) {
  RequestChange({.kind = meta::GroupChange::Kind::kAdd, .member = member, .address = address, .done = std::move(done)});
}

void GroupReplicator::PromoteMember(uint64_t member, Changed done) {
  RequestChange({.kind = meta::GroupChange::Kind::kPromote, .member = member, .address = "", .done = std::move(done)});
}

void GroupReplicator::RemoveMember(uint64_t member, Changed done) {
  RequestChange({.kind = meta::GroupChange::Kind::kRemove, .member = member, .address = "", .done = std::move(done)});
}

void GroupReplicator::TransferLeadership(uint64_t member, Changed done) {
  RequestChange({.kind = meta::GroupChange::Kind::kTransfer, .member = member, .address = "", .done = std::move(done)});
}

void GroupReplicator::RequestChange(meta::GroupChange change) {
  static constexpr std::string_view kNames[] = {"add", "promote", "remove", "transfer"};
  scheduler_->Trace(kNames[static_cast<size_t>(change.kind)], options_.member_id, change.member);
  port_->PostToLoop(0, [this, change = std::move(change)] {
    group_.Begin(change);
    Settle();
  });
}

void GroupReplicator::OnMembers() {
  std::vector<meta::GroupMember> members = group_.Members();
  const std::set<uint64_t> before = VotersOf(members_);
  const std::set<uint64_t> after = VotersOf(members);
  std::vector<uint64_t> changed;
  std::ranges::set_symmetric_difference(before, after, std::back_inserter(changed));
  // A follower may hear of several changes at once.
  if (leading_term_ != 0 && leading_term_ == term_ && changed.size() > 1)
    port_->Violation("leader " + std::to_string(options_.member_id) + " changes several voters at once");
  scheduler_->Trace("members", options_.member_id, members.size() * 100 + after.size());
  members_ = std::move(members);
  told_removed_ = false;
}

void GroupReplicator::OnRemoved(uint64_t configuration_index) {
  if (told_removed_ || tarn_raft_leads(raft_) || tarn_raft_knows_configuration(raft_, configuration_index)) return;
  told_removed_ = true;
  scheduler_->Trace("is told to be removed", options_.member_id, configuration_index);
  std::erase_if(members_, [this](const meta::GroupMember& member) { return member.member == options_.member_id; });
}

Result<std::vector<meta::MemberProgress>> GroupReplicator::Progress() const {
  if (leading_term_ == 0) return Status(StatusCode::kNotLeader, "this member does not lead");
  return group_.Progress();
}

// ---- Apply queue ----

void GroupReplicator::Enqueue(Task task) {
  tasks_.push_back(std::move(task));
  if (task_scheduled_) return;
  task_scheduled_ = true;
  port_->Post(scheduler_->dice().LongTailed(50 * kMicrosecond), [this] { RunTask(); });
}

void GroupReplicator::RunTask() {
  task_scheduled_ = false;
  Task task = std::move(tasks_.front());
  tasks_.pop_front();
  switch (task.kind) {
    case Task::Kind::kEntry: {
      port_->AtWrite();
      if (port_->dead()) return;
      if (const Status status = consumer_->Apply(task.entry, task.number); !status.ok()) {
        port_->Violation("member " + std::to_string(options_.member_id) + " cannot apply: " + status.ToString());
        return;
      }
      applied_ = task.number;
      ReleaseIfApplied();
      break;
    }
    case Task::Kind::kAnswer:
      break;
    case Task::Kind::kGained:
      if (task.number == leading_term_) {
        consumer_->LeadershipGained(task.number);
        ready_term_ = task.number;
      }
      break;
    case Task::Kind::kLost:
      consumer_->LeadershipLost();
      break;
  }
  if (task.committed) task.committed(task.status);
  if (tasks_.empty() || task_scheduled_) return;
  task_scheduled_ = true;
  port_->Post(scheduler_->dice().LongTailed(20 * kMicrosecond), [this] { RunTask(); });
}

// ---- Asked ----

bool GroupReplicator::HoldsLease() const {
  if (leading_term_ == 0 || ready_term_ != leading_term_) return false;
  return tarn_raft_votes_alone(raft_) || lease_.Holds();
}

uint64_t GroupReplicator::leader_member() const { return tarn_raft_leader(raft_); }
uint64_t GroupReplicator::term() const { return tarn_raft_term(raft_); }

}  // namespace tarn::sim
