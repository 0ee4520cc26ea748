// Writes and truncations of chunks: verify, merge the edges, log, apply.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "chunkserver/store/block_reader.h"
#include "chunkserver/store/chunk_changes.h"
#include "chunkserver/store/chunk_loader.h"
#include "chunkserver/store/chunk_reader.h"
#include "chunkserver/store/dead_data.h"
#include "chunkserver/store/replica_store.h"
#include "chunkserver/store/segment_log.h"
#include "chunkserver/store/session_windows.h"
#include "chunkserver/store/store_metrics.h"
#include "chunkserver/store/tombstones.h"
#include "common/base/ids.h"
#include "common/base/status.h"

namespace tarn::store {

// Who writes, for exactly-once. sequence 0: not remembered.
struct WriterIdentity {
  SessionId session;
  Sequence sequence;
  Sequence acked_through;
};

struct WriteRequest {
  ChunkId chunk;
  WriterIdentity writer;
  uint64_t offset = 0;
  std::span<const uint8_t> payload;  // 1 to kWriteBytesMax bytes
  std::string_view piece_sums;       // 8 bytes for each piece of the payload, cut at multiples of kBlockBytes of the chunk
  TruncateView view;
};

// Where the writer finds what it needs; all outlive it.
struct WriterParts {
  ChunkTable* table = nullptr;
  ChunkLoader* loader = nullptr;
  SegmentLog* log = nullptr;
  BlockReader* blocks = nullptr;
  SessionWindows* windows = nullptr;
  DeadData* dead_data = nullptr;
  Tombstones* tombstones = nullptr;
  StoreMetrics* metrics = nullptr;
};

// Thread-safe. Blocks on I/O and on the chunk's other writers.
class ChunkWriter {
 public:
  explicit ChunkWriter(const WriterParts& parts) : parts_(parts) {}

  // Of a request that passed ValidateWrite. Readable when it returns, durable with the next commit. kNoSpace;
  // kStaleTruncate: the view is older than the chunk's, or its data id is deleted; kStaleSequence, kResourceExhausted: see SessionWindows;
  // kStaleEpoch: the chunk is not as context.base says. A repeat of something applied is answered with the chunk as it is now.
  // After an error the chunk may have changed all the same: its view may have cut it first.
  Result<ChangeOutcome> Write(const WriteRequest& request, const ChangeContext& context);
  // Cuts the chunk to view.bytes if it does not know view.generation yet. A chunk that does not exist needs no cut.
  Result<ChangeOutcome> Truncate(ChunkId chunk, const WriterIdentity& writer, const TruncateView& view, const ChangeContext& context);

  // See ReplicaStore. Of a piece that passed ValidatePiece.
  Status InstallPiece(ChunkId chunk, GroupId group, uint64_t offset, std::span<const uint8_t> bytes, std::string_view piece_sums);
  Status InstallEnd(ChunkId chunk, const ChunkState& state);
  Status Remove(ChunkId chunk);

  // Puts the blocks of a unit that has become many small extents into one record each run of blocks. True if it did.
  Result<bool> RewriteUnit(ChunkId chunk, uint32_t unit);

 private:
  struct Draft;

  Status CheckAllowed(ChunkId chunk) const;
  // With the chunk's write_mutex held, as all below. Whether the change may be made, and what it begins from.
  Result<ChangeOutcome> Begin(const std::shared_ptr<Chunk>& chunk, const WriterIdentity& writer, const ChangeContext& context);
  ChangeOutcome End(const std::shared_ptr<Chunk>& chunk, const WriterIdentity& writer, const ChangeContext& context, ChangeOutcome begun);
  Status CutLocked(const std::shared_ptr<Chunk>& chunk, const TruncateView& view, const ChangeContext& context);
  // The data that a cut to header.cut_bytes brings along: the block it ends in. It may lie behind the chunk's end.
  Status DraftCutEnd(const std::shared_ptr<Chunk>& chunk, Draft* draft);
  // The version that follows the chunk's, in the epoch and group of the context.
  static void StampNext(Chunk* chunk, const ChangeContext& context, RecordHeader* header);
  Status DraftWrite(const std::shared_ptr<Chunk>& chunk, const WriteRequest& request, Draft* draft);
  Status DraftEdges(const std::shared_ptr<Chunk>& chunk, const WriteRequest& request, Draft* draft);
  // The block as the chunk shows it, zeros behind its end; verified.
  Status ReadOldBlock(const std::shared_ptr<Chunk>& chunk, uint32_t block, std::span<uint8_t> bytes);
  Status LogAndApply(const std::shared_ptr<Chunk>& chunk, Draft* draft, SpaceClass space);
  Status RewriteRun(const std::shared_ptr<Chunk>& chunk, BlockRange run);

  const WriterParts parts_;
};

// kInvalidArgument: out of bounds. kCorruption: the payload does not fit its sums; it should be sent again.
Status ValidateWrite(const WriteRequest& request);
Status ValidatePiece(uint64_t offset, std::span<const uint8_t> bytes, std::string_view piece_sums);

}  // namespace tarn::store
