#include "chunkserver/store/damaged_chunks.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "chunkserver/store/format.h"

namespace tarn::store {

Status DamagedChunks::Load() {
  MutexLock lock(mutex_);
  const std::string_view prefix(&kDamagedKeyTag, 1);
  Index::Cursor cursor = index_->MakeCursor();
  for (cursor.Seek(prefix); cursor.IsWithin(prefix) && chunks_.size() < kChunksMax; cursor.Next()) {
    const std::optional<ChunkId> chunk = DecodeDamagedKey(cursor.key());
    if (!chunk) return Status(StatusCode::kCorruption, "the index holds a key that is none");
    ASSIGN_OR_RETURN(const GroupId group, DecodeDamagedValue(cursor.value()));
    chunks_[*chunk] = Entry{.group = group};
  }
  count_ = chunks_.size();
  return cursor.status();
}

Result<bool> DamagedChunks::Add(ChunkId chunk, GroupId group) {
  {
    MutexLock lock(mutex_);
    if (chunks_.size() >= kChunksMax || !chunks_.emplace(chunk, Entry{.group = group}).second) return false;
    count_ = chunks_.size();
  }
  Index::Batch batch;
  batch.Put(DamagedKey(chunk), EncodeDamagedValue(group));
  RETURN_IF_ERROR(index_->Apply(std::move(batch)));
  return true;
}

Result<bool> DamagedChunks::Remove(ChunkId chunk) {
  {
    MutexLock lock(mutex_);
    if (chunks_.erase(chunk) == 0) return false;
    count_ = chunks_.size();
  }
  Index::Batch batch;
  batch.Delete(DamagedKey(chunk));
  RETURN_IF_ERROR(index_->Apply(std::move(batch)));
  return true;
}

bool DamagedChunks::Contains(ChunkId chunk) const {
  if (count_.load(std::memory_order_relaxed) == 0) return false;
  MutexLock lock(mutex_);
  return chunks_.contains(chunk);
}

std::vector<ChunkId> DamagedChunks::All() const {
  std::vector<ChunkId> all;
  MutexLock lock(mutex_);
  for (const auto& [chunk, entry] : chunks_) all.push_back(chunk);
  return all;
}

std::vector<DamagedChunks::Damage> DamagedChunks::TakeUnreported() {
  std::vector<Damage> taken;
  MutexLock lock(mutex_);
  for (auto& [chunk, entry] : chunks_) {
    if (!std::exchange(entry.is_reported, true)) taken.push_back({chunk, entry.group});
  }
  return taken;
}

void DamagedChunks::ReportAgain() {
  MutexLock lock(mutex_);
  for (auto& [chunk, entry] : chunks_) entry.is_reported = false;
}

}  // namespace tarn::store
