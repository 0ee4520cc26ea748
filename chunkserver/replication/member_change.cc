#include "chunkserver/replication/member_change.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "chunkserver/replication/wire.h"
#include "chunkserver/store/chunk_reader.h"

namespace tarn::replication {
namespace {

// One Replicate on its way into the store.
struct MemberChange {
  std::shared_ptr<const proto::ReplicateRequest> request;
  std::span<const uint8_t> payload;
  std::shared_ptr<void> holder;
  ResponderPtr responder;
  int64_t deadline_ns = 0;  // of the wait for its base

  bool durable() const { return request->has_truncate() || request->write().durable(); }
  ChunkId chunk() const { return ChunkOf(request->has_write() ? request->write().chunk() : request->truncate().chunk()); }
};
using MemberChangePtr = std::shared_ptr<MemberChange>;

void Refuse(const Replica& replica, const ResponderPtr& responder, const Status& status) {
  responder->Fail(status, status.code() == StatusCode::kStaleEpoch ? replica.ctx->map_version() : 0);
}

void Acknowledge(const ReplicaPtr& replica, const MemberChangePtr& change) {
  proto::ReplicateReply reply;
  reply.set_incarnation(replica->ctx->incarnation);
  reply.set_available_bytes(replica->ctx->store->AvailableBytes());
  if (!change->durable()) return change->responder->Reply(reply);
  reply.set_durable(true);
  replica->ctx->store->WhenDurable([reply, change](const Status& status) {
    status.ok() ? change->responder->Reply(reply) : change->responder->Fail(status);
  });
}

void Begin(const ReplicaPtr& replica, const MemberChangePtr& change);

// The chunk has changed: those that waited look again.
void WakeBaseWaiters(const ReplicaPtr& replica, ChunkId chunk) {
  std::deque<std::function<void()>> waiters;
  {
    MutexLock lock(replica->mutex);
    const auto found = replica->base_waiters.find(chunk);
    if (found == replica->base_waiters.end()) return;
    waiters = std::move(found->second);
    replica->base_waiters.erase(found);
    replica->base_waiter_count -= waiters.size();
  }
  for (const auto& waiter : waiters) waiter();
}

// What comes before may be on its way. Looked at again when the chunk changes, and when the time is over.
void WaitForBase(const ReplicaPtr& replica, const MemberChangePtr& change) {
  const ChunkId chunk = change->chunk();
  const int64_t left_ns = change->deadline_ns - replica->ctx->NowNs();
  if (left_ns <= 0) return change->responder->Fail(Status(StatusCode::kUnavailable, "a change of chunk " + ToString(chunk) + " before this one does not come"));
  bool is_first = false;
  {
    MutexLock lock(replica->mutex);
    if (replica->base_waiter_count < kBaseWaitersMax && replica->role != Role::kNone) {
      std::deque<std::function<void()>>& waiters = replica->base_waiters[chunk];
      is_first = waiters.empty();
      waiters.push_back([=] { Begin(replica, change); });
      ++replica->base_waiter_count;
    } else {
      is_first = false;
      return change->responder->Fail(Status(StatusCode::kResourceExhausted, "too many changes wait for others before them"));
    }
  }
  if (is_first) replica->ctx->executor->RunAfter(left_ns / kNsPerMs + 1, [=] { WakeBaseWaiters(replica, chunk); });
}

// Before the store is touched, so that no reader sees the change and does not know that it is unconfirmed. With the lock held.
// ok: `applying` has begun.
Status Record(Replica& replica, const proto::ReplicateRequest& request, ChunkId chunk, uint64_t* applying) REQUIRES(replica.mutex) {
  if (Status status = replica.CheckFromPrimary(request.member()); !status.ok()) return status;
  replica.unconfirmed.Confirm(request.confirmed_order());
  if (replica.unconfirmed.size() >= 2 * kPendingMax) return Status(StatusCode::kResourceExhausted, "too many changes are unconfirmed");
  replica.unconfirmed.Add(request.order(), {chunk, StampOf(request.stamp()), Epoch(request.member().epoch())});
  *applying = replica.applying.Begin();
  return Status::Ok();
}

Result<store::ChangeOutcome> Apply(const Replica& replica, const MemberChange& change) {
  const proto::ReplicateRequest& request = *change.request;
  const store::ChunkStamp stamp = StampOf(request.stamp());
  const store::ChangeContext context{.group = replica.group, .epoch = stamp.epoch, .base = StampOf(request.base())};
  Result<store::ChangeOutcome> outcome =
      request.has_write()
          ? replica.ctx->store->ApplyWrite(WriteOf(request.write(), change.payload), context)
          : replica.ctx->store->ApplyTruncate(change.chunk(), WriterOf(request.truncate()), ViewOf(request.truncate().truncate()), context);
  if (outcome.ok() && outcome->stamp != stamp) {
    return Status(StatusCode::kInternal, "chunk " + ToString(change.chunk()) + " has version " + std::to_string(outcome->stamp.version) +
                                             " after a change that gave it " + std::to_string(stamp.version) + " at the primary");
  }
  return outcome;
}

// With the chunk's turn. What the store answers, or nothing: the change waits.
std::optional<Status> TryApply(const ReplicaPtr& replica, const MemberChange& change) {
  const Result<store::ChunkState> state = replica->ctx->store->StateOf(change.chunk());
  if (!state.ok()) return state.status();
  switch (StepOf(state->stamp, StampOf(change.request->base()), StampOf(change.request->stamp()))) {
    case ReplicateStep::kSeen: return Status::Ok();
    case ReplicateStep::kWait: return std::nullopt;
    case ReplicateStep::kApply: break;
  }
  return Apply(*replica, change).status();
}

void ApplyInTurn(const ReplicaPtr& replica, const MemberChangePtr& change) {
  const ChunkId chunk = change->chunk();
  uint64_t applying = 0;
  {
    MutexLock lock(replica->mutex);
    if (Status status = Record(*replica, *change->request, chunk, &applying); !status.ok()) return Refuse(*replica, change->responder, status);
  }
  const std::optional<Status> status = TryApply(replica, *change);
  Callbacks out;
  {
    MutexLock lock(replica->mutex);
    replica->applying.End(applying, &out);
  }
  RunAll(std::move(out));
  if (!status) return WaitForBase(replica, change);
  if (!status->ok()) return change->responder->Fail(*status);
  Acknowledge(replica, change);
  WakeBaseWaiters(replica, chunk);
}

void Begin(const ReplicaPtr& replica, const MemberChangePtr& change) {
  replica->order->Acquire(change->chunk(), [=](const ChunkOrder::TurnPtr&) { ApplyInTurn(replica, change); });
}

Status Check(const ReplicaPtr& replica, const proto::GroupAddress& address) {
  MutexLock lock(replica->mutex);
  return replica->CheckFromPrimary(address);
}

// Whether this is the attempt that the last ChunkSums named; its chunk counts as unconfirmed from now on.
Status CheckCopy(const ReplicaPtr& replica, const proto::InstallChunkRequest& request, ChunkId chunk) {
  MutexLock lock(replica->mutex);
  if (Status status = replica->CheckFromPrimary(request.member()); !status.ok()) return status;
  const auto found = replica->copies.find(chunk);
  if (found == replica->copies.end() || found->second != request.copy()) {
    return Status(StatusCode::kStaleSequence, "a piece of a copy that was given up");
  }
  if (replica->role == Role::kMember) replica->installed.insert(chunk);
  return Status::Ok();
}

// If the copy breaks off and this in-sync member becomes the primary, what it has by then is what counts. So it must not know a cut of which the
// pieces know nothing: their bytes may lie behind it, and a cut that is sent again would find nothing to do. (What was acknowledged does not lie
// behind it: then the sender would know it.) A member that is not in-sync begins anew.
Status ForgetCut(const ReplicaPtr& replica, const proto::InstallChunkRequest& request, ChunkId chunk) {
  if (request.truncate_generation() == 0) return Status::Ok();  // an earlier version does not say
  {
    MutexLock lock(replica->mutex);
    if (replica->role != Role::kMember) return Status::Ok();
  }
  ASSIGN_OR_RETURN(store::ChunkState state, replica->ctx->store->StateOf(chunk));
  const uint64_t known_to_sender = request.truncate_generation() - 1;
  if (state.stamp.version == 0 || state.truncate_generation <= known_to_sender) return Status::Ok();
  state.stamp.epoch = Epoch();
  state.truncate_generation = known_to_sender;
  return replica->ctx->store->InstallEnd(chunk, state);
}

Status Install(const Replica& replica, const proto::InstallChunkRequest& request, std::span<const uint8_t> payload) {
  const ChunkId chunk{DataId(request.data_id()), request.chunk_index()};
  if (request.remove()) return replica.ctx->store->RemoveChunk(chunk);
  if (!request.end()) return replica.ctx->store->InstallPiece(chunk, replica.group, request.offset_bytes(), payload, request.piece_sums());
  return replica.ctx->store->InstallEnd(chunk, {.stamp = StampOf(request.stamp()), .group = replica.group, .bytes = request.chunk_bytes(),
                                                .truncate_generation = request.truncate_generation()});
}

}  // namespace

ReplicateStep StepOf(const store::ChunkStamp& current, const store::ChunkStamp& base, const store::ChunkStamp& stamp) {
  // Content of no single epoch is what no change can be laid on, unless there is nothing yet.
  if (!current.epoch.valid() && current.version > 0) return ReplicateStep::kWait;
  if (current == base || (current.version == 0 && base.version == 0)) return ReplicateStep::kApply;
  // All changes of a chunk that this primary sends, or has copied, lie in one order, so a later stamp has the earlier change in it.
  const bool is_later = current.epoch > stamp.epoch || (current.epoch == stamp.epoch && current.version >= stamp.version);
  return is_later ? ReplicateStep::kSeen : ReplicateStep::kWait;
}

std::vector<store::SessionWindow> CommonWindows(const std::vector<store::SessionWindow>& own, const std::vector<store::SessionWindow>& others) {
  std::map<SessionId, const store::SessionWindow*> theirs;
  for (const store::SessionWindow& window : others) theirs[window.session] = &window;
  std::vector<store::SessionWindow> common;
  for (const store::SessionWindow& window : own) {
    const auto found = theirs.find(window.session);
    if (found == theirs.end()) continue;
    const store::SessionWindow& other = *found->second;
    store::SessionWindow both{.session = window.session, .acked_through = std::max(window.acked_through, other.acked_through), .applied = {}};
    const std::set<Sequence> applied(other.applied.begin(), other.applied.end());
    for (const Sequence sequence : window.applied) {
      if (sequence > both.acked_through && applied.contains(sequence)) both.applied.push_back(sequence);
    }
    common.push_back(std::move(both));
  }
  return common;
}

void HandleReplicate(const ReplicaPtr& replica, std::shared_ptr<const proto::ReplicateRequest> request, std::span<const uint8_t> payload,
                     std::shared_ptr<void> holder, const ResponderPtr& responder) {
  if (Status status = Check(replica, request->member()); !status.ok()) return Refuse(*replica, responder, status);
  if (!request->has_write() && !request->has_truncate()) return responder->Fail(Status(StatusCode::kInvalidArgument, "a Replicate without a change"));
  auto change = std::make_shared<MemberChange>();
  change->request = std::move(request);
  change->payload = payload;
  change->holder = std::move(holder);
  change->responder = responder;
  change->deadline_ns = replica->ctx->NowNs() + replica->ctx->options.member_timeout_ms * kNsPerMs;
  Begin(replica, change);
}

void HandleReconcile(const ReplicaPtr& replica, const proto::ReconcileRequest& request, const ResponderPtr& responder) {
  if (Status status = Check(replica, request.member()); !status.ok()) return Refuse(*replica, responder, status);
  const auto answer = [replica, address = request.member(), responder] {
    proto::ReconcileReply reply;
    {
      MutexLock lock(replica->mutex);
      if (Status status = replica->CheckFromPrimary(address); !status.ok()) return Refuse(*replica, responder, status);
      const auto add = [&reply](ChunkId chunk, const store::ChunkStamp& stamp) {
        proto::ChunkEntry* entry = reply.add_unconfirmed();
        entry->set_data_id(chunk.data.value());
        entry->set_chunk_index(chunk.index);
        SetStamp(stamp, entry->mutable_stamp());
      };
      for (const auto& [order, entry] : replica->unconfirmed.entries()) add(entry.chunk, entry.stamp);
      for (const ChunkId chunk : replica->installed) add(chunk, {});
      reply.set_list_lost(replica->list_lost);
    }
    responder->Reply(reply);
  };
  // Changes of earlier epochs that are still in the store's hands belong to the list and to the session windows.
  Callbacks out;
  {
    MutexLock lock(replica->mutex);
    replica->applying.WhenDrained(answer, &out);
  }
  RunAll(std::move(out));
}

void HandleInventory(const ReplicaPtr& replica, std::shared_ptr<const proto::InventoryRequest> request, const ResponderPtr& responder) {
  if (Status status = Check(replica, request->member()); !status.ok()) return Refuse(*replica, responder, status);
  replica->ctx->executor->Run([=] {
    std::optional<ChunkId> after;
    if (request->after_data_id() != 0 || request->after_chunk_index() != 0) after = ChunkId{DataId(request->after_data_id()), request->after_chunk_index()};
    const Result<store::InventoryPage> page = replica->ctx->store->ListGroup(replica->group, after, request->entries_max());
    if (!page.ok()) return responder->Fail(page.status());
    proto::InventoryReply reply;
    for (const store::InventoryEntry& chunk : page->chunks) {
      proto::ChunkEntry* entry = reply.add_chunks();
      entry->set_data_id(chunk.chunk.data.value());
      entry->set_chunk_index(chunk.chunk.index);
      SetStamp(chunk.stamp, entry->mutable_stamp());
      entry->set_bytes(chunk.bytes);
    }
    reply.set_end(page->end);
    responder->Reply(reply);
  });
}

void HandleChunkSums(const ReplicaPtr& replica, std::shared_ptr<const proto::ChunkSumsRequest> request, const ResponderPtr& responder) {
  const ChunkId chunk{DataId(request->data_id()), request->chunk_index()};
  replica->order->Acquire(chunk, [=](const ChunkOrder::TurnPtr&) {
    proto::ChunkSumsReply reply;
    {
      MutexLock lock(replica->mutex);
      // Another member may ask as well, for a repair of its own.
      Status status;
      if (request->install()) {
        status = replica->CheckFromPrimary(request->member());
      } else if (replica->view.epoch != Epoch(request->member().epoch()) || !replica->view.IsInSync(replica->ctx->target)) {
        status = Status(StatusCode::kStaleEpoch, "another epoch of the group is current");
      }
      if (!status.ok()) return Refuse(*replica, responder, status);
      if (request->install()) {
        reply.set_copy(replica->ctx->next_copy++);
        replica->copies[chunk] = reply.copy();
      }
    }
    store::ReplicaStore* const store = replica->ctx->store;
    const Result<store::ChunkSums> sums = request->install() ? store->SumsToInstall(chunk) : store->SumsOf(chunk);
    if (!sums.ok()) return responder->Fail(sums.status());
    SetStamp(sums->state.stamp, reply.mutable_stamp());
    reply.set_bytes(sums->state.bytes);
    reply.set_truncate_generation(sums->state.truncate_generation);
    for (const uint64_t sum : sums->blocks) AppendSum(*reply.mutable_block_sums(), sum);
    responder->Reply(reply);
  });
}

void HandleInstallChunk(const ReplicaPtr& replica, std::shared_ptr<const proto::InstallChunkRequest> request, std::span<const uint8_t> payload,
                        std::shared_ptr<void> holder, const ResponderPtr& responder) {
  const ChunkId chunk{DataId(request->data_id()), request->chunk_index()};
  replica->order->Acquire(chunk, [=, holder = std::move(holder)](const ChunkOrder::TurnPtr&) {
    if (Status status = CheckCopy(replica, *request, chunk); !status.ok()) return Refuse(*replica, responder, status);
    const bool ended = request->end() || request->remove();
    if (Status status = ended ? Status::Ok() : ForgetCut(replica, *request, chunk); !status.ok()) return responder->Fail(status);
    if (Status status = Install(*replica, *request, payload); !status.ok()) return responder->Fail(status);
    if (ended) {
      MutexLock lock(replica->mutex);
      replica->copies.erase(chunk);
    }
    proto::InstallChunkReply reply;
    reply.set_available_bytes(replica->ctx->store->AvailableBytes());
    responder->Reply(reply);
    if (ended) WakeBaseWaiters(replica, chunk);
  });
}

void HandleInstallWindows(const ReplicaPtr& replica, std::shared_ptr<const proto::InstallWindowsRequest> request, const ResponderPtr& responder) {
  replica->ctx->executor->Run([=] {
    const std::vector<store::SessionWindow> windows = WindowsOf(*request);
    {
      // The store's windows are memory: they are set under the lock, so that no late copy of this comes between.
      MutexLock lock(replica->mutex);
      if (Status status = replica->CheckFromPrimary(request->member()); !status.ok()) return Refuse(*replica, responder, status);
      if (request->round() > replica->windows_round) {
        replica->windows_round = request->round();
        store::ReplicaStore* const store = replica->ctx->store;
        if (request->forget()) {
          store->InstallWindows(replica->group, CommonWindows(store->WindowsOf(replica->group), windows), true);
        } else {
          store->InstallWindows(replica->group, windows, false);
        }
        // An in-sync member learns the rest when a new primary has made everybody equal; one that is syncing begins with nothing.
        if (request->forget() == (replica->role == Role::kSyncing)) {
          replica->unconfirmed.ForgetBefore(Epoch(request->member().epoch()));
          replica->installed.clear();
          replica->list_lost = false;
        }
      }
    }
    responder->Reply(proto::InstallWindowsReply());
  });
}

}  // namespace tarn::replication
