// The client library's value types, free of protobuf so that FUSE and the command line compile without it.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"
#include "common/layout/layout.h"

namespace tarn::client {

// Called exactly once, on an event-loop thread or on the caller's own before the call returns; must not block.
template <typename T>
using Callback = std::function<void(Result<T>)>;
using StatusCallback = std::function<void(Status)>;

enum class FileType : uint8_t { kRegular = 1, kDirectory, kSymlink, kCharacterDevice, kBlockDevice, kFifo, kSocket };

// See proto/types.proto for the meaning of each field. Times: nanoseconds since the Unix epoch.
struct Attributes {
  InodeId inode;
  FileType type = FileType::kRegular;
  uint32_t mode = 0;  // permission bits only (07777)
  uint32_t nlink = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t rdev = 0;
  uint64_t size_bytes = 0;
  int64_t atime_ns = 0;
  int64_t mtime_ns = 0;
  int64_t ctime_ns = 0;
  int64_t btime_ns = 0;
  uint64_t change = 0;
  DataId data;  // invalid: no data was ever written
  FileLayout layout;
  uint64_t data_generation = 0;
  uint64_t truncate_generation = 0;
  std::optional<uint64_t> truncate_floor_bytes;  // set while a truncate is pending on the chunks
  bool being_written = false;                    // some session may be changing the data, or it is not only its own
  InodeId parent;                                // directories
  std::string symlink_target;
  bool has_xattrs = false;
};

struct Caller {
  uint32_t uid = 0;
  uint32_t gid = 0;
};

struct AttributeChanges {
  std::optional<uint32_t> mode;
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
  std::optional<uint64_t> size_bytes;
  std::optional<int64_t> atime_ns;
  std::optional<int64_t> mtime_ns;
  bool atime_now = false;
  bool mtime_now = false;
  bool clear_suid_sgid = false;
};

struct DirectoryEntry {
  std::string name;
  uint64_t cookie = 0;    // continue after it
  Attributes attributes;  // inode and type only, unless asked for all
};

struct DirectoryPage {
  std::vector<DirectoryEntry> entries;
  bool end = false;
};

// Bytes that were read; the memory lives as long as `keep_alive`.
struct ReadResult {
  std::vector<iovec> pieces;
  size_t bytes = 0;
  std::shared_ptr<const void> keep_alive;
};

// fallocate(2). None set: the file has at least the size that the range ends with.
struct AllocateMode {
  bool keep_size = false;
  bool punch_hole = false;  // the range reads as zeros; never changes the size
  bool zero_range = false;  // likewise, and the size as without it
};

// Advisory locks (docs/locks.md).
enum class LockSpace : uint8_t { kPosix, kFlock };
inline constexpr uint64_t kLockLastMax = (uint64_t{1} << 63) - 1;  // to the end of the file, wherever that is
struct FileLock {
  LockSpace space = LockSpace::kPosix;
  bool exclusive = false;
  uint64_t first = 0;  // bytes [first, last]; of a flock always all
  uint64_t last = kLockLastMax;
  uint64_t owner = 0;  // a number of the kernel's: a process, or an open file description
  uint32_t pid = 0;    // whom F_GETLK names; 0: not known here
};

struct FilesystemStatistics {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;
  uint64_t total_inodes = 0;
  uint64_t free_inodes = 0;
};

struct VolumeInfo {
  VolumeId id;
  std::string name;
  InodeId root;
  uint64_t quota_bytes = 0;  // 0: none
  uint64_t quota_inodes = 0;
  uint32_t replicas = 1;
  uint32_t stripe_unit_bytes = 0;
  uint32_t stripe_width = 0;
  uint64_t chunk_size_bytes = 0;
  int64_t created_ns = 0;
  uint64_t used_bytes = 0;
  uint64_t used_inodes = 0;
};

}  // namespace tarn::client
