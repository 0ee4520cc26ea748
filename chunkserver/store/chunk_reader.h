// Reads of chunks: a plan made from the map (no I/O if the chunk is in memory), then the bytes, by whichever way is cheapest for the caller.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chunkserver/store/block_reader.h"
#include "chunkserver/store/chunk_loader.h"
#include "chunkserver/store/read_leases.h"
#include "chunkserver/store/replica_store.h"
#include "common/base/ids.h"
#include "common/base/status.h"

namespace tarn::store {

// What the client knows of truncations: a chunk with a lower generation shows at most `bytes`.
struct TruncateView {
  uint64_t generation = 0;
  uint64_t bytes = 0;
};

struct ReadRequest {
  ChunkId chunk;
  uint64_t offset = 0;  // multiple of kBlockBytes
  uint32_t length = 0;  // multiple of kBlockBytes, at most kWriteBytesMax
  TruncateView view;
};

// A stretch of the answer. Valid while the plan's lease is held.
struct ReadPiece {
  int fd = -1;  // -1: zeros
  uint64_t file_offset = 0;
  uint32_t length = 0;
};

struct ReadPlan {
  ReadLeases::Lease lease;
  uint64_t chunk_bytes = 0;
  uint64_t version = 0;
  uint32_t length = 0;  // of the answer: cut at the chunk's length
  std::string sums;     // 8 bytes for each block of the answer
  std::vector<ReadPiece> pieces;
};

// Thread-safe.
class ChunkReader {
 public:
  // All outlive it.
  ChunkReader(ChunkLoader* loader, ChunkTable* table, SegmentTable* segments, BlockReader* blocks, ReadLeases* leases, fault::FaultPoints* faults)
      : loader_(loader), table_(table), segments_(segments), blocks_(blocks), leases_(leases), faults_(faults) {}

  // Never blocks; nullopt: needs the index or the disk, call Plan on a thread that may block. An error is final.
  std::optional<Result<ReadPlan>> PlanInMemory(const ReadRequest& request) const;
  Result<ReadPlan> Plan(const ReadRequest& request) const;

  // True if every piece can be read without waiting for the disk, as far as the kernel says.
  static bool IsCached(const ReadPlan& plan);
  // Reads only what is cached; false if something is not (`bytes` is then undefined). `bytes` is plan.length long.
  static bool ReadCached(const ReadPlan& plan, std::span<uint8_t> bytes);
  Status Read(const ReadPlan& plan, std::span<uint8_t> bytes) const;

  // Reads past the page cache and verifies. The plan gets no pieces.
  Result<ReadPlan> ReadVerified(const ReadRequest& request, std::vector<uint8_t>* bytes) const;

  // For copies. See ReplicaStore. `from_disk`: the page cache is not trusted, and what the disk cannot give counts as damaged.
  Result<ChunkSums> Sums(ChunkId chunk) const;
  // Reads the whole chunk. Blocks that are not intact on the disk have another sum than they should.
  Result<ChunkSums> SumsOfIntact(ChunkId chunk) const;
  Result<std::vector<uint8_t>> ReadForCopy(ChunkId chunk, uint64_t offset, uint64_t length, bool from_disk) const;

 private:
  // Where the answer ends and what it looks like there.
  struct Shape {
    uint64_t chunk_bytes = 0;
    uint64_t version = 0;
    uint32_t length = 0;
    bool cut_by_view = false;  // the last block's stored sum does not fit the answer
  };
  enum class MayOpen { kNo, kYes };
  // nullopt: not all units are in memory, or a segment would have to be opened.
  std::optional<Result<ReadPlan>> PlanLoaded(Chunk* chunk, const ReadRequest& request, MayOpen may_open, Shape* shape) const;
  static Shape ShapeOf(const ChunkHead& head, const ReadRequest& request);
  // False: a segment is not open, and may not be opened here.
  Result<bool> AddPieces(const std::vector<Extent>& extents, const ReadRequest& request, MayOpen may_open, ReadPlan* plan) const;
  // Replaces the sum of the last block, which the view cuts.
  Status FixTailSum(Chunk* chunk, const ReadRequest& request, ReadPlan* plan) const;

  ChunkLoader* const loader_;
  ChunkTable* const table_;
  SegmentTable* const segments_;
  BlockReader* const blocks_;
  ReadLeases* const leases_;
  fault::FaultPoints* const faults_;
};

// kInvalidArgument unless offset and length are multiples of kBlockBytes within the bounds.
Status ValidateRead(const ReadRequest& request);

}  // namespace tarn::store
