#include "chunkserver/store/chunk_loader.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

namespace tarn::store {

Result<std::shared_ptr<Chunk>> ChunkLoader::Load(ChunkId id) const {
  std::shared_ptr<Chunk> chunk = table_->FindOrMake(id);
  {
    MutexLock lock(chunk->map_mutex);
    if (chunk->loaded) return chunk;
  }
  ASSIGN_OR_RETURN(const std::optional<std::string> stored, index_->Get(UnitKey(id, 0)));
  ChunkHead head;
  UnitValue unit;
  if (stored) {
    if (Status decoded = DecodeUnit(*stored, 0, &unit, &head); !decoded.ok()) return decoded.WithContext("chunk " + ToString(id));
  }
  size_t memory_bytes = 0;
  {
    MutexLock lock(chunk->map_mutex);
    if (chunk->loaded) return chunk;
    chunk->loaded = true;
    chunk->counted = head.exists();
    chunk->head = head;
    chunk->map.InsertUnit(0, std::move(unit));
    memory_bytes = chunk->map.memory_bytes();
  }
  table_->Account(chunk, memory_bytes);
  return chunk;
}

Status ChunkLoader::LoadUnits(const std::shared_ptr<Chunk>& chunk, BlockRange blocks) const {
  if (blocks.empty()) return Status::Ok();
  const uint32_t end_unit = UnitOfBlock(blocks.end - 1) + 1;
  uint32_t unit = UnitOfBlock(blocks.first);
  while (true) {
    bool is_in_index = false;
    {
      MutexLock lock(chunk->map_mutex);
      unit = chunk->map.FirstMissingUnit(unit, end_unit);
      if (unit == end_unit) return Status::Ok();
      is_in_index = unit < chunk->head.unit_end;
      if (!is_in_index) chunk->map.UnitAt(unit);
    }
    if (!is_in_index) continue;
    ASSIGN_OR_RETURN(const std::optional<std::string> stored, index_->Get(UnitKey(chunk->id, unit)));
    UnitValue value;
    if (stored) {
      if (Status decoded = DecodeUnit(*stored, unit, &value, nullptr); !decoded.ok()) {
        return decoded.WithContext("chunk " + ToString(chunk->id));
      }
    }
    size_t memory_bytes = 0;
    {
      MutexLock lock(chunk->map_mutex);
      chunk->map.InsertUnit(unit, std::move(value));
      memory_bytes = chunk->map.memory_bytes();
    }
    table_->Account(chunk, memory_bytes);
  }
}

Status ChunkLoader::LoadUnitsToDisplace(const std::shared_ptr<Chunk>& chunk, BlockRange blocks) const {
  RETURN_IF_ERROR(LoadUnits(chunk, blocks));
  BlockRange needed;
  {
    MutexLock lock(chunk->map_mutex);
    needed = chunk->map.BlocksNeededFor(blocks);
  }
  return LoadUnits(chunk, needed);
}

Result<std::vector<std::shared_ptr<Chunk>>> ChunkLoader::LoadAll(DataId data) const {
  std::set<ChunkId> ids;
  for (const auto& chunk : table_->FindAll(data)) ids.insert(chunk->id);
  RETURN_IF_ERROR(index_->ForEach(DataKeyPrefix(data), [&](std::string_view key, std::string_view) {
    const std::optional<DecodedUnitKey> decoded = DecodeUnitKey(key);
    if (!decoded) return Status(StatusCode::kCorruption, "the index holds a key that is none");
    ids.insert(decoded->chunk);
    return Status::Ok();
  }));
  std::vector<std::shared_ptr<Chunk>> chunks;
  for (const ChunkId id : ids) {
    ASSIGN_OR_RETURN(std::shared_ptr<Chunk> chunk, Load(id));
    MutexLock lock(chunk->map_mutex);
    if (chunk->head.is_kept()) chunks.push_back(chunk);
  }
  return chunks;
}

}  // namespace tarn::store
