// The directory of a metadata server: lock, identity, and where the rest lies.
//
//   LOCK         flock of the process that has the directory
//   METASERVER   identity, made last on the first start (docs/formats.md, "Metadata server directory")
//   CREATING     there while the first start is under way; what lies beside it without METASERVER is thrown away by the
//   next one log/         the replicated log state/       RocksDB
//
// METASERVER, little-endian, 64 bytes:
//   0   8   magic "TARNMETA"
//   8   4   format version, 1
//   12  4   zero
//   16  16  cluster id
//   32  8   member id
//   40  8   made at, nanoseconds since the Unix epoch
//   48  8   zero
//   56  8   XXH3-64 of bytes 0..55
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace tarn::meta {

struct MetaserverIdentity {
  std::string cluster_id;  // 16 bytes
  uint64_t member_id = 0;
  int64_t created_ns = 0;
};

// Holds the lock for its life. Immutable after construction.
class DataDirectory {
 public:
  // Takes the directory, which is made if there is none. On the first start (an empty directory) gives it an identity;
  // `make_log` makes the log of a new group then. kBusy: another process has it; kCorruption or kInvalidArgument,
  // naming the file: damaged, or not a metadata server's.
  static Result<DataDirectory> Open(
      const std::string& path, Clock* clock, Random* random,
      const std::function<Status(const std::string& log_path, uint64_t member_id)>& make_log);

  const MetaserverIdentity& identity() const { return identity_; }
  std::string log_path() const { return path_ + "/log"; }
  std::string state_path() const { return path_ + "/state"; }
  bool is_new() const { return is_new_; }

 private:
  DataDirectory() = default;

  std::string path_;
  MetaserverIdentity identity_;
  bool is_new_ = false;
  UniqueFd lock_;
};

std::string EncodeIdentity(const MetaserverIdentity& identity);
// kCorruption or kNotSupported, beginning with `path`.
Result<MetaserverIdentity> DecodeIdentity(const std::string& bytes, const std::string& path);

}  // namespace tarn::meta
