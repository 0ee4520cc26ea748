// The directory of a metadata server: lock, identity, and where the rest lies.
//
//   LOCK            flock of the process that has the directory
//   METASERVER      identity, made last on the first start (docs/formats.md, "Metadata server directory")
//   CREATING        there while the first start is under way, with its nonce; what lies beside it without METASERVER is
//                   thrown away by the next one
//   log/            the replicated log
//   state/          RocksDB
//   state.incoming/ a checkpoint that is being received; thrown away at the next start
//   state.ready/    a whole one: it takes the place of state/, now or at the next start
//   checkpoints/    what is being sent; thrown away at the next start
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

#include "common/base/random.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace tarn::meta {

struct MetaserverIdentity {
  std::string cluster_id;  // 16 bytes
  uint64_t member_id = 0;
  int64_t created_ns = 0;
};

// Holds the lock for its life. One thread; its paths and identity do not change any more once it has one.
class DataDirectory {
 public:
  // Takes the directory, which is made if there is none, and tidies up what a crash left. An empty one is new: it has no
  // identity before Create. kBusy: another process has it; kCorruption or kInvalidArgument, naming the file: damaged, or
  // not a metadata server's.
  static Result<DataDirectory> Open(const std::string& path, Random* random);

  bool is_new() const { return is_new_; }
  // Of the first start; the same after a crash in the midst of it.
  uint64_t nonce() const { return nonce_; }
  // Ends the first start. `make_log` makes the log in a directory of its own, before the identity is there.
  Status Create(const MetaserverIdentity& identity, const std::function<Status(const std::string& log_path)>& make_log);

  const MetaserverIdentity& identity() const { return identity_; }
  std::string log_path() const { return path_ + "/log"; }
  std::string state_path() const { return path_ + "/state"; }
  std::string incoming_path() const { return path_ + "/state.incoming"; }
  std::string checkpoint_path() const { return path_ + "/checkpoints"; }

  // What lies in incoming_path(), whole and on stable storage, is the state from now on, whatever happens: the next Open
  // or PutReadyState puts it in place.
  Status MarkIncomingReady();
  // Nobody has the present state open.
  Status PutReadyState();

 private:
  DataDirectory() = default;
  std::string ready_path() const { return path_ + "/state.ready"; }
  Status BeginFirstStart(Random* random);

  std::string path_;
  MetaserverIdentity identity_;
  bool is_new_ = false;
  uint64_t nonce_ = 0;
  UniqueFd lock_;
};

std::string NewClusterId(Random* random);
std::string EncodeIdentity(const MetaserverIdentity& identity);
// kCorruption or kNotSupported, beginning with `path`.
Result<MetaserverIdentity> DecodeIdentity(const std::string& bytes, const std::string& path);

}  // namespace tarn::meta
