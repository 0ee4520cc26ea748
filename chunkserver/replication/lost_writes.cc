#include "chunkserver/replication/lost_writes.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

namespace tarn::replication {
namespace {

constexpr store::ChunkStamp kNewWrite{Epoch(std::numeric_limits<uint64_t>::max()), std::numeric_limits<uint64_t>::max()};

}  // namespace

bool IsIntact(const store::ChunkStamp& acknowledged, const Losses& losses) {
  return !losses.last.valid() || acknowledged.epoch >= losses.last;
}

Fate FateOf(const store::ChunkStamp& acknowledged, const store::ChunkStamp& recovered, const Losses& losses) {
  // A version is missing where the answer was one to a repeat; an epoch, where a copy of the chunk has broken off.
  const bool is_whole = recovered.epoch.valid() || recovered.version == 0;
  if (!acknowledged.epoch.valid() || acknowledged.version == 0 || !is_whole) return Fate::kUnknown;
  // Changes of a chunk are recovered in order: neither it nor anything after it is there.
  if (recovered < acknowledged) return Fate::kLost;
  // Something after it is there; so is it, unless it was lost first and that came then.
  const bool no_loss_between = recovered.epoch == acknowledged.epoch || acknowledged.epoch >= losses.before;
  return no_loss_between ? Fate::kThere : Fate::kUnknown;
}

void LostWrites::Take(int64_t notes) {
  taken_ += notes;
  if (room_->fetch_sub(notes) < notes) is_incomplete_ = true;
}

void LostWrites::NoteChunk(ChunkId chunk, const store::ChunkStamp& recovered) {
  if (is_incomplete_ || !chunks_.try_emplace(chunk, Chunk{recovered, {}}).second) return;
  Take(1);
}

std::optional<store::ChunkStamp> LostWrites::RecoveredStamp(ChunkId chunk) const {
  const auto found = chunks_.find(chunk);
  if (found == chunks_.end()) return std::nullopt;
  return found->second.recovered;
}

void LostWrites::NoteWrite(ChunkId chunk, ByteRange range, const std::optional<store::ChunkStamp>& acknowledged) {
  const auto found = chunks_.find(chunk);
  if (is_incomplete_ || found == chunks_.end() || range.empty()) return;
  auto& pieces = found->second.pieces;
  const auto before = static_cast<int64_t>(pieces.size());
  CutOut(&pieces, range);
  JoinNeighbours(&pieces, pieces.emplace(range.offset, Piece{range.end(), acknowledged.value_or(kNewWrite)}).first);
  Take(static_cast<int64_t>(pieces.size()) - before);
}

void LostWrites::CutOut(std::map<uint64_t, Piece>* pieces, ByteRange hole) {
  auto piece = pieces->upper_bound(hole.offset);
  if (piece != pieces->begin()) --piece;
  while (piece != pieces->end() && piece->first < hole.end()) {
    const auto [begin, cut] = *piece;
    if (cut.end <= hole.offset) {
      ++piece;
      continue;
    }
    piece = pieces->erase(piece);
    if (begin < hole.offset) pieces->emplace(begin, Piece{hole.offset, cut.stamp});
    if (cut.end > hole.end()) piece = pieces->emplace(hole.end(), Piece{cut.end, cut.stamp}).first;
  }
}

void LostWrites::JoinNeighbours(std::map<uint64_t, Piece>* pieces, std::map<uint64_t, Piece>::iterator piece) {
  const auto joins = [](const auto& left, const auto& right) { return left.second.end == right.first && left.second.stamp == right.second.stamp; };
  if (const auto next = std::next(piece); next != pieces->end() && joins(*piece, *next)) {
    piece->second.end = next->second.end;
    pieces->erase(next);
  }
  if (piece == pieces->begin()) return;
  const auto previous = std::prev(piece);
  if (!joins(*previous, *piece)) return;
  previous->second.end = piece->second.end;
  pieces->erase(piece);
}

std::vector<ByteRange> LostWrites::LaterThan(ChunkId chunk, ByteRange range, const store::ChunkStamp& acknowledged) const {
  std::vector<ByteRange> later;
  const auto found = chunks_.find(chunk);
  if (found == chunks_.end()) return later;
  for (const auto& [begin, piece] : found->second.pieces) {
    const ByteRange common = Intersect(range, {begin, piece.end - begin});
    // The same stamp: another part of the same write, or its repeat.
    if (common.empty() || piece.stamp <= acknowledged) continue;
    if (!later.empty() && later.back().end() == common.offset) {
      later.back().length += common.length;
    } else {
      later.push_back(common);
    }
  }
  return later;
}

}  // namespace tarn::replication
