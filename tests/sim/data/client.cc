#include "tests/sim/data/client.h"

#include <optional>
#include <string>
#include <utility>

#include "common/checksum/block_sums.h"
#include "metaserver/state/group_members.h"

namespace tarn::sim_data {
namespace {

constexpr int64_t kAttemptTimeoutNs = 800 * sim::kMillisecond;
// Few, so that clients meet.
constexpr uint64_t kSharedChunks = 4;
constexpr int64_t kRetryNs = 60 * sim::kMillisecond;
constexpr int64_t kOpenAgainNs = 500 * sim::kMillisecond;
constexpr int64_t kRenewNs = 300 * sim::kMillisecond;

}  // namespace

struct Client::Operation {
  enum class Kind { kWrite, kCut, kRead, kCommit };
  Kind kind = Kind::kWrite;
  uint32_t worker = 0;
  uint64_t generation = 0;  // of the session
  CellId cell;
  uint64_t number = 0;  // of a change
  uint64_t sequence = 0;
  bool durable = false;
  bool ask_primary = false;
  bool primary_is_silent = false;
  bool done = false;
  uint64_t attempt = 0;
  std::optional<store::ChunkStamp> acknowledged;  // it is sent again

  bool is_shared() const { return cell.slot == kSharedSlot; }
  bool is_change() const { return kind == Kind::kWrite || kind == Kind::kCut; }
};

Client::Client(uint32_t number, const World& world) : number_(number), world_(world), bench_(world.bench), map_(world.leader->map()) {}

uint32_t Client::workers() const {
  if (is_reader()) return 1;
  return kWorkersPerClient + (number_ == 0 && bench_->plan.cuts > 0 ? 1 : 0);
}

void Client::Start() {
  ++sessions_asked_for_;
  is_renewing_ = true;
  OpenSession();
  Renew();
}

void Client::OpenSession() {
  world_.net->Send(node(), kLeaderNode, [this, generation = generation_] {
    world_.leader->OpenSession(1'000 * (number_ + 1) + sessions_asked_for_, [this, generation](const Result<uint64_t>& session) {
      world_.net->Send(kLeaderNode, node(), [this, generation, opened = *session] {
        if (generation != generation_ || session_ != 0) return;
        session_ = opened;
        map_ = world_.leader->map();
        StartWorkers();
      });
    });
  });
  bench_->queue.After(kOpenAgainNs, [this, generation = generation_] {
    if (generation == generation_ && session_ == 0) OpenSession();
  });
}

void Client::Renew() {
  bench_->queue.After(kRenewNs, [this] { Renew(); });
  if (session_ == 0 || !is_renewing_ || is_dead_) return;
  world_.net->Send(node(), kLeaderNode, [this, session = session_] { world_.leader->RenewSession(session); });
}

void Client::Die() {
  ++generation_;
  is_dead_ = true;
  kept_.clear();
}

void Client::StartWorkers() {
  for (uint32_t worker = 0; worker < workers(); ++worker) Next(worker);
  if (bench_->plan.sharing && !is_reader()) Next(kSharingWorker);
}

void Client::Closed() {
  ++generation_;
  ++sessions_asked_for_;
  session_ = 0;
  is_renewing_ = true;
  is_dead_ = false;
  last_sequence_.clear();
  under_way_.clear();
  kept_.clear();
  OpenSession();
}

uint32_t Client::AnyGroup() const {
  const std::vector<uint32_t>& groups = world_.leader->used_groups();
  return groups[bench_->dice.Below(groups.size())];
}

bool Client::WritesTo(uint32_t group) const {
  const auto found = under_way_.find(group);
  return found != under_way_.end() && !found->second.empty();
}

void Client::Next(uint32_t worker) {
  const auto is_over = [this, worker] { return finishing_ && (worker != kSharingWorker || kept_.empty()); };
  if (is_over()) return;
  const int64_t think_ms = is_reader() || worker == kSharingWorker ? 20 : bench_->plan.think_ms;
  bench_->queue.After(bench_->dice.LongTailed(think_ms * sim::kMillisecond), [this, worker, is_over, generation = generation_] {
    if (is_over() || generation != generation_) return;
    auto operation = std::make_shared<Operation>();
    operation->worker = worker;
    operation->generation = generation;
    Choose(operation.get());
    Begin(operation);
  });
}

void Client::ChooseShared(Operation* operation) {
  sim::Dice& dice = bench_->dice;
  operation->cell = {AnyGroup(), static_cast<uint32_t>(dice.Below(kSharedChunks)) + 1, kSharedSlot};
  for (const auto& [cell, kept] : kept_) {
    if (!kept.is_outdated) continue;
    operation->cell = cell;
    operation->number = kept.number;
    operation->acknowledged = kept.stamp;
    return;
  }
  if (finishing_) operation->cell = kept_.begin()->first;
  if (finishing_ || dice.Chance(0.1)) {
    operation->kind = Operation::Kind::kCommit;
  } else if (dice.Chance(0.4)) {
    operation->kind = Operation::Kind::kRead;
  } else {
    operation->durable = dice.Chance(bench_->plan.durable / 4);
  }
}

void Client::Choose(Operation* operation) {
  if (operation->worker == kSharingWorker) return ChooseShared(operation);
  sim::Dice& dice = bench_->dice;
  const Plan& plan = bench_->plan;
  const std::vector<uint32_t>& groups = world_.leader->used_groups();
  operation->cell.group = is_reader() ? groups[number_ % groups.size()] : AnyGroup();
  operation->cell.chunk = static_cast<uint32_t>(dice.Below(plan.chunks)) + 1;
  operation->cell.slot = number_ * kWorkersPerClient + operation->worker;
  if (operation->worker == kWorkersPerClient) {
    operation->cell.slot = kTailSlot;
    operation->kind = dice.Chance(0.5) ? Operation::Kind::kCut : Operation::Kind::kWrite;
    operation->durable = operation->kind == Operation::Kind::kCut || dice.Chance(plan.durable);
  } else if (is_reader() || dice.Chance(plan.reads)) {
    operation->kind = Operation::Kind::kRead;
    operation->cell.slot = plan.cuts > 0 && dice.Chance(0.15) ? kTailSlot : static_cast<uint32_t>(dice.Below(plan.clients * kWorkersPerClient));
  } else if (dice.Chance(0.1)) {
    operation->kind = Operation::Kind::kCommit;
  } else {
    operation->durable = dice.Chance(plan.durable);
  }
}

void Client::Begin(const OperationPtr& operation) {
  ++busy_;
  if (operation->is_change()) {
    const CellId cell = operation->cell;
    if (operation->kind == Operation::Kind::kCut) ++(*world_.generations)[{cell.group, cell.chunk}];
    if (operation->acknowledged) {
      ++world_.counts->sent_again;
    } else if (operation->is_shared()) {
      operation->number = world_.oracle->BeginSharedWrite(cell);
      kept_.erase(cell);  // the new bytes lie over it
    } else {
      operation->number = operation->kind == Operation::Kind::kCut ? world_.oracle->BeginCut(cell) : world_.oracle->BeginWrite(cell);
    }
    operation->sequence = ++last_sequence_[cell.group];
    under_way_[cell.group].insert(operation->sequence);
  }
  Attempt(operation);
}

Server* Client::ServerFor(const OperationPtr& operation, const proto::PlacementGroup& group) {
  uint64_t target = group.targets(0);
  if (operation->kind == Operation::Kind::kRead && !operation->ask_primary) {
    target = group.targets(static_cast<int>(bench_->dice.Below(static_cast<uint64_t>(group.targets_size()))));
    if (is_reader()) target = stays_with_ = stays_with_ != 0 ? stays_with_ : target;
  }
  return world_.fleet->Find(TargetId(target));
}

void Client::Attempt(const OperationPtr& operation) {
  if (operation->done || operation->generation != generation_) {
    if (!operation->done) {
      operation->done = true;
      --busy_;
    }
    return;
  }
  const uint64_t attempt = ++operation->attempt;
  bench_->queue.After(kAttemptTimeoutNs, [this, operation, attempt] {
    if (operation->done || operation->attempt != attempt) return;
    FetchMap();
    // A reader asks whoever else may know.
    operation->primary_is_silent = true;
    operation->ask_primary = false;
    stays_with_ = 0;
    Attempt(operation);
  });
  const proto::PlacementGroup& group = *meta::FindGroup(*map_, operation->cell.group);
  Server* const server = ServerFor(operation, group);
  if (server == nullptr) return;  // until the time is up
  switch (operation->kind) {
    case Operation::Kind::kWrite: return SendWrite(operation, server, group.epoch());
    case Operation::Kind::kCut: return SendCut(operation, server, group.epoch());
    case Operation::Kind::kRead: return SendRead(operation, server, group.epoch());
    case Operation::Kind::kCommit: return SendCommit(operation, server);
  }
}

template <typename Request>
void Client::FillChange(const OperationPtr& operation, uint64_t target, uint64_t epoch, Request* request) const {
  const CellId cell = operation->cell;
  request->mutable_chunk()->set_target(target);
  request->mutable_chunk()->set_group(cell.group);
  request->mutable_chunk()->set_epoch(epoch);
  request->mutable_chunk()->set_data_id(cell.chunk_id().data.value());
  request->mutable_chunk()->set_chunk_index(cell.chunk_id().index);
  request->set_session(session_);
  request->set_sequence(bench_->plan.plant == Plant::kNoSequences ? 0 : operation->sequence);
  request->mutable_truncate()->set_generation((*world_.generations)[{cell.group, cell.chunk}]);
  request->mutable_truncate()->set_truncated_chunk_bytes(kTailSlot * kCellBytes);
}

replication::ChangeCallback Client::Changed(const OperationPtr& operation, Server* server) {
  return [this, operation, server, attempt = operation->attempt](const replication::ChangeAnswer& answer) {
    const StatusCode code = answer.status.code();
    if (code == StatusCode::kCancelled) return;
    if (code == StatusCode::kOk) {
      const CellId cell = operation->cell;
      bench_->Trace((operation->kind == Operation::Kind::kCut ? "cut " : "write ") + std::to_string(cell.group) + "." + std::to_string(cell.chunk) + "." +
                    std::to_string(cell.slot) + " #" + std::to_string(operation->number) + " acknowledged by " + server->name() +
                    (answer.durable ? " durably" : ""));
      if (!operation->is_shared()) {
        world_.oracle->Acknowledged(cell, operation->number, answer.durable);
      } else if (world_.leader->group(cell.group).primary() == server->target()) {
        const auto chunk = server->store().chunks().find(cell.chunk_id());
        world_.oracle->CheckSharedAnswer(cell, operation->number, chunk == server->store().chunks().end() ? std::string() : chunk->second.bytes, server->name());
      }
      ++world_.counts->writes;
      world_.check_copies(cell.group, answer.durable);
      if (operation->durable && !answer.durable) bench_->Violation("a durable change was answered as not durable");
    }
    const Acknowledgement acknowledgement{answer.outcome.stamp, server->target(), server->process(), answer.durable, !answer.superseded.empty(),
                                          world_.oracle->losses_of(operation->cell.group)};
    world_.net->Send(server->target().value(), node(), [this, operation, code, acknowledgement, attempt] {
      // As in the client library: what has been given up and sent again is not heard of any more. Else a copy could be under way to a process
      // that knows nothing of the answer.
      if (operation->is_shared() && attempt != operation->attempt) return;
      if (operation->is_shared()) Keep(operation, acknowledgement, code);
      Answered(operation, code);
    });
  };
}

void Client::Keep(const OperationPtr& operation, const Acknowledgement& acknowledgement, StatusCode code) {
  if (operation->done || operation->generation != generation_) return;
  const CellId cell = operation->cell;
  if (code == StatusCode::kIoError && operation->acknowledged) {
    // The application is told that it is lost.
    ++world_.counts->given_up;
    kept_.erase(cell);
  }
  if (code != StatusCode::kOk) return;
  world_.oracle->SharedAcknowledged(cell, operation->number, acknowledgement.durable, acknowledgement.losses);
  kept_.erase(cell);
  world_.counts->given_way += acknowledgement.was_superseded;
  if (acknowledgement.durable || acknowledgement.was_superseded) return;
  kept_[cell] = {operation->number, acknowledgement.stamp, acknowledgement.target, acknowledgement.process, false};
}

// The commit was answered by this process of this target, the primary.
void Client::Covered(const OperationPtr& commit, const std::map<CellId, uint64_t>& covers, TargetId target, uint64_t process) {
  if (commit->done || commit->generation != generation_) return;
  for (const auto& [cell, number] : covers) {
    const auto found = kept_.find(cell);
    if (found == kept_.end() || found->second.number != number) continue;
    Kept& kept = found->second;
    if (kept.target == target && kept.process == process) {
      kept_.erase(found);
    } else {
      kept.is_outdated = true;
    }
  }
}

void Client::SendWrite(const OperationPtr& operation, Server* server, uint64_t epoch) {
  const CellId cell = operation->cell;
  auto payload = std::make_shared<std::string>(CellBytes(cell, operation->number));
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(payload->data()), payload->size());
  auto request = std::make_shared<proto::WriteChunkRequest>();
  FillChange(operation, server->target().value(), epoch, request.get());
  if (!bench_->plan.lazy_acks) request->set_acked_through(*under_way_[cell.group].begin() - 1);  // everything below the oldest under way
  request->set_offset_bytes(cell.offset_bytes());
  request->set_piece_sums(ComputePieceSums(cell.offset_bytes(), bytes));
  request->set_durable(operation->durable);
  if (operation->acknowledged && bench_->plan.plant != Plant::kSendAgainAsNew) {
    request->mutable_acknowledged()->set_epoch(operation->acknowledged->epoch.value());
    request->mutable_acknowledged()->set_version(operation->acknowledged->version);
  }
  world_.net->Send(node(), server->target().value(), [this, operation, server, request, payload, bytes] {
    if (server->serves()) server->engine()->Write({request, bytes, payload}, Changed(operation, server));
  });
}

void Client::SendCut(const OperationPtr& operation, Server* server, uint64_t epoch) {
  auto request = std::make_shared<proto::TruncateChunkRequest>();
  FillChange(operation, server->target().value(), epoch, request.get());
  world_.net->Send(node(), server->target().value(), [this, operation, server, request] {
    if (server->serves()) server->engine()->Truncate(request, Changed(operation, server));
  });
}

void Client::SendRead(const OperationPtr& operation, Server* server, uint64_t epoch) {
  const bool is_primary = meta::FindGroup(*map_, operation->cell.group)->targets(0) == server->target().value();
  ReadBegin begin;
  if (operation->is_shared()) {
    begin.shared = world_.oracle->BeginSharedRead(operation->cell);
  } else {
    begin.own = world_.oracle->BeginRead(operation->cell);
  }
  world_.net->Send(node(), server->target().value(), [this, operation, server, epoch, begin, is_primary] {
    if (!server->serves()) return;
    const CellId cell = operation->cell;
    const StatusCode code = server->engine()->AdmitRead(GroupId(cell.group), Epoch(epoch), cell.chunk_id()).code;
    if (code != StatusCode::kAskPrimary || !operation->primary_is_silent) return ReadHere(operation, server, begin, code, !is_primary);
    server->ConfirmMap([this, operation, server, epoch, begin] {
      const CellId asked = operation->cell;
      const StatusCode confirmed = server->engine()->AdmitConfirmedRead(GroupId(asked.group), Epoch(epoch), asked.chunk_id()).code;
      ReadHere(operation, server, begin, confirmed, false);
    });
  });
}

void Client::ReadHere(const OperationPtr& operation, Server* server, const ReadBegin& begin, StatusCode admitted, bool confirmed) {
  const CellId cell = operation->cell;
  StatusCode code = admitted;
  if (code == StatusCode::kOk) code = server->store().CheckIntact(cell.chunk_id(), cell.offset_bytes(), cell.offset_bytes() + kCellBytes).code();
  if (code == StatusCode::kOk) {
    const auto found = server->store().chunks().find(cell.chunk_id());
    const std::string bytes = found == server->store().chunks().end() ? std::string() : found->second.bytes;
    if (operation->is_shared()) {
      world_.oracle->CheckSharedRead(cell, begin.shared, bytes, server->name());
    } else {
      world_.oracle->CheckRead(cell, begin.own, bytes, server->name(), confirmed);
    }
    ++world_.counts->reads;
  } else if (admitted == StatusCode::kOk) {
    server->RepairDamage();
  }
  world_.net->Send(server->target().value(), node(), [this, operation, code] { Answered(operation, code); });
}

void Client::SendCommit(const OperationPtr& operation, Server* server) {
  const uint32_t group = operation->cell.group;
  std::map<CellId, uint64_t> covers;  // what is kept as it is sent
  for (const auto& [cell, kept] : kept_) {
    if (cell.group == group && operation->worker == kSharingWorker) covers[cell] = kept.number;
  }
  world_.net->Send(node(), server->target().value(), [this, operation, server, group, covers] {
    if (!server->serves()) return;
    const auto begin = std::make_shared<Oracle::CommitBegin>(world_.oracle->BeginCommit(group));
    server->engine()->Commit({GroupId(group)}, [this, operation, server, group, begin, covers](const Status& status, const std::vector<GroupId>& not_primary) {
      StatusCode code = status.code();
      if (code == StatusCode::kCancelled) return;
      if (code == StatusCode::kOk && !not_primary.empty()) code = StatusCode::kStaleEpoch;
      if (code == StatusCode::kOk) {
        bench_->Trace("commit of group " + std::to_string(group) + " by " + server->name());
        world_.oracle->Committed(group, *begin);
        ++world_.counts->commits;
        world_.check_copies(group, true);
      }
      world_.net->Send(server->target().value(), node(), [this, operation, code, covers, target = server->target(), process = server->process()] {
        if (code == StatusCode::kOk) Covered(operation, covers, target, process);
        Answered(operation, code);
      });
    });
  });
}

void Client::Answered(const OperationPtr& operation, StatusCode code) {
  if (operation->done || operation->generation != generation_) return;
  if (code == StatusCode::kIoError && operation->acknowledged) return End(operation);
  switch (code) {
    case StatusCode::kOk: return End(operation);
    case StatusCode::kFenced: return;  // until the fence is complete
    case StatusCode::kAskPrimary: operation->ask_primary = true; return Attempt(operation);
    // Another member has it, or there will be room, or the newest cut is known.
    case StatusCode::kCorruption:
    case StatusCode::kIoError:
    case StatusCode::kNoSpace:
    case StatusCode::kStaleTruncate:
      stays_with_ = 0;
      operation->ask_primary = false;
      bench_->queue.After(kRetryNs * 4, [this, operation, attempt = operation->attempt] {
        if (operation->attempt == attempt) Attempt(operation);
      });
      return;
    case StatusCode::kStaleEpoch:
    case StatusCode::kTimeout:  // of members
    case StatusCode::kUnavailable:
    case StatusCode::kResourceExhausted:
      FetchMap();
      operation->ask_primary = false;
      stays_with_ = 0;
      bench_->queue.After(kRetryNs, [this, operation, attempt = operation->attempt] {
        if (operation->attempt == attempt) Attempt(operation);
      });
      return;
    // Its first copy was done, and so was everything up to it, as an earlier answer said.
    case StatusCode::kStaleSequence: return bench_->Violation("a write under way is called done");
    default: bench_->Violation("a client was answered " + StatusCodeName(code));
  }
}

void Client::End(const OperationPtr& operation) {
  operation->done = true;
  --busy_;
  if (operation->is_change()) under_way_[operation->cell.group].erase(operation->sequence);
  Next(operation->worker);
}

void Client::FetchMap() {
  world_.net->Send(node(), kLeaderNode, [this] {
    if (world_.leader->is_silent()) return;
    world_.net->Send(kLeaderNode, node(), [this, map = world_.leader->map()] {
      if (map->version() > map_->version()) map_ = map;
    });
  });
}

}  // namespace tarn::sim_data
