#include "chunkserver/store/checkpointer.h"

#include <algorithm>
#include <map>
#include <utility>

namespace tarn::store {
namespace {

// Serialized chunks wait for a commit in memory, in groups of about this size.
constexpr size_t kGroupBytesMax = 8u << 20;
constexpr size_t kGivenBackBytes = 512;  // of a chunk that stays dirty, as the table counts

}  // namespace

struct Checkpointer::Taken {
  std::vector<std::shared_ptr<Chunk>> chunks;
  std::vector<Tombstone> tombstones;
  std::vector<NamedDeadSpace> dead;
  DeadRange new_record;
};

bool Checkpointer::HasWork() const {
  return parts_.table->dirty_bytes() > 0 || !parts_.tombstones->empty() || parts_.reclaimer->needs_checkpoint();
}

Status Checkpointer::Run() {
  const SegmentLog::Position position = parts_.log->CurrentPosition();
  Taken taken;
  taken.chunks = parts_.table->TakeDirty();
  taken.tombstones = parts_.tombstones->TakeThrough(position.through);
  taken.dead = std::exchange(carried_, {});
  if (Status stored = Store(position, &taken); !stored.ok()) {
    GiveBack(&taken);
    return stored.WithContext("checkpoint");
  }
  ForgetIndexing(taken);
  parts_.table->DirtyAreIndexed();
  last_record_ = taken.new_record;
  parts_.log->PositionIsDurable(position);
  parts_.dead_data->Age();
  parts_.reclaimer->CheckpointIsDurable(position.through, taken.dead, std::move(taken.tombstones));
  taken.chunks.clear();
  parts_.table->Trim();
  parts_.metrics->checkpoints.fetch_add(1, std::memory_order_relaxed);
  return Status::Ok();
}

Status Checkpointer::Store(const SegmentLog::Position& position, Taken* taken) {
  Index::Batch batch;
  // Named again: the batch that named them may be lost.
  for (const NamedDeadSpace& named : taken->dead) {
    batch.Put(NumberKey(kDeadKeyTag, named.key), EncodeDeadRanges(named.space.ranges));
  }
  RETURN_IF_ERROR(IndexChunks(taken, &batch));
  AddOwed(position, taken, &batch);
  // Before any space is punched the log itself says how far it is durable; also commits what the batch points at.
  const DeadRange previous_record = last_record_;
  Result<DeadRange> record = AppendRecord();
  if (!record.ok()) return record.status();
  taken->new_record = *record;
  if (previous_record.block_count > 0) NameDead(DeadSpace{{previous_record}, RecordSequence()}, &batch, taken);
  RETURN_IF_ERROR(parts_.index->Apply(std::move(batch)));
  return parts_.index->Flush();
}

Status Checkpointer::IndexChunks(Taken* taken, Index::Batch* rest) {
  for (const auto& chunk : taken->chunks) {
    EncodeChunk(chunk.get(), rest, taken);
    if (rest->bytes() < kGroupBytesMax) continue;
    RETURN_IF_ERROR(parts_.committer->Commit());
    RETURN_IF_ERROR(parts_.index->Apply(std::exchange(*rest, Index::Batch())));
  }
  return Status::Ok();
}

void Checkpointer::EncodeChunk(Chunk* chunk, Index::Batch* batch, Taken* taken) {
  MutexLock lock(chunk->map_mutex);
  chunk->dirty = false;
  const bool exists = chunk->head.exists();
  if (exists != chunk->counted) batch->AddToChunkCount(exists ? 1 : -1);
  chunk->counted = exists;
  if (chunk->head.group.valid()) {
    const std::string key = GroupKey(chunk->head.group, chunk->id);
    if (exists) {
      batch->Put(key, EncodeGroupEntry({.epoch = chunk->head.epoch, .version = chunk->head.version, .bytes = chunk->head.bytes}));
    } else {
      batch->Delete(key);
    }
  }
  for (auto& [number, unit] : chunk->map.units()) {
    const bool is_changed = unit.dirty || number == 0;
    if (!is_changed) continue;
    unit.dirty = false;
    unit.indexing = true;
    if (!chunk->head.is_kept() || (number != 0 && unit.value.extents.empty())) {
      if (number < std::max(chunk->head.unit_end, 1u)) batch->Delete(UnitKey(chunk->id, number));
    } else {
      batch->Put(UnitKey(chunk->id, number), EncodeUnit(number, unit.value, number == 0 ? &chunk->head : nullptr));
    }
  }
  for (DeadSpace& dead : chunk->dead) NameDead(std::move(dead), batch, taken);
  chunk->dead.clear();
}

void Checkpointer::NameDead(DeadSpace space, Index::Batch* batch, Taken* taken) {
  const uint64_t key = next_dead_key_++;
  batch->Put(NumberKey(kDeadKeyTag, key), EncodeDeadRanges(space.ranges));
  taken->dead.push_back(NamedDeadSpace{key, std::move(space)});
}

void Checkpointer::AddOwed(const SegmentLog::Position& position, Taken* taken, Index::Batch* batch) {
  const Reclaimer::Owed& owed = parts_.reclaimer->owed();
  for (const uint64_t key : owed.forgotten_keys) batch->Delete(NumberKey(kDeadKeyTag, key));
  for (const Tombstone& tombstone : owed.forgotten_tombstones) {
    batch->Delete(NumberKey(kTombstoneKeyTag, tombstone.sequence.value()));
  }
  for (const DeadRange& range : owed.new_dead) NameDead(DeadSpace{{range}, RecordSequence()}, batch, taken);
  for (const SegmentLog::Position::Tail& tail : position.tails) {
    batch->Put(NumberKey(kSegmentKeyTag, tail.segment.value()), EncodeSegmentValue(tail.value));
  }
  for (const SegmentNumber number : owed.forgotten_segments) batch->Delete(NumberKey(kSegmentKeyTag, number.value()));
  std::map<RecordSequence, std::vector<DeadRange>> tombstones;
  for (const Tombstone& tombstone : taken->tombstones) tombstones[tombstone.sequence].push_back(tombstone.record);
  for (const auto& [sequence, records] : tombstones) batch->Put(NumberKey(kTombstoneKeyTag, sequence.value()), EncodeDeadRanges(records));
  batch->Put(kCheckpointKey, EncodeCheckpoint({.sequence = position.through,
                                               .next_sequence = position.next_sequence,
                                               .next_segment = position.next_segment}));
}

Result<DeadRange> Checkpointer::AppendRecord() {
  RETURN_IF_ERROR(parts_.committer->Commit());
  ASSIGN_OR_RETURN(const Reservation reservation, parts_.log->Reserve(1, SpaceClass::kReserved));
  RecordHeader header;
  header.kind = RecordKind::kCheckpoint;
  const Status written = parts_.log->WriteRecord(reservation, header, {}, {});
  parts_.log->Complete(reservation);
  RETURN_IF_ERROR(written);
  RETURN_IF_ERROR(parts_.committer->Commit());
  return DeadRange{reservation.segment->number, reservation.header_block, reservation.blocks};
}

Status Checkpointer::IndexDirtyChunks() {
  Taken taken;
  taken.chunks = parts_.table->TakeDirty();
  Index::Batch batch;
  RETURN_IF_ERROR(IndexChunks(&taken, &batch));
  RETURN_IF_ERROR(parts_.index->Apply(std::move(batch)));
  ForgetIndexing(taken);
  parts_.table->DirtyAreIndexed();
  // Freed only after the checkpoint that ends the rebuild.
  carried_.insert(carried_.end(), std::make_move_iterator(taken.dead.begin()), std::make_move_iterator(taken.dead.end()));
  return Status::Ok();
}

void Checkpointer::GiveBack(Taken* taken) {
  for (const auto& chunk : taken->chunks) {
    MutexLock lock(chunk->map_mutex);
    for (auto& [number, unit] : chunk->map.units()) {
      if (std::exchange(unit.indexing, false)) unit.dirty = true;
    }
    if (chunk->dirty) {
      parts_.table->NoteDirtied(kGivenBackBytes);
      continue;
    }
    chunk->dirty = true;
    parts_.table->AddDirty(chunk, kGivenBackBytes);
  }
  parts_.table->DirtyAreIndexed();
  for (const Tombstone& tombstone : taken->tombstones) parts_.tombstones->Add(tombstone);
  carried_ = std::move(taken->dead);
}

void Checkpointer::ForgetIndexing(const Taken& taken) {
  for (const auto& chunk : taken.chunks) {
    MutexLock lock(chunk->map_mutex);
    for (auto& [number, unit] : chunk->map.units()) unit.indexing = false;
  }
}

}  // namespace tarn::store
