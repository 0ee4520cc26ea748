// What a primary remembers after its group has had a loss, so that what clients send again is judged rightly (docs/replication.md, "What was
// lost"): the stamp with which each changed chunk was recovered, and which bytes have been written since.
//
// Invariant: of a chunk that is known here every change since the loss is noted; one that is not known has not been changed since.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "chunkserver/store/replica_store.h"
#include "common/base/byte_range.h"
#include "common/base/ids.h"

namespace tarn::replication {

// When a group has had losses, by its map: the epoch that began with the last one, and with the one before. Not valid: there was none.
struct Losses {
  Epoch last{};
  Epoch before{};
};

enum class Fate {
  kThere,    // the chunk has it, or what replaced it
  kLost,     // the chunk does not have it, nor anything that came after it before the loss
  kUnknown,
};

// Pure. Whether no loss can have touched what was acknowledged with this stamp.
bool IsIntact(const store::ChunkStamp& acknowledged, const Losses& losses);
// Pure. What became of a write that was acknowledged with this stamp before the last loss; `recovered`: the chunk's after it.
Fate FateOf(const store::ChunkStamp& acknowledged, const store::ChunkStamp& recovered, const Losses& losses);

// Not thread-safe: guarded by its replica's mutex.
class LostWrites {
 public:
  // `room`: how much all groups of the target may note yet, in chunks and ranges; outlives it, and gets back what it took.
  explicit LostWrites(std::atomic<int64_t>* room) : room_(room) {}
  ~LostWrites() { room_->fetch_add(taken_); }
  LostWrites(const LostWrites&) = delete;
  LostWrites& operator=(const LostWrites&) = delete;

  // Before the chunk's first change: the stamp with which it was recovered.
  void NoteChunk(ChunkId chunk, const store::ChunkStamp& recovered);
  // Nothing: it has not been changed.
  std::optional<store::ChunkStamp> RecoveredStamp(ChunkId chunk) const;
  // The bytes lie in the chunk now. `acknowledged`: they were sent again, and this is their stamp of then; without it they are later than
  // everything that was acknowledged before the loss.
  void NoteWrite(ChunkId chunk, ByteRange range, const std::optional<store::ChunkStamp>& acknowledged);
  // Where in the range lies what came after this stamp; in order, none overlapping.
  std::vector<ByteRange> LaterThan(ChunkId chunk, ByteRange range, const store::ChunkStamp& acknowledged) const;

  // There was no room for all of it: it is of no use any more.
  bool is_incomplete() const { return is_incomplete_; }

 private:
  struct Piece {
    uint64_t end = 0;
    store::ChunkStamp stamp;
  };
  struct Chunk {
    store::ChunkStamp recovered;
    std::map<uint64_t, Piece> pieces;  // by their begin; none overlap
  };

  void Take(int64_t notes);
  static void CutOut(std::map<uint64_t, Piece>* pieces, ByteRange hole);
  static void JoinNeighbours(std::map<uint64_t, Piece>* pieces, std::map<uint64_t, Piece>::iterator piece);

  std::atomic<int64_t>* const room_;
  int64_t taken_ = 0;
  bool is_incomplete_ = false;
  std::unordered_map<ChunkId, Chunk> chunks_;
};

}  // namespace tarn::replication
