#include "tests/sim/data/oracle.h"

#include <algorithm>
#include <cstring>
#include <optional>

namespace tarn::sim_data {

std::string CellBytes(const CellId& cell, uint64_t number) {
  std::string bytes(kCellBytes, '\0');
  if (number == 0) return bytes;
  const uint64_t words[2] = {number, (uint64_t{cell.group} << 40) | (uint64_t{cell.chunk} << 20) | cell.slot};
  for (uint32_t at = 0; at < kCellBytes; at += sizeof(words)) std::memcpy(bytes.data() + at, words, sizeof(words));
  return bytes;
}

std::optional<uint64_t> CellNumber(const CellId& cell, const std::string& chunk_bytes) {
  if (chunk_bytes.size() <= cell.offset_bytes()) return 0;
  std::string shown = chunk_bytes.substr(cell.offset_bytes(), kCellBytes);
  shown.resize(kCellBytes);
  uint64_t number = 0;
  std::memcpy(&number, shown.data(), sizeof(number));
  if (shown != CellBytes(cell, number)) return std::nullopt;
  return number;
}

namespace {

std::string Name(const CellId& cell) {
  return "cell " + std::to_string(cell.group) + "." + std::to_string(cell.chunk) + "." + std::to_string(cell.slot);
}

}  // namespace

std::optional<uint64_t> Oracle::NumberOf(const CellId& cell, const Cell& state, const std::string& chunk_bytes) {
  const std::optional<uint64_t> number = CellNumber(cell, chunk_bytes);
  return number == 0 ? state.newest_cut : number;
}

void Oracle::Acknowledged(const CellId& cell, uint64_t number, bool durable) {
  Cell& state = cells_[cell];
  state.acknowledged = std::max(state.acknowledged, number);
  if (durable) state.durable = std::max(state.durable, number);
}

Oracle::ReadBegin Oracle::BeginRead(const CellId& cell) { return {cells_[cell].acknowledged, losses_[cell.group]}; }

void Oracle::CheckRead(const CellId& cell, const ReadBegin& begin, const std::string& chunk_bytes, const std::string& where, bool confirmed) {
  Cell& state = cells_[cell];
  const std::optional<uint64_t> number = NumberOf(cell, state, chunk_bytes);
  const uint64_t floor = begin.losses == losses_[cell.group] ? begin.floor : std::min(begin.floor, state.durable);
  if (!number) return bench_->Violation(Name(cell) + " shows a mixture at " + where);
  if (*number < floor) {
    bench_->Violation(Name(cell) + " shows write " + std::to_string(*number) + " at " + where + ", and " + std::to_string(floor) +
                      " was acknowledged before the read began");
  }
  // (Zeros may be those of an earlier cut.)
  const bool is_sure = *number != state.newest_cut || *number == 0;
  if (confirmed && is_sure && begin.losses == losses_[cell.group]) state.acknowledged = std::max(state.acknowledged, *number);
  if (*number > state.begun) bench_->Violation(Name(cell) + " shows a write that was never begun at " + where);
}

Oracle::CommitBegin Oracle::BeginCommit(uint32_t group) {
  CommitBegin begin{.acknowledged = {}, .shared = {}, .losses = losses_[group]};
  for (const auto& [id, cell] : shared_) {
    if (id.group == group) begin.shared[id] = cell.holding;
  }
  for (const auto& [id, cell] : cells_) {
    if (id.group == group) begin.acknowledged[id] = cell.acknowledged;
  }
  return begin;
}

void Oracle::Committed(uint32_t group, const CommitBegin& begin) {
  if (begin.losses != losses_[group]) return;
  for (const auto& [id, number] : begin.acknowledged) cells_[id].durable = std::max(cells_[id].durable, number);
  for (const auto& [id, numbers] : begin.shared) {
    for (const uint64_t number : numbers) Add(shared_[id], number, &shared_[id].durable);
  }
}

void Oracle::Loss(uint32_t group) {
  ++losses_[group];
  ++all_losses_;
  for (auto& [id, cell] : cells_) {
    if (id.group == group) cell.acknowledged = cell.durable;
  }
  for (auto& [id, cell] : shared_) {
    if (id.group == group) cell.holding = cell.durable;
  }
}

void Oracle::GiveUp(uint32_t group) {
  for (auto& [id, cell] : cells_) {
    if (id.group == group) cell.durable = 0;
  }
  for (auto& [id, cell] : shared_) {
    if (id.group == group) cell.durable.clear();
  }
  Loss(group);
}

bool Oracle::IsBefore(const SharedCell& cell, uint64_t one, uint64_t other) {
  if (one == 0 || other == 0) return one == 0 && other != 0;
  const SharedWrite& first = cell.writes.at(one);
  return first.answered != 0 && first.answered < cell.writes.at(other).begun;
}

void Oracle::Add(const SharedCell& cell, uint64_t number, std::set<uint64_t>* latest) {
  for (const uint64_t other : *latest) {
    if (IsBefore(cell, number, other)) return;
  }
  std::erase_if(*latest, [&](uint64_t other) { return IsBefore(cell, other, number); });
  latest->insert(number);
}

uint64_t Oracle::BeginSharedWrite(const CellId& cell) {
  SharedCell& state = shared_[cell];
  const uint64_t number = state.writes.size() + 1;
  state.writes[number].begun = ++clock_;
  return number;
}

void Oracle::SharedAcknowledged(const CellId& cell, uint64_t number, bool durable, uint64_t losses) {
  SharedCell& state = shared_[cell];
  SharedWrite& write = state.writes.at(number);
  if (write.answered == 0) write.answered = ++clock_;
  if (durable || losses == losses_[cell.group]) Add(state, number, &state.holding);
  if (durable) Add(state, number, &state.durable);
}

Oracle::SharedBegin Oracle::BeginSharedRead(const CellId& cell) { return {shared_[cell].holding, losses_[cell.group]}; }

void Oracle::CheckSharedRead(const CellId& cell, const SharedBegin& begin, const std::string& chunk_bytes, const std::string& where) {
  const SharedCell& state = shared_[cell];
  const std::optional<uint64_t> number = CellNumber(cell, chunk_bytes);
  if (!number || (*number != 0 && !state.writes.contains(*number))) return bench_->Violation(Name(cell) + " shows what nobody wrote at " + where);
  for (const uint64_t held : begin.losses == losses_[cell.group] ? begin.holding : state.durable) {
    if (!begin.holding.contains(held) || !IsBefore(state, *number, held)) continue;
    return bench_->Violation(Name(cell) + " shows write " + std::to_string(*number) + " at " + where + ", and " + std::to_string(held) +
                             ", which came after it, was acknowledged before the read began");
  }
}

void Oracle::CheckSharedAnswer(const CellId& cell, uint64_t number, const std::string& chunk_bytes, const std::string& where) {
  SharedBegin begin = BeginSharedRead(cell);
  Add(shared_[cell], number, &begin.holding);
  CheckSharedRead(cell, begin, chunk_bytes, where);
}

void Oracle::CheckSharedCopy(uint32_t group, const std::map<ChunkId, replication::testing::FakeStore::Chunk>& chunks, const std::string& where) {
  for (const auto& [id, cell] : shared_) {
    if (id.group != group) continue;
    const auto found = chunks.find(id.chunk_id());
    CheckSharedRead(id, BeginSharedRead(id), found == chunks.end() ? std::string() : found->second.bytes, where);
  }
}

void Oracle::CheckCopy(uint32_t group, const std::map<ChunkId, replication::testing::FakeStore::Chunk>& chunks, bool durable, const std::string& where) {
  for (const auto& [id, cell] : cells_) {
    const uint64_t floor = durable ? cell.durable : cell.acknowledged;
    if (id.group != group || floor == 0) continue;
    const auto found = chunks.find(id.chunk_id());
    const std::optional<uint64_t> number = NumberOf(id, cell, found == chunks.end() ? std::string() : found->second.bytes);
    if (!number || *number >= floor) continue;
    bench_->Violation(Name(id) + " has write " + std::to_string(*number) + " in the " + (durable ? "durable " : "") + "copy at " + where + ", and " +
                      std::to_string(floor) + " is acknowledged" + (durable ? " as durable" : ""));
  }
}

}  // namespace tarn::sim_data
