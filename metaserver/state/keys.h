// The keys of the metadata state (docs/formats.md, "Metadata state"): one letter, then big-endian ids so that keys
// order as their ids do.
//
// Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/ids.h"

namespace tarn::meta {

// The numbers are the first byte of each key, so they never change.
enum class KeyKind : char {
  kHeader = 'A',            // -> StateHeader
  kClusterMap = 'B',        // -> ClusterMap
  kDeadDataCount = 'C',     // -> count (8)
  kDentry = 'D',            // parent (8) cookie (8) name -> DentryRecord
  kDirectorySize = 'E',     // inode (8) -> DirectorySize (56)
  kFileLocks = 'F',         // inode (8) space (1) -> LockTableRecord
  kDeadData = 'G',          // data id (8) -> DeadDataRecord
  kOrphanHolder = 'H',      // inode (8) session (8) -> empty: the orphans again, by inode
  kInode = 'I',             // inode (8) -> InodeRecord
  kSessionLocks = 'J',      // session (8) -> count (8); session (8) inode (8) space (1) -> empty: locks or waits there
  kUnpropagated = 'K',      // place (8) -> directory (8): its size has changes that its parent has not heard of
  kLinkedFileHome = 'L',    // inode (8) -> directory (8): which one counts a file that has or had several names
  kSessionNonce = 'N',      // nonce (8) -> session (8)
  kOrphan = 'O',            // session (8; 0: not settled yet) inode (8) -> empty
  kPurge = 'P',             // volume (4) inode (8) -> empty: a directory that has lost its name and waits to be emptied
  kDeadDataOfTarget = 'Q',  // target (8) dead since (8) data id (8) -> empty
  kSessionResult = 'R',     // session (8) sequence (8) -> SessionResult
  kSession = 'S',           // session (8) -> SessionRecord
  kDataIdReservation = 'T', // last data id of it (8) -> DataIdReservation
  kVolumeCounters = 'U',    // volume (4) -> used bytes (8), used inodes (8)
  kVolume = 'V',            // volume (4) -> Volume, without its counters
  kVolumeName = 'W',        // name -> volume (8)
  kXattr = 'X',             // inode (8) name -> the value
  kLockWait = 'Y',          // session (8) sequence (8) -> LockWaitRecord
  kUnknownData = 'Z',       // data id (8) -> UnknownDataRecord
};

// ---- Keys ----
std::string HeaderKey();
std::string ClusterMapKey();
std::string DeadDataCountKey();
std::string InodeKey(InodeId inode);
std::string DentryKey(InodeId parent, std::string_view name);
std::string XattrKey(InodeId inode, std::string_view name);
std::string DirectorySizeKey(InodeId directory);
std::string LinkedFileHomeKey(InodeId inode);
std::string UnpropagatedKey(uint64_t place);
std::string SessionKey(SessionId session);
std::string SessionNonceKey(uint64_t nonce);
std::string SessionResultKey(SessionId session, Sequence sequence);
std::string OrphanKey(SessionId session, InodeId inode);
std::string OrphanHolderKey(InodeId inode, SessionId session);
// `space`: 0 POSIX, 1 flock.
std::string FileLocksKey(InodeId inode, uint8_t space);
std::string SessionLockCountKey(SessionId session);
std::string SessionLockKey(SessionId session, InodeId inode, uint8_t space);
std::string LockWaitKey(SessionId session, Sequence sequence);
std::string VolumeKey(VolumeId volume);
std::string VolumeNameKey(std::string_view name);
std::string VolumeCountersKey(VolumeId volume);
std::string PurgeKey(VolumeId volume, InodeId inode);
std::string DeadDataKey(DataId data);
std::string DataIdReservationKey(DataId last);
std::string UnknownDataKey(DataId data);
std::string DeadDataOfTargetKey(TargetId target, int64_t dead_since_ns, DataId data);

// ---- Prefixes to scan ----
std::string KindPrefix(KeyKind kind);
std::string DentryPrefix(InodeId parent);
// The first key a listing visits that goes on after `cookie`; `cookie` < kCookieMax.
std::string DentryAfterCookie(InodeId parent, uint64_t cookie);
std::string XattrPrefix(InodeId inode);
std::string SessionResultPrefix(SessionId session);
std::string OrphanPrefix(SessionId session);
std::string OrphanHolderPrefix(InodeId inode);
// Its count comes first.
std::string SessionLockPrefix(SessionId session);
std::string LockWaitPrefix(SessionId session);
std::string PurgePrefix(VolumeId volume);
std::string DeadDataOfTargetPrefix(TargetId target);

// ---- Parsing: nullopt if the key is not of that kind and length ----
struct DentryKeyParts {
  InodeId parent;
  uint64_t cookie = 0;
  std::string_view name;  // points into the key
};
std::optional<DentryKeyParts> ParseDentryKey(std::string_view key);
// The name at the end of an xattr key.
std::optional<std::string_view> ParseXattrKey(std::string_view key);
std::optional<VolumeId> VolumeOfPurgeKey(std::string_view key);
struct SessionLockKeyParts {
  InodeId inode;
  uint8_t space = 0;
};
std::optional<SessionLockKeyParts> ParseSessionLockKey(std::string_view key);
// The last eight bytes of a key that ends with an id.
std::optional<uint64_t> ParseTrailingId(std::string_view key);
struct DeadDataOfTargetKeyParts {
  int64_t dead_since_ns = 0;
  DataId data;
};
std::optional<DeadDataOfTargetKeyParts> ParseDeadDataOfTargetKey(std::string_view key);

// ---- Directory order ----
// A directory lists its names by cookie: XXH3-64 of the name (seed 0) without the top bit. 0..15 are moved up by 16,
// since a listing's offsets also name "." and ".." and the start. Names with equal cookies are told apart by the name
// itself, which follows in the key.
inline constexpr uint64_t kCookieMin = 16;
inline constexpr uint64_t kCookieMax = (uint64_t{1} << 63) - 1;
uint64_t NameCookie(std::string_view name);

// ---- Small fixed values (little-endian) ----
struct VolumeCounters {
  uint64_t used_bytes = 0;   // sum of the sizes of regular files
  uint64_t used_inodes = 0;  // all inodes but the root
  friend bool operator==(const VolumeCounters&, const VolumeCounters&) = default;
};
std::string EncodeVolumeCounters(const VolumeCounters& counters);
std::optional<VolumeCounters> DecodeVolumeCounters(std::string_view value);
// What lies below a directory, or a change of that.
struct TreeSize {
  int64_t bytes = 0;        // of regular files
  int64_t files = 0;        // everything but directories
  int64_t directories = 0;  // the directory itself left out
  friend bool operator==(const TreeSize&, const TreeSize&) = default;
  TreeSize operator-() const { return {-bytes, -files, -directories}; }
  TreeSize operator+(const TreeSize& other) const {
    return {bytes + other.bytes, files + other.files, directories + other.directories};
  }
  TreeSize operator-(const TreeSize& other) const { return *this + -other; }
};
struct DirectorySize {
  TreeSize total;
  TreeSize unsent;      // the part of it that the parent has not heard of
  uint64_t queued = 0;  // its place among those that have something unsent; 0: none
  friend bool operator==(const DirectorySize&, const DirectorySize&) = default;
};
std::string EncodeDirectorySize(const DirectorySize& size);
std::optional<DirectorySize> DecodeDirectorySize(std::string_view value);
std::string EncodeU64(uint64_t number);
std::optional<uint64_t> DecodeU64(std::string_view value);

}  // namespace tarn::meta
