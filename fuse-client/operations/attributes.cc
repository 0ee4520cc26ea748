#include "fuse-client/operations/attributes.h"

#include <algorithm>

namespace tarn::fuse {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kStatBlockBytes = 512;

timespec ToTimespec(int64_t ns) {
  // Rounds towards the past, so that times before 1970 have a valid nanosecond part.
  int64_t seconds = ns / kNsPerSecond;
  int64_t rest = ns % kNsPerSecond;
  if (rest < 0) {
    --seconds;
    rest += kNsPerSecond;
  }
  return timespec{static_cast<time_t>(seconds), static_cast<long>(rest)};
}

int64_t ToNs(const timespec& time) { return int64_t{time.tv_sec} * kNsPerSecond + time.tv_nsec; }

}  // namespace

Timeouts Timeouts::After(double age_s) const {
  return Timeouts{std::max(0.0, entry_s - age_s), std::max(0.0, attributes_s - age_s), negative_s};
}

uint32_t TypeBits(client::FileType type) {
  switch (type) {
    case client::FileType::kRegular:
      return S_IFREG;
    case client::FileType::kDirectory:
      return S_IFDIR;
    case client::FileType::kSymlink:
      return S_IFLNK;
    case client::FileType::kCharacterDevice:
      return S_IFCHR;
    case client::FileType::kBlockDevice:
      return S_IFBLK;
    case client::FileType::kFifo:
      return S_IFIFO;
    case client::FileType::kSocket:
      return S_IFSOCK;
  }
  return S_IFREG;
}

client::FileType TypeOfMode(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return client::FileType::kDirectory;
    case S_IFLNK:
      return client::FileType::kSymlink;
    case S_IFCHR:
      return client::FileType::kCharacterDevice;
    case S_IFBLK:
      return client::FileType::kBlockDevice;
    case S_IFIFO:
      return client::FileType::kFifo;
    case S_IFSOCK:
      return client::FileType::kSocket;
    default:
      return client::FileType::kRegular;
  }
}

struct stat ToStat(const client::Attributes& attributes) {
  struct stat status {};
  status.st_ino = attributes.inode.value();
  status.st_mode = TypeBits(attributes.type) | attributes.mode;
  status.st_nlink = attributes.nlink;
  status.st_uid = attributes.uid;
  status.st_gid = attributes.gid;
  status.st_rdev = attributes.rdev;
  const bool symlink = attributes.type == client::FileType::kSymlink;
  status.st_size = static_cast<off_t>(symlink ? attributes.symlink_target.size() : attributes.size_bytes);
  status.st_blksize = kPreferredIoBytes;
  status.st_blocks = static_cast<blkcnt_t>((attributes.size_bytes + kStatBlockBytes - 1) / kStatBlockBytes);
  status.st_atim = ToTimespec(attributes.atime_ns);
  status.st_mtim = ToTimespec(attributes.mtime_ns);
  status.st_ctim = ToTimespec(attributes.ctime_ns);
  return status;
}

fuse_entry_param ToEntry(const client::Attributes& attributes, const NodeIds& nodes, const Timeouts& timeouts) {
  fuse_entry_param entry{};
  entry.ino = nodes.ToNode(attributes.inode);
  entry.attr = ToStat(attributes);
  entry.attr_timeout = timeouts.attributes_s;
  entry.entry_timeout = timeouts.entry_s;
  return entry;
}

client::AttributeChanges ToChanges(const struct stat& wanted, int to_set) {
  client::AttributeChanges changes;
  if (to_set & FUSE_SET_ATTR_MODE) changes.mode = wanted.st_mode & 07777;
  if (to_set & FUSE_SET_ATTR_UID) changes.uid = wanted.st_uid;
  if (to_set & FUSE_SET_ATTR_GID) changes.gid = wanted.st_gid;
  if (to_set & FUSE_SET_ATTR_SIZE) changes.size_bytes = static_cast<uint64_t>(wanted.st_size);
  if (to_set & FUSE_SET_ATTR_ATIME_NOW) {
    changes.atime_now = true;
  } else if (to_set & FUSE_SET_ATTR_ATIME) {
    changes.atime_ns = ToNs(wanted.st_atim);
  }
  if (to_set & FUSE_SET_ATTR_MTIME_NOW) {
    changes.mtime_now = true;
  } else if (to_set & FUSE_SET_ATTR_MTIME) {
    changes.mtime_ns = ToNs(wanted.st_mtim);
  }
#ifdef FUSE_SET_ATTR_KILL_SUID
  // The kernel's FATTR_KILL_SUIDGID has the same number.
  if (to_set & FUSE_SET_ATTR_KILL_SUID) changes.clear_suid_sgid = true;
#endif
  return changes;
}

}  // namespace tarn::fuse
