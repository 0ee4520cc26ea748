// Makes the directory of a new one-member metadata group from a backup (docs/formats.md "Backup").
#pragma once

#include <cstdint>
#include <string>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/base/status.h"

namespace tarn::meta {

struct RestoreOptions {
  std::string backup;        // the file
  std::string directory;     // empty or not there
  std::string address;       // HOST:PORT (lean frames) by which the new member will be reached
  uint32_t incarnation = 0;  // 0: the one after the backup's, and after that of its last restore (restore_note.h)
  uint64_t memory_bytes = uint64_t{256} << 20;
};

struct RestoreResult {
  std::string cluster_id;
  uint32_t incarnation = 0;
  uint64_t applied_entries = 0;
  int64_t made_ns = 0;  // the backup
  uint64_t bytes = 0;   // of the state
  Status noted;         // whether the next restore of this backup will know of this one
};

// Reads the whole backup and checks it before anything is made. The directory counts as a metadata server's only once
// all is in it: what an interrupted restore leaves is thrown away by the next one. kCorruption: the backup is damaged
// or cut off; kInvalidArgument or kExists: the directory is in use for something.
Result<RestoreResult> RestoreBackup(const RestoreOptions& options, Clock* clock, Random* random);

}  // namespace tarn::meta
