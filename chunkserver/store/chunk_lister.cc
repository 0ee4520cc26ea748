#include "chunkserver/store/chunk_lister.h"

#include <map>
#include <set>
#include <string>

namespace tarn::store {
namespace {

// Of the chunks that the index may not show: nullopt hides what the index has.
using Unindexed = std::map<ChunkId, std::optional<InventoryEntry>>;

Unindexed UnindexedAfter(ChunkTable* table, GroupId group, std::optional<ChunkId> after) {
  Unindexed found;
  for (const auto& chunk : table->NotIndexed()) {
    if (after && chunk->id <= *after) continue;
    MutexLock lock(chunk->map_mutex);
    const ChunkHead& head = chunk->head;
    if (head.group != group) continue;
    std::optional<InventoryEntry>& entry = found[chunk->id];
    if (head.exists()) entry = InventoryEntry{chunk->id, {head.epoch, head.version}, head.bytes};
  }
  return found;
}

}  // namespace

Result<InventoryPage> ChunkLister::ListGroup(GroupId group, std::optional<ChunkId> after, size_t entries_max) const {
  // Memory first: what it shows by now and the index not yet, it must not miss.
  const Unindexed unindexed = UnindexedAfter(table_, group, after);
  auto next_unindexed = unindexed.begin();
  InventoryPage page;
  const auto is_full = [&] { return page.chunks.size() >= entries_max; };
  const auto take_unindexed = [&] {
    if (next_unindexed->second) page.chunks.push_back(*next_unindexed->second);
    ++next_unindexed;
  };

  const std::string prefix = GroupKeyPrefix(group);
  Index::Cursor cursor = index_->MakeCursor();
  cursor.Seek(after ? GroupKey(group, *after) : prefix);
  for (; !is_full() && cursor.IsWithin(prefix); cursor.Next()) {
    const std::optional<ChunkId> id = DecodeGroupKey(cursor.key());
    if (!id) return Status(StatusCode::kCorruption, "the index holds a key that is none");
    if (after && *id <= *after) continue;
    while (!is_full() && next_unindexed != unindexed.end() && next_unindexed->first < *id) take_unindexed();
    if (is_full()) break;
    if (next_unindexed != unindexed.end() && next_unindexed->first == *id) {
      take_unindexed();
      continue;
    }
    ASSIGN_OR_RETURN(const GroupEntry entry, DecodeGroupEntry(cursor.value()));
    page.chunks.push_back({*id, {entry.epoch, entry.version}, entry.bytes});
  }
  RETURN_IF_ERROR(cursor.status());
  const bool index_ended = !cursor.IsWithin(prefix);
  while (index_ended && !is_full() && next_unindexed != unindexed.end()) take_unindexed();
  page.end = index_ended && next_unindexed == unindexed.end();
  return page;
}

Result<DataIdPage> ChunkLister::ListDataIds(std::optional<DataId> after, size_t entries_max) const {
  std::map<ChunkId, bool> unindexed;  // whether it exists
  std::set<DataId> ids;
  for (const auto& chunk : table_->NotIndexed()) {
    MutexLock lock(chunk->map_mutex);
    unindexed[chunk->id] = chunk->head.exists();
  }
  for (const auto& [chunk, exists] : unindexed) {
    if (exists && (!after || chunk.data > *after)) ids.insert(chunk.data);
  }
  const std::string prefix(1, kUnitKeyTag);
  const auto next_data = [&](DataId data) { return data.value() == UINT64_MAX ? prefix + std::string(16, '\xff') + "\xff" : DataKeyPrefix(DataId(data.value() + 1)); };
  Index::Cursor cursor = index_->MakeCursor();
  cursor.Seek(after ? next_data(*after) : prefix);
  size_t indexed = 0;
  DataId last;
  while (cursor.IsWithin(prefix) && indexed < entries_max) {
    const std::optional<DecodedUnitKey> key = DecodeUnitKey(cursor.key());
    if (!key) return Status(StatusCode::kCorruption, "the index holds a key that is none");
    last = key->chunk.data;
    if (ids.contains(last)) {
      cursor.Seek(next_data(last));
      continue;
    }
    bool exists = false;
    if (key->unit == 0 && !unindexed.contains(key->chunk)) {
      ASSIGN_OR_RETURN(const ChunkHead head, DecodeHead(cursor.value()));
      exists = head.exists();
    }
    if (!exists) {
      cursor.Next();
      continue;
    }
    ids.insert(last);
    ++indexed;
    cursor.Seek(next_data(last));
  }
  RETURN_IF_ERROR(cursor.status());
  DataIdPage page;
  page.end = !cursor.IsWithin(prefix);
  for (const DataId id : ids) {
    // Behind where the index was looked at, there may be others in between.
    if (!page.end && id > last) break;
    if (page.ids.size() == entries_max) {
      page.end = false;
      break;
    }
    page.ids.push_back(id);
  }
  return page;
}

}  // namespace tarn::store
