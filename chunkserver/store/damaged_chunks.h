// The chunks of a target that are known to be damaged, until they are found intact again. Kept in the index, so that a restart neither forgets
// nor counts them twice (durable with a later checkpoint).
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <vector>

#include "chunkserver/store/index.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/base/status.h"

namespace tarn::store {

// Thread-safe.
class DamagedChunks {
 public:
  // More than this are not remembered: each round of scrubbing finds them anew.
  static constexpr size_t kChunksMax = 65'536;

  // Outlives it.
  explicit DamagedChunks(Index* index) : index_(index) {}

  // What the index remembers. Before any other call.
  Status Load();
  // True if it is a new one, to be counted.
  Result<bool> Add(ChunkId chunk, GroupId group);
  // It is intact, or gone. True if it was there.
  Result<bool> Remove(ChunkId chunk);
  bool Contains(ChunkId chunk) const;
  std::vector<ChunkId> All() const;

  struct Damage {
    ChunkId chunk;
    GroupId group;
  };
  // Those that were not yet returned since they were added, loaded or the last call of ReportAgain.
  std::vector<Damage> TakeUnreported();
  void ReportAgain();

 private:
  struct Entry {
    GroupId group;
    bool is_reported = false;
  };

  Index* const index_;
  std::atomic<size_t> count_{0};  // spares those who ask about an intact chunk the lock

  mutable Mutex mutex_;
  std::map<ChunkId, Entry> chunks_ GUARDED_BY(mutex_);
};

}  // namespace tarn::store
