#include "metaserver/service/proposer.h"

#include <algorithm>
#include <future>
#include <memory>
#include <utility>

#include "common/base/check.h"
#include "common/base/ids.h"
#include "metaserver/state/limits.h"
#include "metaserver/state/state_machine.h"

namespace tarn::meta {
namespace {

// Data id 0 means none.
constexpr uint64_t kFirstDataCounter = 1;

}  // namespace

Status StatusOf(const proto::MutationReply& reply) {
  return reply.status() == 0 ? Status::Ok() : Status(static_cast<StatusCode>(reply.status()), reply.message());
}

Proposer::Proposer(const ProposerOptions& options, Replicator* replicator, Clock* clock, Random* random,
                   TakeReplies take_replies)
    : options_(options),
      replicator_(replicator),
      clock_(clock),
      take_replies_(std::move(take_replies)),
      random_(random) {}

Status Proposer::CheckRoom(const Unit& unit) const {
  if (stopped_) return Status(StatusCode::kCancelled, "the server stops");
  if (!leads_) return Status(StatusCode::kNotLeader, "this metadata server does not lead");
  // An empty queue takes any batch that the protocol allows.
  if (waiting_mutations_ == 0) return Status::Ok();
  if (waiting_mutations_ + unit.mutations.size() > options_.waiting_mutations_max ||
      waiting_bytes_ + unit.bytes > options_.waiting_bytes_max) {
    return Status(StatusCode::kResourceExhausted, "too many changes wait for the log");
  }
  return Status::Ok();
}

void Proposer::Submit(std::vector<proto::Mutation> mutations, Done done, std::vector<bool> hold_removed) {
  Unit unit;
  for (const proto::Mutation& mutation : mutations) unit.bytes += mutation.ByteSizeLong();
  unit.mutations = std::move(mutations);
  unit.done = std::move(done);
  unit.hold_removed = std::move(hold_removed);
  Status status = unit.bytes > kBatchBytesMax || unit.mutations.size() > kBatchMutationsMax
                      ? Status(StatusCode::kArgumentTooBig, "a batch has at most 1024 mutations and 4 MiB")
                      : Status::Ok();
  if (status.ok()) {
    MutexLock lock(mutex_);
    status = CheckRoom(unit);
    if (status.ok()) {
      waiting_mutations_ += unit.mutations.size();
      waiting_bytes_ += unit.bytes;
      waiting_.push_back(std::move(unit));
      Pump();
      return;
    }
  }
  unit.done(status, {});
}

Result<proto::MutationReply> Proposer::SubmitAndWait(proto::Mutation mutation) {
  auto promise = std::make_shared<std::promise<Result<proto::MutationReply>>>();
  std::vector<proto::Mutation> mutations;
  mutations.push_back(std::move(mutation));
  Submit(std::move(mutations), [promise](const Status& status, std::span<proto::MutationReply> replies) {
    if (!status.ok()) {
      promise->set_value(status);
    } else if (replies[0].status() != 0) {
      promise->set_value(StatusOf(replies[0]));
    } else {
      promise->set_value(std::move(replies[0]));
    }
  });
  return promise->get_future().get();
}

void Proposer::BeginLeading(const proto::StateHeader& header) {
  MutexLock lock(mutex_);
  leads_ = true;
  ids_.metadata_group = header.metadata_group();
  ids_.incarnation = header.incarnation();
  ids_.next_inode = std::max<uint64_t>(header.next_inode(), kFirstInodeCounter);
  ids_.next_data_id = std::max<uint64_t>(header.next_data_id(), kFirstDataCounter);
  Pump();
}

void Proposer::EndLeading() {
  std::deque<Unit> refused;
  {
    MutexLock lock(mutex_);
    leads_ = false;
    refused = TakeWaiting();
  }
  for (Unit& unit : refused)
    unit.done(Status(StatusCode::kNotLeader, "this metadata server does not lead any more"), {});
}

void Proposer::Stop() {
  std::deque<Unit> refused;
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    refused = TakeWaiting();
  }
  for (Unit& unit : refused) unit.done(Status(StatusCode::kCancelled, "the server stops"), {});
}

std::deque<Proposer::Unit> Proposer::TakeWaiting() {
  waiting_mutations_ = 0;
  waiting_bytes_ = 0;
  return std::exchange(waiting_, {});
}

void Proposer::Pump() {
  while (leads_ && in_flight_ < options_.entries_in_flight_max && !waiting_.empty()) {
    auto units = std::make_shared<std::vector<Unit>>(TakeUnits());
    std::string entry = BuildEntry(*units);
    ++in_flight_;
    // Under the lock, so that the log has the order in which ids were given; it only queues.
    replicator_->Propose(std::move(entry), [this, units](const Status& status) { OnCommitted(status, *units); });
  }
}

std::vector<Proposer::Unit> Proposer::TakeUnits() {
  std::vector<Unit> units;
  size_t commands = 0;
  size_t bytes = 0;
  while (!waiting_.empty()) {
    const Unit& next = waiting_.front();
    const bool fits = commands + next.mutations.size() <= options_.commands_per_entry_max &&
                      bytes + next.bytes <= options_.entry_bytes_max;
    if (!units.empty() && !fits) break;
    commands += next.mutations.size();
    bytes += next.bytes;
    units.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  waiting_mutations_ -= commands;
  waiting_bytes_ -= bytes;
  return units;
}

std::string Proposer::BuildEntry(std::vector<Unit>& units) {
  proto::LogEntry entry;
  entry.set_version(kLogEntryVersion);
  if (!replicator_->HasRoom()) entry.set_no_growth(true);
  const int64_t now_ns = clock_->WallNs();
  for (Unit& unit : units) {
    for (size_t i = 0; i < unit.mutations.size(); ++i) {
      proto::Mutation& mutation = unit.mutations[i];
      proto::LogCommand* command = entry.add_commands();
      command->set_time_ns(now_ns);
      command->set_random_seed(random_->Next());
      if (!unit.hold_removed.empty()) command->set_hold_removed(unit.hold_removed[i]);
      if (NeedsInodeId(mutation))
        command->set_inode(ComposeId(ids_.metadata_group, ids_.incarnation, ids_.next_inode++));
      if (const uint32_t count = DataIdsNeeded(mutation); count != 0) {
        command->set_data_id(ComposeId(ids_.metadata_group, ids_.incarnation, ids_.next_data_id));
        ids_.next_data_id += count;
      }
      CHECK(ids_.next_inode <= kIdCounterMax && ids_.next_data_id <= kIdCounterMax, "the id counters are used up");
      *command->mutable_mutation() = std::move(mutation);
    }
  }
  return entry.SerializeAsString();
}

void Proposer::OnCommitted(const Status& committed, std::vector<Unit>& units) {
  // Once it has left, the entry may still be committed by the next leader: that is doubt, not a refusal, and whoever
  // asks again must be able to tell.
  const Status status = committed.code() == StatusCode::kNotLeader
                            ? Status(StatusCode::kUnavailable, committed.message())
                            : committed;
  std::vector<proto::MutationReply> replies;
  if (status.ok()) replies = take_replies_();
  {
    // Before the answers, so that the next entry is on its way while they are written.
    MutexLock lock(mutex_);
    --in_flight_;
    Pump();
  }
  size_t first = 0;
  for (Unit& unit : units) {
    if (!status.ok()) {
      unit.done(status, {});
      continue;
    }
    CHECK(first + unit.mutations.size() <= replies.size(), "the state machine gives one reply per command");
    unit.done(status, std::span(replies).subspan(first, unit.mutations.size()));
    first += unit.mutations.size();
  }
}

}  // namespace tarn::meta
