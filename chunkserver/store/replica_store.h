// What replication asks of a store: changes that carry stamps, the state of chunks, and bringing a chunk to another copy's state.
//
// A stamp names content (docs/replication.md): within an epoch one primary orders the changes of a group, so equal stamps mean equal content.
// Every call may block on the disk. Thread-safe; a chunk's changes are ordered by whoever calls (they do not overlap for one chunk).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"

namespace tarn::store {

struct WriteRequest;
struct WriterIdentity;
struct TruncateView;

struct ChunkStamp {
  Epoch epoch;           // not valid beside a version: the content is of no single epoch
  uint64_t version = 0;  // 0: no such chunk
  friend auto operator<=>(const ChunkStamp&, const ChunkStamp&) = default;
};

// A change's place in its group's order. Rides on writes and truncations.
struct ChangeContext {
  GroupId group;                   // 0: not known; the chunk keeps the one it has
  Epoch epoch;                     // becomes the stamp's
  std::optional<ChunkStamp> base;  // a member's: applied only to a chunk with this stamp, else kStaleEpoch, and the session's window is not
                                   // asked, only told
};

struct ChangeOutcome {
  ChunkStamp base;   // before it
  ChunkStamp stamp;  // after it; equal to base: nothing was changed (a repeat, a cut of what is short enough)
  uint64_t chunk_bytes = 0;
  bool was_applied = false;  // a repeat
};

struct ChunkState {
  ChunkStamp stamp;
  GroupId group;
  uint64_t bytes = 0;
  uint64_t truncate_generation = 0;
};

struct ChunkSums {
  ChunkState state;
  std::vector<uint64_t> blocks;  // one for each block, the last one padded with zeros; a hole's is that of a block of zeros
};

struct InventoryEntry {
  ChunkId chunk;
  ChunkStamp stamp;
  uint64_t bytes = 0;
};

struct InventoryPage {
  std::vector<InventoryEntry> chunks;  // in order of chunk ids
  bool end = false;
};

// Which writes of a session were applied in a group.
struct SessionWindow {
  SessionId session;
  Sequence acked_through;
  std::vector<Sequence> applied;  // above it
};

// Stored data does not fit its sums, or the disk does not give it: another copy may have it.
inline bool IsUnreadable(const Status& status) { return status.code() == StatusCode::kCorruption || status.code() == StatusCode::kIoError; }

class ReplicaStore {
 public:
  virtual ~ReplicaStore() = default;

  // As ChunkStore::Write and Truncate, with a place in the group's order. Exactly-once is kept per session and group.
  // A write whose view cuts first makes two changes of the version: the outcome's base is before both, its stamp after both. After an error
  // the stamp may have changed all the same (the cut was made, the write was not).
  virtual Result<ChangeOutcome> ApplyWrite(const WriteRequest& request, const ChangeContext& context) = 0;
  virtual Result<ChangeOutcome> ApplyTruncate(ChunkId chunk, const WriterIdentity& writer, const TruncateView& view, const ChangeContext& context) = 0;

  // A chunk that does not exist has version 0.
  virtual Result<ChunkState> StateOf(ChunkId chunk) = 0;
  virtual Result<ChunkSums> SumsOf(ChunkId chunk) = 0;
  // For another copy that overwrites what differs: as SumsOf, but of a chunk that is known to be damaged each block that cannot be read
  // intact has another sum than it should.
  virtual Result<ChunkSums> SumsToInstall(ChunkId chunk) = 0;
  // Bytes [offset, offset + length) as stored, checked; offset a multiple of the block; cut at the chunk's length. Of a chunk that is known to
  // be damaged the disk is asked, not the page cache, and kCorruption stands also for what it cannot read.
  virtual Result<std::vector<uint8_t>> ReadForCopy(ChunkId chunk, uint64_t offset, uint64_t length) = 0;
  // The chunks of a group after `after` (default: from the beginning), at most `entries_max`. Chunks that were last changed before their
  // group was known (group 0) are in no list.
  virtual Result<InventoryPage> ListGroup(GroupId group, std::optional<ChunkId> after, size_t entries_max) = 0;

  // Overwrites with a piece of another copy, at most 4 MiB, of whole blocks but for the other copy's end; nothing of what it replaces is read.
  // The stamp's epoch becomes 0 until InstallEnd, its version one that no whole chunk has. kStaleTruncate: the data id is deleted here.
  virtual Status InstallPiece(ChunkId chunk, GroupId group, uint64_t offset, std::span<const uint8_t> bytes, std::string_view piece_sums) = 0;
  // Sets length (cutting or extending with a hole), truncate generation and stamp.
  virtual Status InstallEnd(ChunkId chunk, const ChunkState& state) = 0;
  // A chunk that is known to be damaged is read once more: ok if it is intact by now, and then it is not known as damaged any more. Of any other
  // chunk nothing is read.
  virtual Status RecheckDamaged(ChunkId chunk) = 0;
  // The other copy has no such chunk. It may be made again later.
  virtual Status RemoveChunk(ChunkId chunk) = 0;

  virtual std::vector<SessionWindow> WindowsOf(GroupId group) = 0;
  // `replace`: what was known of the group is forgotten; else it is added to that. One step for everybody else.
  virtual void InstallWindows(GroupId group, std::span<const SessionWindow> windows, bool replace) = 0;

  // See ChunkStore.
  virtual void WhenDurable(std::function<void(Status)> callback) = 0;
  // Room for clients' data: a client's write at a primary is refused below it, one that a primary has ordered is taken at a member down to
  // half of the reserve.
  virtual uint64_t AvailableBytes() = 0;
};

}  // namespace tarn::store
