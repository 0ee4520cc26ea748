// A disk for tests that forgets what was not synced.
//
// The model: segment files lie in a real directory. Every 4 KiB page that is written or punched is remembered as it was before, until the
// file's next Sync. PowerCut() then decides for each such page alone, by the generator, whether the change had reached the disk or not: pages
// of one write may survive in any mixture, in any order. A file whose directory entry was not synced may vanish. Removing a file and
// shortening it are taken to be durable at once.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "chunkserver/store/segment_file.h"
#include "common/base/mutex.h"
#include "common/base/random.h"

namespace tarn::store {

// Thread-safe. Outlives the directories that it opened.
class LossyDisk {
 public:
  // Wraps the real directory at `path`.
  Result<std::unique_ptr<SegmentDirectory>> Open(const std::string& path);
  // To be called while no store is open. Returns how many pages were lost.
  uint64_t PowerCut(Random* random);
  // Pages that a power cut could take.
  uint64_t unsynced_pages() const;

 private:
  friend class LossySegmentFile;
  friend class LossySegmentDirectory;
  struct FileState {
    Mutex mutex;
    std::map<uint64_t, std::vector<uint8_t>> before GUARDED_BY(mutex);  // page number -> content at the last sync
  };

  mutable Mutex mutex_;
  std::map<std::string, std::shared_ptr<FileState>> files_ GUARDED_BY(mutex_);
  std::set<std::string> unsynced_names_ GUARDED_BY(mutex_);
};

}  // namespace tarn::store
