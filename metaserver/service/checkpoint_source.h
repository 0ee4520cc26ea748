// The sending side of a checkpoint: a consistent copy of the state, cut into pieces (proto/member.proto,
// CheckpointPiece).
//
// The copy is made online, as hard links in a directory of its own, and is deleted with the object; what a crash leaves
// RemoveCheckpoints deletes at the next start. Who streams it: FetchCheckpoint to a member that has fallen behind, and
// the backup.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "metaserver/state/kv.h"
#include "proto/member.pb.h"

namespace tarn::meta {

// One thread at a time.
class CheckpointSource {
 public:
  // Copies `store` into a new directory below `parent` (made if there is none; on the file system of the store).
  // `applied_entries`: a count that the state had reached before the call; the copy may hold more. Blocks.
  static Result<std::unique_ptr<CheckpointSource>> Take(KvStore* store, uint64_t applied_entries,
                                                        const std::string& parent);
  ~CheckpointSource();
  CheckpointSource(const CheckpointSource&) = delete;
  CheckpointSource& operator=(const CheckpointSource&) = delete;

  // The next piece; false if that was all. The first one lists the files and has no data.
  Result<bool> Next(proto::CheckpointPiece* piece);

  uint64_t applied_entries() const { return applied_entries_; }
  uint64_t total_bytes() const { return total_bytes_; }

 private:
  CheckpointSource(std::string directory, uint64_t applied_entries)
      : directory_(std::move(directory)), applied_entries_(applied_entries) {}
  Status ListFiles();
  std::string CopyPath() const { return directory_ + "/state"; }

  const std::string directory_;
  const uint64_t applied_entries_;
  std::vector<proto::CheckpointFile> files_;
  uint64_t total_bytes_ = 0;
  bool listed_ = false;
  size_t file_ = 0;
  uint64_t offset_bytes_ = 0;
  UniqueFd open_file_;
};

// What senders that died left below `parent`.
Status RemoveCheckpoints(const std::string& parent);

}  // namespace tarn::meta
