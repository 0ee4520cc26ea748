#include "chunkserver/store/store_model.h"

#include <algorithm>
#include <span>

#include "common/checksum/block_sums.h"

namespace tarn::store {
namespace {

std::string Difference(const std::string& expected, const std::string& found) {
  if (expected.size() != found.size()) {
    return "length " + std::to_string(found.size()) + " instead of " + std::to_string(expected.size());
  }
  const auto at = std::mismatch(expected.begin(), expected.end(), found.begin());
  return at.first == expected.end() ? "" : "differs at byte " + std::to_string(at.first - expected.begin());
}

}  // namespace

std::vector<ModelChunk>& StoreModel::History(ChunkId id) {
  std::vector<ModelChunk>& history = histories_[id];
  if (history.empty()) history.emplace_back();
  return history;
}

void StoreModel::Cut(ModelChunk* chunk, const TruncateView& view) {
  if (!chunk->exists || view.generation <= chunk->truncate_generation) return;
  chunk->truncate_generation = view.generation;
  if (view.bytes < chunk->bytes.size()) chunk->bytes.resize(view.bytes);
}

void StoreModel::Write(ChunkId id, uint64_t offset, std::string_view bytes, const TruncateView& view) {
  std::vector<ModelChunk>& history = History(id);
  ModelChunk cut = history.back();
  Cut(&cut, view);
  // The cut that a write brings along is a record of its own.
  if (!(cut == history.back())) history.push_back(cut);
  cut.truncate_generation = std::max(cut.truncate_generation, view.generation);
  if (cut.bytes.size() < offset + bytes.size()) cut.bytes.resize(offset + bytes.size());
  cut.bytes.replace(offset, bytes.size(), bytes);
  cut.exists = true;
  history.push_back(std::move(cut));
}

void StoreModel::Truncate(ChunkId id, const TruncateView& view) {
  std::vector<ModelChunk>& history = History(id);
  ModelChunk cut = history.back();
  Cut(&cut, view);
  history.push_back(std::move(cut));
}

void StoreModel::Delete(DataId data) {
  for (auto& [id, history] : histories_) {
    if (id.data == data) history.emplace_back();
  }
}

void StoreModel::Committed() {
  for (auto& [id, history] : histories_) history.erase(history.begin(), history.end() - 1);
}

std::vector<ChunkId> StoreModel::chunks() const {
  std::vector<ChunkId> ids;
  for (const auto& [id, history] : histories_) ids.push_back(id);
  return ids;
}

std::string StoreModel::Compare(ChunkStore* store) {
  for (const auto& [id, history] : histories_) {
    std::string problem;
    const std::string found = ReadWholeChunk(store, id, &problem);
    if (problem.empty()) problem = Difference(history.back().bytes, found);
    if (!problem.empty()) return "chunk " + ToString(id) + ": " + problem;
  }
  return "";
}

std::string StoreModel::CompareAfterCrash(ChunkStore* store) {
  for (auto& [id, history] : histories_) {
    std::string problem;
    const std::string found = ReadWholeChunk(store, id, &problem);
    if (!problem.empty()) return "chunk " + ToString(id) + ": " + problem;
    const auto state = std::find_if(history.rbegin(), history.rend(), [&](const ModelChunk& chunk) { return chunk.bytes == found; });
    if (state == history.rend()) {
      return "chunk " + ToString(id) + " is in none of its " + std::to_string(history.size()) + " states: " +
             Difference(history.back().bytes, found) + " (last), " + Difference(history.front().bytes, found) + " (committed)";
    }
    ModelChunk kept = *state;
    history.assign(1, std::move(kept));
  }
  return "";
}

std::string ReadRange(ChunkStore* store, const ReadRequest& request, std::string* problem) {
  const auto in_memory = store->PlanReadInMemory(request);
  Result<ReadPlan> plan = in_memory ? *in_memory : store->PlanRead(request);
  if (!plan.ok()) {
    *problem = plan.status().ToString();
    return "";
  }
  std::string bytes(plan->length, '\0');
  const std::span<uint8_t> out(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size());
  if (Status read = store->ReadPlanned(request, *plan, out); !read.ok()) {
    *problem = read.ToString();
    return "";
  }
  if (plan->sums.size() != PieceCount(request.offset, plan->length) * kSumBytes) *problem = "wrong number of sums";
  if (const auto bad = FindBadPiece(request.offset, out, plan->sums)) {
    *problem = "block " + std::to_string(request.offset / kBlockBytes + *bad) + " does not fit its sum";
  }
  return bytes;
}

std::string ReadWholeChunk(ChunkStore* store, ChunkId id, std::string* problem) {
  std::string bytes;
  while (problem->empty() && bytes.size() < kChunkBytesMax) {
    const ReadRequest request{.chunk = id, .offset = bytes.size(), .length = kWriteBytesMax, .view = {}};
    const std::string part = ReadRange(store, request, problem);
    bytes += part;
    if (part.size() < kWriteBytesMax) break;
  }
  return bytes;
}

}  // namespace tarn::store
