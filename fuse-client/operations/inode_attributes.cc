// Attributes of one inode and of the whole file system: getattr, setattr, statfs.
#include <sys/statvfs.h>

#include "fuse-client/operations/fuse_mount.h"
#include "fuse-client/operations/operations.h"

namespace tarn::fuse {
namespace {

using client::Attributes;

constexpr uint64_t kStatfsBlockBytes = 4096;
constexpr unsigned kNameBytesMax = 255;

void GetAttributes(fuse_req_t request, fuse_ino_t node, fuse_file_info* /*file*/) {
  FuseMount& mount = MountOf(request);
  mount.filesystem.GetAttributes(mount.nodes.ToInode(node), [request, &mount](Result<Attributes> attributes) {
    ReplyAttributes(request, mount, attributes);
  });
}

// A truncation through a file handle needs it not: the library knows the inode's open handles.
void SetAttributes(fuse_req_t request, fuse_ino_t node, struct stat* wanted, int to_set, fuse_file_info* /*file*/) {
  FuseMount& mount = MountOf(request);
  mount.filesystem.SetAttributes(mount.nodes.ToInode(node), ToChanges(*wanted, to_set), CallerOf(request),
                                 [request, &mount](Result<Attributes> attributes) {
                                   mount.changes.fetch_add(1, std::memory_order_acq_rel);
                                   ReplyAttributes(request, mount, attributes);
                                 });
}

void StatFs(fuse_req_t request, fuse_ino_t /*node*/) {
  MountOf(request).filesystem.StatFs([request](Result<client::FilesystemStatistics> statistics) {
    if (!statistics.ok()) return ReplyStatus(request, statistics.status());
    struct statvfs answer {};
    answer.f_bsize = kStatfsBlockBytes;
    answer.f_frsize = kStatfsBlockBytes;
    answer.f_blocks = statistics->total_bytes / kStatfsBlockBytes;
    answer.f_bfree = statistics->free_bytes / kStatfsBlockBytes;
    answer.f_bavail = answer.f_bfree;
    answer.f_files = statistics->total_inodes;
    answer.f_ffree = statistics->free_inodes;
    answer.f_favail = statistics->free_inodes;
    answer.f_namemax = kNameBytesMax;
    fuse_reply_statfs(request, &answer);
  });
}

}  // namespace

void AddAttributeOperations(fuse_lowlevel_ops* table) {
  table->getattr = &GetAttributes;
  table->setattr = &SetAttributes;
  table->statfs = &StatFs;
}

}  // namespace tarn::fuse
