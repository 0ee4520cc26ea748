#include "tests/sim/data/client.h"

#include <string>
#include <utility>

#include "common/checksum/block_sums.h"

namespace tarn::sim_data {
namespace {

constexpr int64_t kAttemptTimeoutNs = 800 * sim::kMillisecond;
constexpr int64_t kRetryNs = 60 * sim::kMillisecond;

}  // namespace

struct Client::Operation {
  enum class Kind { kWrite, kRead, kCommit };
  Kind kind = Kind::kWrite;
  uint32_t worker = 0;
  uint64_t generation = 0;  // of the session
  CellId cell;
  uint64_t number = 0;  // of a write
  uint64_t sequence = 0;
  bool durable = false;
  bool ask_primary = false;
  bool done = false;
  uint64_t attempt = 0;
};

Client::Client(uint32_t number, const World& world) : number_(number), world_(world), bench_(world.bench), map_(world.leader->map()) {}

void Client::Start() {
  session_ = 1'000 * (number_ + 1);
  for (uint32_t worker = 0; worker < kWorkersPerClient; ++worker) Next(worker);
}

void Client::Reopen() {
  ++session_;
  ++generation_;
  last_sequence_.clear();
  under_way_.clear();
  for (uint32_t worker = 0; worker < kWorkersPerClient; ++worker) {
    if (!finishing_) Next(worker);
  }
}

void Client::Next(uint32_t worker) {
  if (finishing_) return;
  bench_->queue.After(bench_->dice.LongTailed(60 * sim::kMillisecond), [this, worker, generation = generation_] {
    if (finishing_ || generation != generation_) return;
    sim::Dice& dice = bench_->dice;
    auto operation = std::make_shared<Operation>();
    operation->worker = worker;
    operation->generation = generation;
    operation->cell.group = static_cast<uint32_t>(dice.Below(bench_->plan.groups)) + 1;
    operation->cell.chunk = static_cast<uint32_t>(dice.Below(kChunksPerGroup)) + 1;
    operation->cell.slot = number_ * kWorkersPerClient + worker;
    if (dice.Chance(bench_->plan.reads)) {
      operation->kind = Operation::Kind::kRead;
      operation->cell.slot = static_cast<uint32_t>(dice.Below(bench_->plan.clients * kWorkersPerClient));
    } else if (dice.Chance(0.1)) {
      operation->kind = Operation::Kind::kCommit;
    } else {
      operation->durable = dice.Chance(bench_->plan.durable);
    }
    Begin(operation);
  });
}

void Client::Begin(const OperationPtr& operation) {
  ++busy_;
  if (operation->kind == Operation::Kind::kWrite) {
    operation->number = world_.oracle->BeginWrite(operation->cell);
    operation->sequence = ++last_sequence_[operation->cell.group];
    under_way_[operation->cell.group].insert(operation->sequence);
  }
  Attempt(operation);
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
    Attempt(operation);
  });
  const proto::PlacementGroup& group = map_->groups(static_cast<int>(operation->cell.group) - 1);
  int member = 0;
  if (operation->kind == Operation::Kind::kRead && !operation->ask_primary) member = static_cast<int>(bench_->dice.Below(static_cast<uint64_t>(group.targets_size())));
  Server* const server = world_.servers->at(TargetId(group.targets(member))).get();
  switch (operation->kind) {
    case Operation::Kind::kWrite: return SendWrite(operation, server, group.epoch());
    case Operation::Kind::kRead: return SendRead(operation, server, group.epoch());
    case Operation::Kind::kCommit: return SendCommit(operation, server);
  }
}

void Client::SendWrite(const OperationPtr& operation, Server* server, uint64_t epoch) {
  const CellId cell = operation->cell;
  auto payload = std::make_shared<std::string>(CellBytes(cell, operation->number));
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(payload->data()), payload->size());
  auto request = std::make_shared<proto::WriteChunkRequest>();
  request->mutable_chunk()->set_target(server->target().value());
  request->mutable_chunk()->set_group(cell.group);
  request->mutable_chunk()->set_epoch(epoch);
  request->mutable_chunk()->set_data_id(cell.chunk_id().data.value());
  request->mutable_chunk()->set_chunk_index(cell.chunk_id().index);
  request->set_session(session_);
  request->set_sequence(bench_->plan.plant == Plant::kNoSequences ? 0 : operation->sequence);
  request->set_acked_through(*under_way_[cell.group].begin() - 1);  // everything below the oldest under way
  request->set_offset_bytes(cell.offset_bytes());
  request->set_piece_sums(ComputePieceSums(cell.offset_bytes(), bytes));
  request->set_durable(operation->durable);
  world_.net->Send(node(), server->target().value(), [this, operation, server, request, payload, bytes] {
    if (!server->is_up()) return;
    server->engine()->Write({request, bytes, payload}, [this, operation, server, payload](const replication::ChangeAnswer& answer) {
      const StatusCode code = answer.status.code();
      if (code == StatusCode::kCancelled) return;
      if (code == StatusCode::kOk) {
        bench_->Trace("write " + std::to_string(operation->cell.group) + "." + std::to_string(operation->cell.chunk) + "." +
                      std::to_string(operation->cell.slot) + " #" + std::to_string(operation->number) + " acknowledged by " + server->name() +
                      (answer.durable ? " durably" : ""));
        world_.oracle->Acknowledged(operation->cell, operation->number, answer.durable);
        ++world_.counts->writes;
        world_.check_copies(operation->cell.group, answer.durable);
        if (operation->durable && !answer.durable) bench_->Violation("a durable write was answered as not durable");
      }
      world_.net->Send(server->target().value(), node(), [this, operation, code] { Answered(operation, code); });
    });
  });
}

void Client::SendRead(const OperationPtr& operation, Server* server, uint64_t epoch) {
  const bool is_primary = map_->groups(static_cast<int>(operation->cell.group) - 1).targets(0) == server->target().value();
  const Oracle::ReadBegin begin = world_.oracle->BeginRead(operation->cell);
  world_.net->Send(node(), server->target().value(), [this, operation, server, epoch, begin, is_primary] {
    if (!server->is_up()) return;
    const CellId cell = operation->cell;
    const StatusCode code = server->engine()->AdmitRead(GroupId(cell.group), Epoch(epoch), cell.chunk_id()).code;
    if (code == StatusCode::kOk) {
      const auto found = server->store().chunks().find(cell.chunk_id());
      world_.oracle->CheckRead(cell, begin, found == server->store().chunks().end() ? std::string() : found->second.bytes, server->name(), !is_primary);
      ++world_.counts->reads;
    }
    world_.net->Send(server->target().value(), node(), [this, operation, code] { Answered(operation, code); });
  });
}

void Client::SendCommit(const OperationPtr& operation, Server* server) {
  const uint32_t group = operation->cell.group;
  world_.net->Send(node(), server->target().value(), [this, operation, server, group] {
    if (!server->is_up()) return;
    const auto begin = std::make_shared<Oracle::CommitBegin>(world_.oracle->BeginCommit(group));
    server->engine()->Commit({GroupId(group)}, [this, operation, server, group, begin](const Status& status, const std::vector<GroupId>& not_primary) {
      StatusCode code = status.code();
      if (code == StatusCode::kCancelled) return;
      if (code == StatusCode::kOk && !not_primary.empty()) code = StatusCode::kStaleEpoch;
      if (code == StatusCode::kOk) {
        bench_->Trace("commit of group " + std::to_string(group) + " by " + server->name());
        world_.oracle->Committed(group, *begin);
        ++world_.counts->commits;
        world_.check_copies(group, true);
      }
      world_.net->Send(server->target().value(), node(), [this, operation, code] { Answered(operation, code); });
    });
  });
}

void Client::Answered(const OperationPtr& operation, StatusCode code) {
  if (operation->done || operation->generation != generation_) return;
  switch (code) {
    case StatusCode::kOk: return End(operation);
    case StatusCode::kFenced: return;  // until the fence is complete
    case StatusCode::kAskPrimary: operation->ask_primary = true; return Attempt(operation);
    case StatusCode::kStaleEpoch:
    case StatusCode::kUnavailable:
    case StatusCode::kResourceExhausted:
      FetchMap();
      operation->ask_primary = false;
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
  if (operation->kind == Operation::Kind::kWrite) under_way_[operation->cell.group].erase(operation->sequence);
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
