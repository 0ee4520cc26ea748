// The receiving side of a checkpoint: pieces (proto/member.proto, CheckpointPiece) become the files of a directory.
//
// Nothing is believed: names, order, sizes and sums are checked. Only Finish makes the directory worth using: every
// byte is there and on stable storage.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "proto/member.pb.h"

namespace tarn::meta {

// One thread.
class CheckpointReceiver {
 public:
  // Empties `directory` or makes it.
  static Result<CheckpointReceiver> Begin(const std::string& directory);

  // In the order in which CheckpointSource makes them. kCorruption: not the next piece, or its sum does not hold.
  Status Accept(const proto::CheckpointPiece& piece);
  // kCorruption if something is missing.
  Status Finish();

  // As the sender said; 0 before the first piece.
  uint64_t applied_entries() const { return applied_entries_; }
  uint64_t received_bytes() const { return received_bytes_; }

 private:
  explicit CheckpointReceiver(std::string directory) : directory_(std::move(directory)) {}
  Status AcceptList(const proto::CheckpointPiece& piece);
  // Closes files that are complete and opens the next one that is not.
  Status Advance();

  std::string directory_;
  std::vector<proto::CheckpointFile> files_;
  bool listed_ = false;
  uint64_t applied_entries_ = 0;
  uint64_t received_bytes_ = 0;
  size_t file_ = 0;
  uint64_t offset_bytes_ = 0;
  UniqueFd open_file_;
};

}  // namespace tarn::meta
