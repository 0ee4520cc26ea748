#include "chunkserver/replication/client_change.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "chunkserver/replication/chunk_copy.h"
#include "chunkserver/replication/chunk_repair.h"
#include "chunkserver/replication/commit_job.h"
#include "chunkserver/replication/confirmations.h"
#include "chunkserver/replication/lost_writes.h"
#include "chunkserver/replication/peer_call.h"
#include "chunkserver/replication/sync_job.h"
#include "chunkserver/replication/wire.h"
#include "chunkserver/store/chunk_reader.h"

namespace tarn::replication {
namespace {

using ChangePtr = std::shared_ptr<ClientChange>;
using PendingPtr = std::shared_ptr<PendingChange>;

ChangeAnswer Refusal(const Replica& replica, StatusCode code, std::string why) {
  return {.status = Status(code, std::move(why)), .map_version = replica.ctx->map_version(), .outcome = {}, .durable = false};
}

// A member that is nearly full: nothing is applied anywhere. It is asked again and again meanwhile.
bool MemberIsFull(const Replica& replica) REQUIRES(replica.mutex) {
  for (const auto& [member, room] : replica.rooms) {
    if (replica.view.IsInSync(member) && room.bytes < kMemberRoomBytesMin) return true;
  }
  return false;
}

enum class Admission { kGo, kWait, kRefused };

// Sets the answer when it refuses. With the lock held.
Admission Admit(Replica& replica, const ClientChange& change, ChangeAnswer* answer) REQUIRES(replica.mutex) {
  const auto refuse = [&](StatusCode code, std::string why) {
    *answer = Refusal(replica, code, std::move(why));
    return Admission::kRefused;
  };
  if (replica.ctx->stopped) return refuse(StatusCode::kCancelled, "the server stops");
  const Epoch epoch(change.address().epoch());
  if (replica.role != Role::kPrimary || epoch < replica.view.epoch) return refuse(StatusCode::kStaleEpoch, "another epoch of the group is current");
  if (epoch > replica.view.epoch) return refuse(StatusCode::kUnavailable, "the map is on its way");
  if (replica.ctx->table.load()->fenced.contains(change.session())) return refuse(StatusCode::kFenced, "the session is fenced");
  if (replica.NeedsLease() && !replica.ctx->HasLease()) return refuse(StatusCode::kUnavailable, "the target has no lease");
  if (replica.view.in_sync.size() < replica.view.min_in_sync()) return refuse(StatusCode::kUnavailable, "too few members of the group are in-sync");
  if (!replica.serving) {
    return replica.queued.size() < kQueuedMax ? Admission::kWait : refuse(StatusCode::kResourceExhausted, "too many changes wait for a new primary");
  }
  if (replica.pending.size() >= kPendingMax) return refuse(StatusCode::kResourceExhausted, "too many changes wait for members");
  if (change.write != nullptr && MemberIsFull(replica)) {
    ConfirmSoon(replica.ctx);  // asks it again
    return refuse(StatusCode::kNoSpace, "a member of the group is full");
  }
  return Admission::kGo;
}

void Send(const ReplicaPtr& replica, const PendingPtr& change, TargetId member);

void SendLater(const ReplicaPtr& replica, const PendingPtr& change, TargetId member) {
  replica->ctx->executor->RunAfter(kRepeatDelayMs, [=] { Send(replica, change, member); });
}

// A member that was slow or silent for too long, or whose disk fails.
void MemberFailed(const ReplicaPtr& replica, const PendingPtr& change, TargetId member, const Status& status) {
  Callbacks out;
  bool dropped = false;
  std::shared_ptr<SyncJob> job;
  {
    MutexLock lock(replica->mutex);
    if (!change->waiting.contains(member)) return;
    dropped = replica->DropSyncing(member, &out);
    if (const auto found = replica->syncs.find(member); dropped && found != replica->syncs.end()) job = found->second;
  }
  RunAll(std::move(out));
  if (job != nullptr) job->Fail(status);
  if (!dropped) replica->ReportFailed(member, status.ToString());
}

// `told`: the confirmed order that the request carried.
void OnAcknowledgement(const ReplicaPtr& replica, const PendingPtr& change, TargetId member, uint64_t told, const Status& status,
                       const proto::ReplicateReply& reply) {
  Callbacks out;
  int64_t waited_ns = 0;
  // The data id is deleted for good there: there is nothing to keep.
  const bool done = status.ok() || status.code() == StatusCode::kStaleTruncate;
  {
    MutexLock lock(replica->mutex);
    if (!change->waiting.contains(member)) return;
    if (status.ok()) {
      replica->NoteTold(member, told);
      replica->rooms[member] = {reply.available_bytes(), replica->ctx->NowNs()};
    }
    if (done) {
      change->waiting.erase(member);
      replica->Acknowledged(*change, &out);
    } else {
      waited_ns = replica->ctx->NowNs() - change->first_sent_ns[member];
    }
  }
  RunAll(std::move(out));
  if (done) return;
  if (!IsPassing(status.code()) || waited_ns >= replica->ctx->options.member_timeout_ms * kNsPerMs) MemberFailed(replica, change, member, status);
  SendLater(replica, change, member);
}

// Until it is acknowledged or not waited for any more.
void Send(const ReplicaPtr& replica, const PendingPtr& change, TargetId member) {
  proto::ReplicateRequest request;
  {
    MutexLock lock(replica->mutex);
    if (!replica->pending.contains(change->order) || !change->waiting.contains(member)) return;
    change->first_sent_ns.try_emplace(member, replica->ctx->NowNs());
    request = change->message;
    SetAddress(*replica->ctx, member, replica->group, replica->view.epoch, request.mutable_member());
    request.set_confirmed_order(replica->ConfirmedOrder());
  }
  CallPeer<proto::ReplicateReply>(replica->ctx, member, rpc::Method::kReplicate, request, change->payload,
                                  [=, told = request.confirmed_order()](const Status& status, const proto::ReplicateReply& reply) {
                                    OnAcknowledgement(replica, change, member, told, status, reply);
                                  });
}

// On this target's own disk.
void AwaitOwnDisk(const ReplicaPtr& replica, const PendingPtr& change) {
  replica->ctx->store->WhenDurable([=](const Status& status) {
    Callbacks out;
    {
      MutexLock lock(replica->mutex);
      if (!status.ok()) change->answer.status = status;
      change->waiting.erase(replica->ctx->target);
      replica->Acknowledged(*change, &out);
    }
    RunAll(std::move(out));
  });
}

PendingPtr MakePending(const ClientChange& change, const store::ChangeOutcome& outcome) {
  auto pending = std::make_shared<PendingChange>();
  SetStamp(outcome.base, pending->message.mutable_base());
  SetStamp(outcome.stamp, pending->message.mutable_stamp());
  if (change.write != nullptr) {
    *pending->message.mutable_write() = *change.write;
  } else {
    *pending->message.mutable_truncate() = *change.truncate;
  }
  pending->chunk = ChunkOf(change.address());
  pending->payload = change.payload;
  pending->holder = change.holder;
  pending->durable = change.durable();
  pending->answer = {.status = Status::Ok(), .map_version = 0, .outcome = outcome, .durable = pending->durable};
  pending->done = change.done;
  return pending;
}

// Who has to have a change of the chunk: in-sync members, and syncing ones that have received the chunk.
std::vector<TargetId> ReceiversOf(const Replica& replica, ChunkId chunk) REQUIRES(replica.mutex) {
  std::vector<TargetId> receivers;
  for (const TargetId member : replica.view.in_sync) {
    if (member != replica.ctx->target) receivers.push_back(member);
  }
  for (const auto& [member, job] : replica.syncs) {
    if (job->TakesChange(chunk)) receivers.push_back(member);
  }
  return receivers;
}

std::optional<store::ChunkStamp> AcknowledgedStamp(const ClientChange& change) {
  if (change.write == nullptr || !change.write->has_acknowledged()) return std::nullopt;
  return StampOf(change.write->acknowledged());
}

ByteRange RangeOf(const ClientChange& write) { return {write.write->offset_bytes(), write.payload.size()}; }

void NoteWritten(Replica& replica, const ClientChange& change) REQUIRES(replica.mutex) {
  LostWrites* const notes = replica.LostWritesNow();
  if (notes == nullptr || change.write == nullptr) return;
  notes->NoteWrite(ChunkOf(change.address()), RangeOf(change), AcknowledgedStamp(change));
}

// After the change is in this target's store; with the chunk's turn held by the caller, so that the sends leave in order.
void Distribute(const ReplicaPtr& replica, const ChangePtr& change, const store::ChangeOutcome& outcome, uint64_t applying) {
  const ChunkId chunk = ChunkOf(change->address());
  PendingPtr pending;
  std::vector<TargetId> receivers;
  Callbacks out;
  bool is_primary = true;
  {
    MutexLock lock(replica->mutex);
    ++replica->changes;
    NoteWritten(*replica, *change);
    is_primary = replica->role == Role::kPrimary && replica->serving;
    if (!is_primary) {
      // Somebody else decides what becomes of it; the client asks there.
      replica->unconfirmed.Add(++replica->last_order, {chunk, outcome.stamp, Epoch()});
    } else {
      receivers = ReceiversOf(*replica, chunk);
      if (!receivers.empty() || replica->newest_pending.contains(chunk) || replica->no_acknowledgement_before_ns > 0) {
        pending = MakePending(*change, outcome);
        pending->order = ++replica->last_order;
        pending->message.set_order(pending->order);
        pending->waiting.insert(receivers.begin(), receivers.end());
        if (pending->durable) pending->waiting.insert(replica->ctx->target);
        replica->pending.emplace(pending->order, pending);
        replica->newest_pending[chunk] = pending->order;
        replica->Acknowledged(*pending, &out);
      }
    }
    replica->applying.End(applying, &out);
  }
  if (!is_primary) {
    change->done(Refusal(*replica, StatusCode::kStaleEpoch, "another epoch of the group is current"));
  } else if (pending == nullptr) {
    AnswerWhenConfirmed(replica, chunk, {.status = Status::Ok(), .map_version = 0, .outcome = outcome, .durable = false}, change->durable(), change->done);
  } else {
    for (const TargetId member : receivers) Send(replica, pending, member);
    if (pending->durable) AwaitOwnDisk(replica, pending);
  }
  RunAll(std::move(out));
}

Result<store::ChangeOutcome> ApplyHere(const Replica& replica, const ClientChange& change, Epoch epoch) {
  const store::ChangeContext context{.group = replica.group, .epoch = epoch, .base = std::nullopt};
  if (change.write != nullptr) return replica.ctx->store->ApplyWrite(WriteOf(*change.write, change.payload), context);
  return replica.ctx->store->ApplyTruncate(ChunkOf(change.truncate->chunk()), WriterOf(*change.truncate), ViewOf(change.truncate->truncate()), context);
}

// A change that failed half-way (its cut was applied, its data found no room) leaves a chunk that the members do not have.
void EqualiseAfterFailure(const ReplicaPtr& replica, ChunkId chunk, const ChunkOrder::TurnPtr& turn) {
  std::vector<TargetId> receivers;
  Epoch epoch;
  {
    MutexLock lock(replica->mutex);
    if (replica->role != Role::kPrimary) return;
    receivers = ReceiversOf(*replica, chunk);
    epoch = replica->view.epoch;
  }
  for (const TargetId member : receivers) {
    CopyChunk({.replica = replica, .epoch = epoch, .member = member, .chunk = chunk}, turn, [replica, member](const Status& status, const CopyCount& count) {
      if (!status.ok() && !count.source_failed) replica->ReportFailed(member, status.WithContext("bring a chunk up to date").ToString());
    });
  }
}

void Failed(const ReplicaPtr& replica, const ChangePtr& change, const Status& status, const ChunkOrder::TurnPtr& turn) {
  if (store::IsUnreadable(status) || status.code() == StatusCode::kNoSpace) EqualiseAfterFailure(replica, ChunkOf(change->address()), turn);
  change->done({.status = status, .map_version = 0, .outcome = {}, .durable = false});
}

// Notes how the chunk was recovered, before its first change since a loss. Nothing: the change is to be applied; else it is not, and this is its
// answer. With the chunk's turn held: nothing changes the chunk meanwhile.
std::optional<ChangeAnswer> WeighResend(Replica& replica, const ClientChange& change) {
  const ChunkId chunk = ChunkOf(change.address());
  const std::optional<store::ChunkStamp> acknowledged = AcknowledgedStamp(change);
  {
    MutexLock lock(replica.mutex);
    const LostWrites* const notes = replica.LostWritesNow();
    if (!acknowledged && (notes == nullptr || notes->RecoveredStamp(chunk))) return std::nullopt;
  }
  const Result<store::ChunkState> state = replica.ctx->store->StateOf(chunk);
  ChangeAnswer answer;
  MutexLock lock(replica.mutex);
  if (!state.ok()) {
    replica.lost_writes.reset();  // this change would be missing
    if (!acknowledged) return std::nullopt;
    answer.status = state.status();
    return answer;
  }
  LostWrites* const notes = replica.LostWritesNow();
  if (notes != nullptr) notes->NoteChunk(chunk, state->stamp);
  if (!acknowledged) return std::nullopt;
  answer.outcome = {.base = state->stamp, .stamp = *acknowledged, .chunk_bytes = state->bytes, .was_applied = false};
  if (IsIntact(*acknowledged, replica.view.losses)) return answer;
  const Fate fate = notes == nullptr ? Fate::kUnknown : FateOf(*acknowledged, notes->RecoveredStamp(chunk).value_or(state->stamp), replica.view.losses);
  if (fate == Fate::kThere) return answer;
  if (fate == Fate::kUnknown) {
    answer.status = Status(StatusCode::kIoError, "chunk " + ToString(chunk) + ": what became of a write is not known: servers have lost some since");
    return answer;
  }
  answer.superseded = notes->LaterThan(chunk, RangeOf(change), *acknowledged);
  if (answer.superseded.empty()) return std::nullopt;
  return answer;
}

void EndApplying(const ReplicaPtr& replica, uint64_t applying) {
  Callbacks out;
  {
    MutexLock lock(replica->mutex);
    replica->applying.End(applying, &out);
  }
  RunAll(std::move(out));
}

// The answer to a repeat: what the chunk was when it was first applied is not known.
ChangeAnswer AnswerOfRepeat(const store::ChangeOutcome& outcome, Epoch epoch) {
  ChangeAnswer answer{.status = Status::Ok(), .map_version = 0, .outcome = outcome, .durable = false};
  if (outcome.was_applied) answer.outcome.stamp = {epoch, 0};
  return answer;
}

void ApplyInTurn(const ReplicaPtr& replica, const ChangePtr& change, const ChunkOrder::TurnPtr& turn) {
  ChangeAnswer refusal;
  Epoch epoch;
  uint64_t applying = 0;
  Admission admission;
  {
    MutexLock lock(replica->mutex);
    admission = Admit(*replica, *change, &refusal);
    if (admission == Admission::kGo) {
      applying = replica->applying.Begin();
      epoch = replica->view.epoch;
    } else if (admission == Admission::kWait) {
      replica->queued.push_back([=] { SubmitChange(replica, change); });
    }
  }
  if (admission == Admission::kWait) return;
  if (admission == Admission::kRefused) return change->done(refusal);

  const ChunkId chunk = ChunkOf(change->address());
  if (const std::optional<ChangeAnswer> answer = WeighResend(*replica, *change)) {
    EndApplying(replica, applying);
    return answer->status.ok() ? AnswerWhenConfirmed(replica, chunk, *answer, change->durable(), change->done) : change->done(*answer);
  }
  const Result<store::ChangeOutcome> outcome = ApplyHere(*replica, *change, epoch);
  if (outcome.ok() && !outcome->was_applied && outcome->stamp != outcome->base) return Distribute(replica, change, *outcome, applying);
  EndApplying(replica, applying);
  if (outcome.ok()) return AnswerWhenConfirmed(replica, chunk, AnswerOfRepeat(*outcome, epoch), change->durable(), change->done);
  // Blocks of which the change keeps a part are damaged here, and may be intact elsewhere.
  if (store::IsUnreadable(outcome.status()) && !std::exchange(change->was_repaired_for, true)) {
    return RepairChunkInTurn(replica, chunk, turn, [=, failure = outcome.status()](const Status& repaired) {
      replica->ctx->executor->Run([=] { repaired.ok() ? ApplyInTurn(replica, change, turn) : Failed(replica, change, failure, turn); });
    });
  }
  Failed(replica, change, outcome.status(), turn);
}

}  // namespace

void SubmitChange(const ReplicaPtr& replica, std::shared_ptr<ClientChange> change) {
  ChangeAnswer refusal;
  Admission admission;
  {
    MutexLock lock(replica->mutex);
    admission = Admit(*replica, *change, &refusal);
    if (admission == Admission::kWait) replica->queued.push_back([=] { SubmitChange(replica, change); });
  }
  if (admission == Admission::kRefused) return change->done(refusal);
  if (admission == Admission::kWait) return;
  replica->order->Acquire(ChunkOf(change->address()), [=](const ChunkOrder::TurnPtr& turn) { ApplyInTurn(replica, change, turn); });
}

void AnswerWhenConfirmed(const ReplicaPtr& replica, ChunkId chunk, const ChangeAnswer& answer, bool durable, const ChangeCallback& done) {
  const auto again = [=] { AnswerWhenConfirmed(replica, chunk, answer, durable, done); };
  int64_t wait_ns = 0;
  {
    MutexLock lock(replica->mutex);
    if (replica->ctx->stopped || replica->role != Role::kPrimary || !replica->serving) {
      wait_ns = -1;
    } else if (const auto newest = replica->newest_pending.find(chunk); newest != replica->newest_pending.end()) {
      replica->pending.at(newest->second)->followers.push_back(again);
      return;
    } else {
      wait_ns = replica->AcknowledgementDelayNs();
    }
  }
  if (wait_ns < 0) return done(Refusal(*replica, StatusCode::kStaleEpoch, "another epoch of the group is current"));
  if (wait_ns > 0) return replica->ctx->executor->RunAfter(wait_ns / kNsPerMs + 1, again);
  if (!durable) return done(answer);
  CommitGroups(replica->ctx, {replica}, [answer, done](const Status& status, const std::vector<GroupId>& not_primary) {
    ChangeAnswer durable_answer = answer;
    durable_answer.durable = true;
    if (!not_primary.empty()) durable_answer.status = Status(StatusCode::kStaleEpoch, "another target is the primary of the group now");
    if (!status.ok()) durable_answer.status = status;
    done(durable_answer);
  });
}

}  // namespace tarn::replication
