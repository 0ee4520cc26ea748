#include "tests/sim/sim_replicator.h"

#include <cstdlib>
#include <cstring>
#include <span>

#include "common/base/check.h"
#include "metaserver/replication/log_frame.h"

namespace tarn::sim {
namespace {

constexpr unsigned kSnapshotTrailing = 4;
constexpr int64_t kLeaseNs = kElectionTimeoutMs * kMillisecond * 3 / 4;
// An idle leader proposes a barrier before the lease has run down to this.
constexpr int64_t kLeaseRenewNs = kLeaseNs / 2;

std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

StoredSnapshot Copy(const sim_snapshot& snapshot) {
  StoredSnapshot copy;
  copy.index = snapshot.index;
  copy.term = snapshot.term;
  copy.configuration_index = snapshot.configuration_index;
  copy.configuration.assign(static_cast<const char*>(snapshot.configuration), snapshot.configuration_bytes);
  copy.data.assign(static_cast<const char*>(snapshot.data), snapshot.bytes);
  return copy;
}

// Points into `snapshot`.
sim_snapshot View(const StoredSnapshot& snapshot) {
  sim_snapshot view{};
  view.index = snapshot.index;
  view.term = snapshot.term;
  view.configuration_index = snapshot.configuration_index;
  view.configuration = snapshot.configuration.data();
  view.configuration_bytes = snapshot.configuration.size();
  view.data = snapshot.data.data();
  view.bytes = snapshot.data.size();
  return view;
}

}  // namespace

// libraft's callbacks, turned into calls of the replicator. A dead process hears and does nothing.
struct Host {
  static SimReplicator* Of(void* context) { return static_cast<SimReplicator*>(context); }
  static bool Dead(void* context) { return Of(context)->port_->dead(); }

  static uint64_t TimeMs(void* context) { return static_cast<uint64_t>(Of(context)->clock_->MonotonicMs()); }
  static uint32_t RandomNumber(void* context) { return static_cast<uint32_t>(Of(context)->scheduler_->dice().Next()); }
  static void Load(void* context, sim_loaded* loaded) { Of(context)->Load(loaded); }
  static void SetTerm(void* context, uint64_t term) {
    Of(context)->port_->AtWrite();
    if (!Dead(context)) Of(context)->disk_->SetTerm(term);
  }
  static void SetVote(void* context, uint64_t member) {
    Of(context)->port_->AtWrite();
    if (!Dead(context)) Of(context)->disk_->SetVote(member);
  }
  static void Append(void* context, uint64_t request, const sim_entry* entries, unsigned count) {
    if (!Dead(context)) Of(context)->Append(request, entries, count);
  }
  static void Truncate(void* context, uint64_t index) {
    if (!Dead(context)) Of(context)->disk_->Truncate(index);
  }
  static void PutSnapshot(void* context, uint64_t request, unsigned trailing, const sim_snapshot* snapshot) {
    if (!Dead(context)) Of(context)->PutSnapshot(request, trailing, Copy(*snapshot));
  }
  static void GetSnapshot(void* context, uint64_t request) {
    if (!Dead(context)) Of(context)->GetSnapshot(request);
  }
  static void Send(void* context, uint64_t to, const void* message, size_t bytes) {
    if (!Dead(context)) Of(context)->port_->SendToMember(to, std::string(static_cast<const char*>(message), bytes));
  }
  static void Apply(void* context, const void* data, size_t bytes) {
    if (!Dead(context)) Of(context)->OnApply({static_cast<const char*>(data), bytes});
  }
  static void Barrier(void* context, uint64_t tag, bool committed) {
    if (!Dead(context)) Of(context)->OnBarrier(tag, committed);
  }
  static void Lost(void* context, uint64_t tag) {
    if (!Dead(context)) Of(context)->OnLost(tag);
  }
  static void Leadership(void* context, bool leads, uint64_t term) {
    if (!Dead(context)) Of(context)->OnLeadership(leads, term);
  }
  static void Restore(void* context, const void* data, size_t bytes) {
    if (!Dead(context)) Of(context)->OnRestore({static_cast<const char*>(data), bytes});
  }
  static bool TakeSnapshot(void* context, void** data, size_t* bytes) {
    if (Dead(context)) return false;
    const std::string marker = Of(context)->MakeMarker();
    *data = std::malloc(marker.size());
    std::memcpy(*data, marker.data(), marker.size());
    *bytes = marker.size();
    return true;
  }

  static sim_host Table(SimReplicator* replicator) {
    sim_host host{};
    host.context = replicator;
    host.time_ms = TimeMs;
    host.random = RandomNumber;
    host.load = Load;
    host.set_term = SetTerm;
    host.set_vote = SetVote;
    host.append = Append;
    host.truncate = Truncate;
    host.put_snapshot = PutSnapshot;
    host.get_snapshot = GetSnapshot;
    host.send = Send;
    host.apply = Apply;
    host.barrier = Barrier;
    host.lost = Lost;
    host.leadership = Leadership;
    host.restore = Restore;
    host.take_snapshot = TakeSnapshot;
    return host;
  }
};

SimReplicator::SimReplicator(const Options& options, const Plan& plan, ProcessPort* port, Scheduler* scheduler,
                             SimClock* clock, LogDisk* disk, meta::LogConsumer* consumer)
    : options_(options),
      plan_(plan),
      port_(port),
      scheduler_(scheduler),
      clock_(clock),
      disk_(disk),
      consumer_(consumer),
      applied_(options.applied_entries) {}

SimReplicator::~SimReplicator() {
  if (member_ != nullptr) sim_member_free(member_);
}

void SimReplicator::Start() {
  if (plan_.plant != Plant::kVoteAtOnce) silent_until_ns_ = clock_->MonotonicNs() + kElectionTimeoutMs * kMillisecond;
  sim_member_options options{};
  options.member_id = options_.member_id;
  options.election_timeout_ms = kElectionTimeoutMs;
  options.heartbeat_ms = kHeartbeatMs;
  options.snapshot_entries = plan_.snapshot_entries;
  options.snapshot_trailing = kSnapshotTrailing;
  const sim_host host = Host::Table(this);
  member_ = sim_member_open(&options, &host);
  CHECK(member_ != nullptr, "libraft starts from what it wrote");
  port_->PostToLoop(clock_->WorldTime(kHeartbeatMs * kMillisecond), [this] { Tick(); });
}

void SimReplicator::Tick() {
  sim_member_tick(member_);
  const bool idle = pending_.empty() && barriers_.empty();
  if (ready_term_ != 0 && ready_term_ == leading_term_ && idle &&
      clock_->MonotonicNs() >= lease_from_ns_ + kLeaseRenewNs) {
    ProposeBarrier();
  }
  port_->PostToLoop(clock_->WorldTime(kHeartbeatMs * kMillisecond), [this] { Tick(); });
}

void SimReplicator::Receive(uint64_t from_member, const std::string& message) {
  const sim_message_kind kind = sim_message_kind_of(message.data(), message.size());
  if (kind == SIM_VOTE && clock_->MonotonicNs() < silent_until_ns_) return;
  // libraft 0.22.1 follows a null pointer once its own snapshot is written if another one arrived meanwhile
  // (takeSnapshotCb clears snapshot_pending before it reads it). The leader sends it again.
  if (kind == SIM_SNAPSHOT && snapshot_taking_) return;
  sim_member_receive(member_, from_member, message.data(), message.size());
}

// ---- Storage ----

void SimReplicator::Load(sim_loaded* loaded) {
  loading_.clear();
  for (const LogRecord& record : disk_->records())
    loading_.push_back({record.term, record.type, record.data.data(), record.data.size()});
  loaded->term = disk_->term();
  loaded->voted_for = disk_->vote();
  known_snapshot_ = disk_->snapshot();
  loaded->has_snapshot = known_snapshot_.has_value();
  if (loaded->has_snapshot) loaded->snapshot = View(*disk_->snapshot());
  loaded->start_index = disk_->start_index();
  loaded->entries = loading_.data();
  loaded->entry_count = loading_.size();
}

void SimReplicator::Append(uint64_t request, const sim_entry* entries, unsigned count) {
  std::vector<LogRecord> records;
  for (unsigned i = 0; i < count; ++i) {
    records.push_back(
        {entries[i].term, entries[i].type, std::string(static_cast<const char*>(entries[i].data), entries[i].bytes)});
  }
  port_->AtWrite();
  disk_->Append(std::move(records),
                [this, request] { port_->PostToLoop(0, [this, request] { sim_member_appended(member_, request); }); });
}

void SimReplicator::PutSnapshot(uint64_t request, unsigned trailing, StoredSnapshot snapshot) {
  if (trailing == 0) {
    disk_->PutSnapshot(std::move(snapshot), trailing, [this, request] {
      port_->PostToLoop(0, [this, request] {
        known_snapshot_ = disk_->snapshot();
        sim_member_snapshot_put(member_, request);
      });
    });
    return;
  }
  held_.waits = true;
  held_.request = request;
  held_.trailing = trailing;
  held_.snapshot = std::move(snapshot);
  ReleaseSnapshotIfApplied();
}

void SimReplicator::ReleaseSnapshotIfApplied() {
  if (!held_.waits || held_.flushing) return;
  const bool early = plan_.plant == Plant::kTrimTooEarly;
  if (!early && applied_ < held_.through) return;
  held_.flushing = true;
  port_->Post(early ? 0 : scheduler_->dice().LongTailed(plan_.faults.sync_ns), [this, early] {
    if (!early) {
      const Status status = consumer_->MakeDurable();
      CHECK(status.ok(), "the simulated store can be flushed");
    }
    port_->AtWrite();
    if (port_->dead()) return;
    held_.waits = false;
    held_.flushing = false;
    disk_->PutSnapshot(std::move(held_.snapshot), held_.trailing, [this, request = held_.request] {
      port_->PostToLoop(0, [this, request] {
        snapshot_taking_ = false;
        known_snapshot_ = disk_->snapshot();
        sim_member_snapshot_put(member_, request);
      });
    });
  });
}

void SimReplicator::GetSnapshot(uint64_t request) {
  CHECK(known_snapshot_.has_value(), "libraft asks for a snapshot that there is");
  // The one that libraft knows of at this moment: of a newer one it would send the index with the term of the older
  // (legacyLoadSnapshotCb).
  port_->PostToLoop(scheduler_->dice().LongTailed(plan_.faults.sync_ns), [this, request, snapshot = *known_snapshot_] {
    const sim_snapshot view = View(snapshot);
    sim_member_snapshot_got(member_, request, &view);
  });
}

std::string SimReplicator::MakeMarker() {
  proto::SnapshotMarker marker;
  marker.set_version(1);
  marker.set_applied_entries(handed_);
  marker.set_cluster_id("simulated");
  held_.through = handed_;
  snapshot_taking_ = true;
  return meta::EncodeSnapshotMarker(marker);
}

void SimReplicator::OnRestore(std::string_view data) {
  const auto marker = meta::DecodeSnapshotMarker(Bytes(data));
  CHECK(marker.ok(), "a marker comes back as it was written");
  handed_ = marker->applied_entries();
  if (handed_ <= applied_) return;
  // The log does not hold what the state lacks.
  must_fetch_ = true;
  port_->FetchCheckpoint(member_ == nullptr, handed_);
}

// ---- Log ----

void SimReplicator::OnApply(std::string_view bytes) {
  ++handed_;
  const bool again =
      plan_.plant == Plant::kCountWrong && options_.applied_entries > 20 && handed_ == options_.applied_entries;
  if (handed_ <= options_.applied_entries && !again) return;
  const auto frame = meta::DecodeLogFrame(Bytes(bytes));
  CHECK(frame.ok(), "a frame comes back as it was written");
  Task task;
  task.entry = std::string(frame->entry);
  if (again) ++handed_;
  task.number = handed_;
  if (frame->proposer == options_.proposer && !pending_.empty() && pending_.front().tag == frame->proposal) {
    task.proposed_ns = pending_.front().proposed_ns;
    task.committed = std::move(pending_.front().committed);
    pending_.pop_front();
  }
  Enqueue(std::move(task));
}

void SimReplicator::OnLeadership(bool leads, uint64_t term) {
  scheduler_->Trace(leads ? "leads" : "follows", options_.member_id, term);
  leading_term_ = leads ? term : 0;
  if (!leads) {
    Task task;
    task.kind = Task::Kind::kLost;
    Enqueue(std::move(task));
    return;
  }
  if (plan_.plant == Plant::kServeTooEarly) {
    Task task;
    task.kind = Task::Kind::kGained;
    task.number = term;
    task.proposed_ns = clock_->MonotonicNs();
    Enqueue(std::move(task));
  }
  // libraft is in the middle of a step.
  port_->PostToLoop(0, [this] { ProposeBarrier(); });
}

void SimReplicator::ProposeBarrier() {
  if (leading_term_ == 0) return;
  const uint64_t tag = next_tag_++;
  barriers_.push_back({tag, clock_->MonotonicNs(), nullptr});
  if (!sim_member_barrier(member_, tag)) barriers_.pop_back();
}

void SimReplicator::OnBarrier(uint64_t tag, bool committed) {
  CHECK(!barriers_.empty() && barriers_.front().tag == tag, "barriers end in order");
  const Pending barrier = std::move(barriers_.front());
  barriers_.pop_front();
  if (!committed || leading_term_ == 0) return;
  Task task;
  task.kind = Task::Kind::kGained;
  task.number = leading_term_;
  task.proposed_ns = barrier.proposed_ns;
  Enqueue(std::move(task));
}

void SimReplicator::OnLost(uint64_t tag) {
  while (!pending_.empty() && pending_.front().tag <= tag) {
    Task answer;
    answer.kind = Task::Kind::kAnswer;
    answer.committed = std::move(pending_.front().committed);
    answer.status = Status(StatusCode::kNotLeader, "leadership was lost before the entry was committed");
    pending_.pop_front();
    Enqueue(std::move(answer));
  }
}

void SimReplicator::Propose(std::string entry, Committed committed) {
  incoming_.emplace_back(std::move(entry), std::move(committed));
  port_->PostToLoop(scheduler_->dice().Between(0, 100 * kMicrosecond), [this] { ProposeOnLoop(); });
}

void SimReplicator::ProposeOnLoop() {
  auto [entry, committed] = std::move(incoming_.front());
  incoming_.pop_front();
  const uint64_t tag = next_tag_++;
  std::string frame(meta::LogFrameBytes(entry.size()), '\0');
  meta::EncodeLogFrame({.durable_index = 0, .proposer = options_.proposer, .proposal = tag, .entry = entry},
                       {reinterpret_cast<uint8_t*>(frame.data()), frame.size()});
  pending_.push_back({tag, clock_->MonotonicNs(), std::move(committed)});
  if (sim_member_propose(member_, frame.data(), frame.size(), tag)) return;
  Task answer;
  answer.kind = Task::Kind::kAnswer;
  answer.committed = std::move(pending_.back().committed);
  answer.status = Status(StatusCode::kNotLeader, "this member does not lead");
  pending_.pop_back();
  Enqueue(std::move(answer));
}

// ---- Apply queue ----

void SimReplicator::Enqueue(Task task) {
  tasks_.push_back(std::move(task));
  if (task_scheduled_) return;
  task_scheduled_ = true;
  port_->Post(scheduler_->dice().LongTailed(50 * kMicrosecond), [this] { RunTask(); });
}

void SimReplicator::ExtendLease(int64_t proposed_ns, uint64_t term) {
  if (term != leading_term_ || leading_term_ == 0) return;
  if (lease_term_ != term) lease_from_ns_ = proposed_ns;
  lease_term_ = term;
  if (proposed_ns > lease_from_ns_) lease_from_ns_ = proposed_ns;
}

void SimReplicator::RunTask() {
  task_scheduled_ = false;
  if (must_fetch_) return;  // the process begins anew behind the checkpoint
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
      if (task.committed != nullptr && task.proposed_ns != 0) ExtendLease(task.proposed_ns, leading_term_);
      ReleaseSnapshotIfApplied();
      break;
    }
    case Task::Kind::kAnswer:
      break;
    case Task::Kind::kGained:
      if (task.number == leading_term_) {
        if (ready_term_ != task.number) consumer_->LeadershipGained(task.number);
        ready_term_ = task.number;
        ExtendLease(task.proposed_ns, task.number);
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

bool SimReplicator::HoldsLease() const {
  return leading_term_ != 0 && ready_term_ == leading_term_ && lease_term_ == leading_term_ &&
         sim_member_leads(member_) && clock_->MonotonicNs() < lease_from_ns_ + kLeaseNs;
}

uint64_t SimReplicator::leader_member() const { return sim_member_leader(member_); }
uint64_t SimReplicator::term() const { return sim_member_term(member_); }

}  // namespace tarn::sim
