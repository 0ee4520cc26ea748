#include "tests/sim/sim_data_plane.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/check.h"

namespace tarn::sim {
namespace {

constexpr int64_t kAttemptNs = 200 * kMillisecond;
constexpr int64_t kPauseNs = 20 * kMillisecond;
constexpr int kAttemptsMax = 60;
constexpr int64_t kAgeNs = 300 * kMillisecond;

uint64_t ValueOf(std::span<const uint8_t> bytes) {
  uint64_t value = 0;
  CHECK(bytes.size() == sizeof value, "a write is one cell");
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

}  // namespace

std::shared_ptr<client::InodeData> SimDataPlane::Attach(const client::Attributes& attributes) {
  auto file = std::make_shared<SimFile>(context_, attributes);
  context_.cluster->files->Attach(attributes.inode, file);
  return file;
}

// ---- Writes ----

bool SimFile::HoldsExclusively() const {
  return !context_.process->dead() && context_.metadata->SoleWriterTerm(attributes_.inode) != 0 &&
         context_.metadata->MayWriteData();
}

void SimFile::Put(uint64_t cell, std::span<const uint8_t> bytes) {
  const uint64_t value = ValueOf(bytes);
  const uint64_t end_bytes = std::max(End(), (cell + 1) * kCellBytes);
  buffered_[cell] = value;
  taken_.push_back(value);
  end_bytes_ = end_bytes;
  newest_ = value;
  context_.cluster->files->OnTaken(value, context_.metadata->session());
  if (context_.metadata->SoleWriterTerm(attributes_.inode) != 0) context_.cluster->files->OnBuffered(attributes_.inode);
  if (std::exchange(flushes_later_, true)) return;
  context_.process->RunAfter(context_.cluster->scheduler->dice().LongTailed(kAgeNs), [self = shared_from_this()] {
    self->flushes_later_ = false;
    self->waiting_.emplace_back();
    self->Advance();
  });
}

void SimFile::Write(uint64_t offset, std::span<const uint8_t> bytes, client::StatusCallback done) {
  Put(offset / kCellBytes, bytes);
  done(Status::Ok());
}

void SimFile::Append(std::span<const uint8_t> bytes, client::StatusCallback done) {
  Put(End() / kCellBytes, bytes);
  done(Status::Ok());
}

client::ErrorCursorPtr SimFile::NewErrorCursor() {
  auto cursor = std::make_shared<client::ErrorCursor>();
  cursor->reported = losses_;
  return cursor;
}

void SimFile::FlushFor(const client::ErrorCursorPtr& cursor, client::StatusCallback done) {
  waiting_.push_back({cursor, std::move(done)});
  Advance();
}

void SimFile::FinishRequests(std::deque<Request>* requests) {
  for (const Request& request : std::exchange(*requests, {})) {
    Status status;
    if (request.cursor != nullptr && request.cursor->reported < losses_) {
      request.cursor->reported = losses_;
      status = error_;
    }
    if (request.done) request.done(status);
  }
}

void SimFile::Advance() {
  if (busy_ || waiting_.empty()) return;
  busy_ = true;
  flushing_ = std::exchange(waiting_, {});
  sending_ = std::exchange(buffered_, {});
  sent_ = std::exchange(taken_, {});
  if (!sent_.empty()) return Allocate();
  busy_ = false;
  FinishRequests(&flushing_);
  Advance();
}

void SimFile::Allocate() {
  if (attributes_.data.valid()) return SendCells();
  context_.metadata->AllocateData(attributes_.inode,
                                  [self = shared_from_this(), losses = losses_](const Result<client::Attributes>& result) {
                                    if (self->context_.process->dead() || losses != self->losses_) return;
                                    if (!result.ok()) return self->Lose(result.status());
                                    self->Adopt(*result);
                                    self->attributes_.data = result->data;
                                    self->SendCells();
                                  });
}

ChunkServer* SimFile::Server() const {
  const auto& servers = *context_.cluster->chunk_servers;
  return servers[attributes_.inode.value() % servers.size()].get();
}

void SimFile::SendCells() {
  if (sending_.empty()) return Commit();
  // The value that is there now replaces what an earlier attempt may bring late.
  const auto [cell, value] = *sending_.begin();
  SendCell(cell, value, 0);
}

void SimFile::SendCell(uint64_t cell, uint64_t value, int attempts) {
  const auto again = [self = shared_from_this(), cell, value, attempts, losses = losses_](int64_t delay_ns) {
    self->context_.process->RunAfter(delay_ns, [=] {
      if (losses == self->losses_) self->SendCell(cell, value, attempts + 1);
    });
  };
  const SessionId session = context_.metadata->session();
  if (!context_.metadata->MayWriteData() || !session.valid()) return SendCellLater(cell, value, attempts);
  if (attempts > kAttemptsMax) return Lose(Status(StatusCode::kUnavailable, "a chunk server does not answer"));
  auto answered = std::make_shared<bool>(false);
  ChunkServer* const server = Server();
  Network* const network = context_.cluster->network;
  const auto on_answer = [self = shared_from_this(), answered, cell, again, losses = losses_](const Status& status) {
    if (std::exchange(*answered, true) || losses != self->losses_) return;
    if (status.code() == StatusCode::kUnavailable) return again(kPauseNs);
    if (!status.ok()) return self->Lose(status);
    self->done_[cell] = self->sending_.at(cell);
    self->sending_.erase(cell);
    self->SendCells();
  };
  network->Send(context_.endpoint, server->endpoint(), "write", [=, self = shared_from_this(), data = attributes_.data] {
    server->ReceiveWrite(session, data, {cell, value}, [=](const Status& status) {
      network->Send(server->endpoint(), self->context_.endpoint, "written",
                    [=] { self->context_.process->Run([=] { on_answer(status); }); });
    });
  });
  context_.process->RunAfter(kAttemptNs, [=] { on_answer(Status(StatusCode::kUnavailable, "no answer")); });
}

// While its lease is over it sends no data.
void SimFile::SendCellLater(uint64_t cell, uint64_t value, int attempts) {
  context_.process->RunAfter(kPauseNs, [self = shared_from_this(), cell, value, attempts, losses = losses_] {
    if (losses == self->losses_) self->SendCell(cell, value, attempts);
  });
}

void SimFile::Commit() {
  client::MetadataForData::WriteCommit commit;
  commit.inode = attributes_.inode;
  commit.data = attributes_.data;
  commit.truncate_generation = attributes_.truncate_generation;
  for (const auto& [cell, value] : done_) commit.min_size_bytes = std::max(commit.min_size_bytes, (cell + 1) * kCellBytes);
  commit.mtime_ns = kMtimeBaseNs + static_cast<int64_t>(sent_.back()) * kMtimeStepNs;
  commit.publishes_all = taken_.empty();
  const bool forgets = context_.cluster->plan->plant == Plant::kForgetSize && context_.cluster->scheduler->dice().Chance(0.2);
  if (forgets) commit.min_size_bytes = 0;
  context_.metadata->CommitWrite(commit, [self = shared_from_this(), losses = losses_](const Result<client::Attributes>& result) {
    if (self->context_.process->dead() || losses != self->losses_) return;
    if (!result.ok()) return self->Lose(result.status());
    self->OnCommitted(*result);
  });
}

void SimFile::OnCommitted(const client::Attributes& attributes) {
  const bool only_ours = attributes.data_generation == attributes_.data_generation + 1;
  const auto own = std::exchange(done_, {});
  std::optional<Cells> known = only_ours ? std::exchange(read_, std::nullopt) : std::nullopt;
  const uint64_t ended = reads_ended_;
  if (attributes.change > attributes_.change) Adopt(attributes);
  if (known && reads_ended_ == ended + 1) {
    for (const auto& [cell, value] : own) (*known)[cell] = value;
    read_ = std::move(known);
  }
  for (const uint64_t value : std::exchange(sent_, {})) context_.cluster->files->OnPublished(value);
  busy_ = false;
  FinishRequests(&flushing_);
  Advance();
}

void SimFile::Lose(const Status& status) {
  ++losses_;
  error_ = Status(StatusCode::kIoError, status.message());
  for (const std::vector<uint64_t>* values : {&taken_, &sent_}) {
    for (const uint64_t value : *values) context_.cluster->files->OnLost(value, status, opened_under_);
  }
  buffered_.clear();
  sending_.clear();
  done_.clear();
  taken_.clear();
  sent_.clear();
  busy_ = false;
  read_.reset();
  ++reads_ended_;
  FinishRequests(&flushing_);
  FinishRequests(&waiting_);
}

// ---- Attributes ----

void SimFile::Adopt(const client::Attributes& attributes) {
  if (attributes.change <= attributes_.change) return;
  if (attributes.data != attributes_.data || attributes.data_generation != attributes_.data_generation) {
    read_.reset();
    ++reads_ended_;
  }
  attributes_ = attributes;
}

client::Attributes SimFile::Overlay(client::Attributes attributes) const {
  if (!dirty()) return attributes;
  attributes.size_bytes = std::max(attributes.size_bytes, end_bytes_);
  attributes.mtime_ns = kMtimeBaseNs + static_cast<int64_t>(newest_) * kMtimeStepNs;
  return attributes;
}

// ---- Reads ----

void SimFile::Read(const std::shared_ptr<client::ReadAheadState>&, ByteRange, client::Callback<client::ReadResult> done) {
  const uint64_t end_bytes = End();
  if (read_ || !attributes_.data.valid()) return Deliver(read_ ? *read_ : Cells(), end_bytes, done);
  // Reaches to the end of these, and may be answered by what was at the server before they came there.
  Cells own;
  for (const Cells* layer : {&buffered_, &sending_, &done_}) own.insert(layer->begin(), layer->end());
  Fetch(0, [self = shared_from_this(), end_bytes, own = std::move(own), done = std::move(done),
            ended = reads_ended_](const Result<Cells>& cells) {
    if (!cells.ok()) return done(cells.status());
    if (ended == self->reads_ended_) self->read_ = *cells;
    Cells base = *cells;
    for (const auto& [cell, value] : own) base[cell] = value;
    self->Deliver(base, end_bytes, done);
  });
}

void SimFile::Fetch(int attempts, std::function<void(const Result<Cells>&)> done) {
  if (attempts > kAttemptsMax) return done(Status(StatusCode::kUnavailable, "a chunk server does not answer"));
  auto answered = std::make_shared<bool>(false);
  ChunkServer* const server = Server();
  Network* const network = context_.cluster->network;
  const auto on_answer = [self = shared_from_this(), answered, attempts, done = std::move(done)](const Status& status,
                                                                                               const Cells& cells) {
    if (std::exchange(*answered, true)) return;
    if (status.ok()) return done(cells);
    self->context_.process->RunAfter(kPauseNs, [=] { self->Fetch(attempts + 1, done); });
  };
  network->Send(context_.endpoint, server->endpoint(), "read", [=, self = shared_from_this(), data = attributes_.data] {
    server->ReceiveRead(data, [=](const Status& status, const Cells& cells) {
      network->Send(server->endpoint(), self->context_.endpoint, "cells",
                    [=] { self->context_.process->Run([=] { on_answer(status, cells); }); });
    });
  });
  context_.process->RunAfter(kAttemptNs, [=] { on_answer(Status(StatusCode::kUnavailable, "no answer"), {}); });
}

// What this client has written over it.
void SimFile::Deliver(const Cells& cells, uint64_t end_bytes, const client::Callback<client::ReadResult>& done) const {
  auto words = std::make_shared<std::vector<uint64_t>>(end_bytes / kCellBytes);
  for (const Cells* layer : {&cells, &done_, &sending_, &buffered_}) {
    for (const auto& [cell, value] : *layer) {
      if (cell < words->size()) (*words)[cell] = value;
    }
  }
  client::ReadResult result;
  result.bytes = end_bytes;
  result.pieces.push_back({words->data(), end_bytes});
  result.keep_alive = words;
  done(std::move(result));
}

}  // namespace tarn::sim
