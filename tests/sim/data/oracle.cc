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
  CommitBegin begin{.acknowledged = {}, .losses = losses_[group]};
  for (const auto& [id, cell] : cells_) {
    if (id.group == group) begin.acknowledged[id] = cell.acknowledged;
  }
  return begin;
}

void Oracle::Committed(uint32_t group, const CommitBegin& begin) {
  if (begin.losses != losses_[group]) return;
  for (const auto& [id, number] : begin.acknowledged) cells_[id].durable = std::max(cells_[id].durable, number);
}

void Oracle::Loss(uint32_t group) {
  ++losses_[group];
  ++all_losses_;
  for (auto& [id, cell] : cells_) {
    if (id.group == group) cell.acknowledged = cell.durable;
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
