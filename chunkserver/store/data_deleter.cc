#include "chunkserver/store/data_deleter.h"

#include <algorithm>
#include <utility>

namespace tarn::store {

Status DataDeleter::Delete(std::span<const DataId> data) {
  while (!data.empty()) {
    const size_t count = std::min<size_t>(data.size(), kDeleteEntriesMax);
    RETURN_IF_ERROR(DeleteBatch(data.first(count)));
    data = data.subspan(count);
  }
  return Status::Ok();
}

Status DataDeleter::DeleteBatch(std::span<const DataId> data) {
  std::vector<uint64_t> ids;
  std::vector<std::shared_ptr<Chunk>> chunks;
  for (const DataId id : data) {
    // From here on nobody begins a write to it.
    dead_data_->Insert(id);
    for (const auto& chunk : table_->FindAll(id)) {
      // Whoever had begun is waited for.
      MutexLock order(chunk->write_mutex);
    }
    ASSIGN_OR_RETURN(std::vector<std::shared_ptr<Chunk>> found, loader_->LoadAll(id));
    if (found.empty()) continue;
    ids.push_back(id.value());
    chunks.insert(chunks.end(), std::make_move_iterator(found.begin()), std::make_move_iterator(found.end()));
  }
  if (ids.empty()) return Status::Ok();
  return LogAndApply(ids, chunks);
}

Status DataDeleter::LogAndApply(std::span<const uint64_t> ids, const std::vector<std::shared_ptr<Chunk>>& chunks) {
  // Their maps must be complete, for what they hold becomes dead: before the record, since this may fail.
  for (const auto& chunk : chunks) {
    uint32_t unit_end = 0;
    {
      MutexLock lock(chunk->map_mutex);
      unit_end = chunk->head.unit_end;
    }
    RETURN_IF_ERROR(loader_->LoadUnits(chunk, BlockRange{0, unit_end * kUnitBlocks}));
  }
  ASSIGN_OR_RETURN(const Reservation reservation, log_->Reserve(1, SpaceClass::kReserved));
  RecordHeader header;
  header.kind = RecordKind::kDeleteData;
  Status deleted = log_->WriteRecord(reservation, header, ids, {});
  for (const auto& chunk : chunks) {
    if (!deleted.ok()) break;
    MutexLock order(chunk->write_mutex);
    deleted = ApplyDeletion(*loader_, {table_, tombstones_}, chunk, reservation.sequence);
  }
  tombstones_->Add({reservation.sequence, {reservation.segment->number, reservation.header_block, reservation.blocks}});
  log_->Complete(reservation);
  return deleted;
}

}  // namespace tarn::store
