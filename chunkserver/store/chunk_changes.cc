#include "chunkserver/store/chunk_changes.h"

#include <algorithm>
#include <utility>

namespace tarn::store {
namespace {

BlockRange DataBlocksOf(const RecordHeader& header) {
  return BlockRange{header.first_block, header.first_block + BlocksFor(header.data_bytes)};
}

void MarkDirty(ChunkTable* table, const std::shared_ptr<Chunk>& chunk, size_t memory_bytes) REQUIRES(chunk->map_mutex) {
  if (chunk->dirty) {
    table->NoteDirtied(memory_bytes);
    return;
  }
  chunk->dirty = true;
  table->AddDirty(chunk, memory_bytes);
}

void KeepDead(Tombstones* tombstones, Chunk* chunk, ExtentMap::Dead dead, RecordSequence killed_by) REQUIRES(chunk->map_mutex) {
  for (const DeadRange& cut : dead.cuts) tombstones->Add(Tombstone{killed_by, cut});
  if (!dead.ranges.empty()) chunk->dead.push_back(DeadSpace{std::move(dead.ranges), killed_by});
}

}  // namespace

Status PrepareChange(const ChunkLoader& loader, const std::shared_ptr<Chunk>& chunk, const RecordHeader& header) {
  if (header.kind == RecordKind::kTruncate) {
    uint32_t unit_end = 0;
    {
      MutexLock lock(chunk->map_mutex);
      unit_end = chunk->head.unit_end;
    }
    const uint32_t first = static_cast<uint32_t>(header.cut_bytes / kBlockBytes);
    RETURN_IF_ERROR(loader.LoadUnitsToDisplace(chunk, BlockRange{first, unit_end * kUnitBlocks}));
  }
  return loader.LoadUnitsToDisplace(chunk, DataBlocksOf(header));
}

void ApplyChange(const ChangeParts& parts, const std::shared_ptr<Chunk>& chunk, const ChunkChange& change) {
  const RecordHeader& header = change.header;
  const BlockRange blocks = DataBlocksOf(header);
  const uint64_t data_end = uint64_t{header.first_block} * kBlockBytes + header.data_bytes;
  size_t memory_bytes = 0;
  {
    MutexLock lock(chunk->map_mutex);
    ChunkHead& head = chunk->head;
    ExtentMap::Dead dead;
    if (header.kind == RecordKind::kTruncate) {
      chunk->map.Remove(BlockRange{BlocksFor(header.cut_bytes), head.unit_end * kUnitBlocks}, &dead);
      // A cut never makes a chunk longer: to a rebuild it may be shorter by now, when what it was cut from is gone and so is a later cut.
      // Only the data that the cut brings along tells of a length.
      if (head.bytes >= header.cut_bytes || !blocks.empty()) {
        head.bytes = header.cut_bytes;
        head.tail_sum = header.tail_sum;
      }
    }
    if (!blocks.empty()) {
      chunk->map.Place(blocks, change.place, change.sums, &dead);
      head.unit_end = std::max(head.unit_end, UnitOfBlock(blocks.end - 1) + 1);
    }
    // A live rewrite never reaches behind the chunk's end; one found by a rebuild may be all that is left of the write before it.
    const bool sets_end = (header.kind == RecordKind::kWrite && data_end >= head.bytes) ||
                          (header.kind == RecordKind::kRewrite && data_end > head.bytes);
    if (sets_end) {
      head.bytes = data_end;
      head.tail_sum = header.tail_sum;
    }
    head.version = header.chunk_version;
    head.record_number = header.record_number;
    head.truncate_generation = header.truncate_generation;
    head.group = GroupId(header.group);
    head.epoch = Epoch(header.epoch);
    head.unit_end = std::max(head.unit_end, 1u);
    KeepDead(parts.tombstones, chunk.get(), std::move(dead), RecordSequence(header.sequence));
    constexpr size_t kChangeOverheadBytes = 512;
    MarkDirty(parts.table, chunk, kChangeOverheadBytes + change.sums.size_bytes());
    memory_bytes = chunk->map.memory_bytes();
  }
  parts.table->Account(chunk, memory_bytes);
}

Status ApplyDeletion(const ChunkLoader& loader, const ChangeParts& parts, const std::shared_ptr<Chunk>& chunk, RecordSequence deleted_by) {
  uint32_t unit_end = 0;
  {
    MutexLock lock(chunk->map_mutex);
    if (!chunk->head.is_kept()) return Status::Ok();
    unit_end = chunk->head.unit_end;
  }
  RETURN_IF_ERROR(loader.LoadUnits(chunk, BlockRange{0, unit_end * kUnitBlocks}));
  MutexLock lock(chunk->map_mutex);
  ExtentMap::Dead dead;
  chunk->map.Remove(BlockRange{0, unit_end * kUnitBlocks}, &dead);
  // The index still has keys for these units, and an entry in the group's list.
  const GroupId group = chunk->head.group;
  chunk->head = ChunkHead{};
  chunk->head.unit_end = unit_end;
  chunk->head.group = group;
  KeepDead(parts.tombstones, chunk.get(), std::move(dead), deleted_by);
  constexpr size_t kDeletionOverheadBytes = 512;
  MarkDirty(parts.table, chunk, kDeletionOverheadBytes);
  return Status::Ok();
}

}  // namespace tarn::store
