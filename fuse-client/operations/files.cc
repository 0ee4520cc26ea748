// Open files: create, open, read, write, flush, fsync, release.
#include <fcntl.h>
#include <linux/falloc.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <string>
#include <vector>

#include "fuse-client/operations/fuse_mount.h"
#include "fuse-client/operations/operations.h"

namespace tarn::fuse {
namespace {

using client::FileHandlePtr;
using client::OpenedFile;
using client::OpenFlags;
using client::ReadResult;

// libfuse adds one piece of its own.
constexpr size_t kReplyPiecesMax = IOV_MAX - 1;

// The library appends where it knows the end of the file better than the kernel does. Not for O_DIRECT: there the
// kernel has several parts of one write in flight, which only their offsets keep in order.
bool Appends(int flags) { return (flags & O_APPEND) != 0 && (flags & O_DIRECT) == 0; }

OpenFlags ToOpenFlags(int flags) {
  const int access = flags & O_ACCMODE;
  OpenFlags open;
  open.read = access != O_WRONLY;
  open.write = access != O_RDONLY;
  open.append = Appends(flags);
  open.truncate = (flags & O_TRUNC) != 0;
  return open;
}

// Enters the file into the table and tells the kernel how to treat it.
void Admit(FuseMount& mount, const OpenedFile& opened, fuse_file_info* file) {
  auto entry = std::make_shared<OpenedFileEntry>();
  entry->inode = opened.attributes.inode;
  entry->handle = opened.handle;
  entry->appends = Appends(file->flags);
  mount.privileges.Learn(opened.attributes);
  file->fh = mount.files.Add(std::move(entry));
  file->keep_cache = opened.keep_cache;
  const bool writes = (file->flags & O_ACCMODE) != O_RDONLY;
  if (file->flags & O_DIRECT) {
    file->direct_io = 1;
#if TARN_FUSE_MODERN
    file->parallel_direct_writes = 1;
#endif
  } else if (Appends(file->flags)) {
    // Past the page cache: there the kernel cuts a write where it would have to read a page first, and between the parts another client's
    // append may come. This way one write is one request, up to max_write.
    file->direct_io = 1;
  }
  // Nothing to report at close, and no locks to release.
  if (!writes && !(mount.cluster_locks && mount.locks_used.load(std::memory_order_relaxed))) file->noflush = 1;
}

void Dismiss(FuseMount& mount, uint64_t id) {
  const std::shared_ptr<OpenedFileEntry> entry = mount.files.Remove(id);
  if (entry == nullptr) return;
  FileHandlePtr positional;
  {
    MutexLock lock(entry->mutex);
    positional = std::move(entry->positional);
  }
  if (positional != nullptr) mount.filesystem.Release(positional);
  mount.filesystem.Release(entry->handle);
}

// Finds the open file or answers EBADF.
std::shared_ptr<OpenedFileEntry> FindFile(fuse_req_t request, const fuse_file_info* file) {
  std::shared_ptr<OpenedFileEntry> entry = MountOf(request).files.Find(file->fh);
  if (entry == nullptr) fuse_reply_err(request, EBADF);
  return entry;
}

int ReplyCreated(fuse_req_t request, FuseMount& mount, InodeId parent, const std::string& name,
                 const OpenedFile& opened, const fuse_file_info& info) {
  const KernelView::Showing showing(mount.kernel);
  const fuse_entry_param entry =
      ToEntry(opened.attributes, mount.nodes, showing.EntryTimeouts(parent, name, opened.attributes));
  return fuse_reply_create(request, &entry, &info);
}

void Create(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* file) {
  FuseMount& mount = MountOf(request);
  const InodeId directory = mount.nodes.ToInode(parent);
  mount.filesystem.Create(
      directory, name, mode & 07777, (file->flags & O_EXCL) != 0, ToOpenFlags(file->flags), CallerOf(request),
      [request, &mount, directory, name = std::string(name), info = *file](Result<OpenedFile> opened) mutable {
        mount.changes.fetch_add(1, std::memory_order_acq_rel);
        if (!opened.ok()) return ReplyStatus(request, opened.status());
        if (opened->created) mount.fresh_files.Add(opened->attributes.inode, mount.clock.MonotonicNs());
        Admit(mount, opened.value(), &info);
        // The caller may have been killed meanwhile; then the kernel sends no RELEASE.
        if (ReplyCreated(request, mount, directory, name, opened.value(), info) != 0) Dismiss(mount, info.fh);
      });
}

void Open(fuse_req_t request, fuse_ino_t node, fuse_file_info* file) {
  FuseMount& mount = MountOf(request);
  const OpenFlags flags = ToOpenFlags(file->flags);
  const InodeId inode = mount.nodes.ToInode(node);
  mount.filesystem.OpenFile(
      inode, flags, [request, &mount, info = *file, truncates = flags.truncate](Result<OpenedFile> opened) mutable {
        if (truncates) mount.changes.fetch_add(1, std::memory_order_acq_rel);
        if (!opened.ok()) return ReplyStatus(request, opened.status());
        Admit(mount, opened.value(), &info);
        if (fuse_reply_open(request, &info) != 0) Dismiss(mount, info.fh);
      });
}

// O_TRUNC by someone without CAP_FSETID drops the set-id bits of an executable first.
void OpenClearingPrivileges(fuse_req_t request, fuse_ino_t node, fuse_file_info* file) {
#if TARN_FUSE_MODERN
  FuseMount& mount = MountOf(request);
  const InodeId inode = mount.nodes.ToInode(node);
  if (file->kill_suidgid && mount.privileges.MayHave(inode)) {
    client::AttributeChanges changes;
    changes.clear_suid_sgid = true;
    mount.filesystem.SetAttributes(inode, changes, CallerOf(request),
                                   [request, &mount, node, info = *file](Result<client::Attributes> cleared) mutable {
                                     if (!cleared.ok()) return ReplyStatus(request, cleared.status());
                                     mount.privileges.Learn(cleared.value());
                                     Open(request, node, &info);
                                   });
    return;
  }
#endif
  Open(request, node, file);
}

void ReplyRead(fuse_req_t request, const ReadResult& read) {
  if (read.pieces.size() <= 1) {
    const iovec piece = read.pieces.empty() ? iovec{} : read.pieces.front();
    fuse_reply_buf(request, static_cast<const char*>(piece.iov_base), piece.iov_len);
    return;
  }
  if (read.pieces.size() <= kReplyPiecesMax) {
    fuse_reply_iov(request, read.pieces.data(), static_cast<int>(read.pieces.size()));
    return;
  }
  std::vector<char> whole;
  whole.reserve(read.bytes);
  for (const iovec& piece : read.pieces) {
    const char* const begin = static_cast<const char*>(piece.iov_base);
    whole.insert(whole.end(), begin, begin + piece.iov_len);
  }
  fuse_reply_buf(request, whole.data(), whole.size());
}

void Read(fuse_req_t request, fuse_ino_t /*node*/, size_t size, off_t offset, fuse_file_info* file) {
  const std::shared_ptr<OpenedFileEntry> entry = FindFile(request, file);
  if (entry == nullptr) return;
  MountOf(request).filesystem.Read(entry->handle, static_cast<uint64_t>(offset), size,
                                   [request](Result<ReadResult> read) {
                                     if (!read.ok()) return ReplyStatus(request, read.status());
                                     ReplyRead(request, read.value());
                                   });
}

void WriteThrough(fuse_req_t request, const FileHandlePtr& handle, uint64_t offset, std::span<const uint8_t> bytes) {
  FuseMount& mount = MountOf(request);
  mount.filesystem.Write(handle, offset, bytes, [request, &mount, size = bytes.size()](const Status& status) {
    mount.changes.fetch_add(1, std::memory_order_acq_rel);
    if (!status.ok()) return ReplyStatus(request, status);
    fuse_reply_write(request, size);
  });
}

// A write that must wait for something else first, with the bytes copied out of the request's buffer.
struct DelayedWrite {
  fuse_req_t request = nullptr;
  std::shared_ptr<OpenedFileEntry> entry;
  uint64_t offset = 0;
  bool positional = false;
  std::vector<uint8_t> bytes;
};

void WriteDelayed(const std::shared_ptr<DelayedWrite>& write) {
  if (!write->positional) return WriteThrough(write->request, write->entry->handle, write->offset, write->bytes);
  FileHandlePtr handle;
  {
    MutexLock lock(write->entry->mutex);
    handle = write->entry->positional;
  }
  if (handle != nullptr) return WriteThrough(write->request, handle, write->offset, write->bytes);
  OpenFlags flags;
  flags.write = true;
  FuseMount& mount = MountOf(write->request);
  mount.filesystem.OpenFile(write->entry->inode, flags, [write, &mount](Result<OpenedFile> opened) {
    if (!opened.ok()) return ReplyStatus(write->request, opened.status());
    FileHandlePtr kept;
    {
      MutexLock lock(write->entry->mutex);
      if (write->entry->positional == nullptr) write->entry->positional = opened->handle;
      kept = write->entry->positional;
    }
    if (kept != opened->handle) mount.filesystem.Release(opened->handle);  // another write was faster
    WriteThrough(write->request, kept, write->offset, write->bytes);
  });
}

void ClearPrivilegesThenWrite(const std::shared_ptr<DelayedWrite>& write) {
  FuseMount& mount = MountOf(write->request);
  client::AttributeChanges changes;
  changes.clear_suid_sgid = true;
  mount.filesystem.SetAttributes(write->entry->inode, changes, CallerOf(write->request),
                                 [write, &mount](Result<client::Attributes> cleared) {
                                   if (!cleared.ok()) return ReplyStatus(write->request, cleared.status());
                                   mount.privileges.Learn(cleared.value());
                                   WriteDelayed(write);
                                 });
}

void Write(fuse_req_t request, fuse_ino_t /*node*/, const char* buffer, size_t size, off_t offset,
           fuse_file_info* file) {
  const std::shared_ptr<OpenedFileEntry> entry = FindFile(request, file);
  if (entry == nullptr) return;
  const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t*>(buffer), size);
  // Page write-back says where it belongs; so does a write after fcntl(2) took O_APPEND away.
  const bool positional = entry->appends && (file->writepage || (file->flags & O_APPEND) == 0);
#if TARN_FUSE_MODERN
  const bool clears = file->kill_suidgid && MountOf(request).privileges.MayHave(entry->inode);
#else
  const bool clears = false;  // the kernel does it
#endif
  if (!positional && !clears) return WriteThrough(request, entry->handle, static_cast<uint64_t>(offset), bytes);
  auto write = std::make_shared<DelayedWrite>();
  write->request = request;
  write->entry = entry;
  write->offset = static_cast<uint64_t>(offset);
  write->positional = positional;
  write->bytes.assign(bytes.begin(), bytes.end());
  if (clears) return ClearPrivilegesThenWrite(write);
  WriteDelayed(write);
}

void Flush(fuse_req_t request, fuse_ino_t /*node*/, fuse_file_info* file) {
  const std::shared_ptr<OpenedFileEntry> entry = FindFile(request, file);
  if (entry == nullptr) return;
  FuseMount& mount = MountOf(request);
  // What was written under a lock is at the servers before others get it.
  mount.filesystem.Flush(entry->handle, [request, &mount, entry, owner = file->lock_owner](const Status& status) {
    mount.filesystem.ReleaseLocks(entry->handle, owner, [request, &mount, status](const Status& /*released*/) {
      ReplyChanged(request, mount, status);
    });
  });
}

void Fsync(fuse_req_t request, fuse_ino_t /*node*/, int /*datasync*/, fuse_file_info* file) {
  const std::shared_ptr<OpenedFileEntry> entry = FindFile(request, file);
  if (entry == nullptr) return;
  FuseMount& mount = MountOf(request);
  mount.filesystem.Fsync(entry->handle,
                         [request, &mount](const Status& status) { ReplyChanged(request, mount, status); });
}

// The kernel has checked the mode, the limit of the process, and drops the pages concerned.
void Allocate(fuse_req_t request, fuse_ino_t /*node*/, int given, off_t offset, off_t length, fuse_file_info* file) {
  const std::shared_ptr<OpenedFileEntry> entry = FindFile(request, file);
  if (entry == nullptr) return;
  constexpr int kKnown = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
  if ((given & ~kKnown) != 0) return static_cast<void>(fuse_reply_err(request, EOPNOTSUPP));
  client::AllocateMode mode;
  mode.keep_size = (given & FALLOC_FL_KEEP_SIZE) != 0;
  mode.punch_hole = (given & FALLOC_FL_PUNCH_HOLE) != 0;
  mode.zero_range = (given & FALLOC_FL_ZERO_RANGE) != 0;
  FuseMount& mount = MountOf(request);
  mount.filesystem.Allocate(entry->handle, mode, {static_cast<uint64_t>(offset), static_cast<uint64_t>(length)},
                            [request, &mount](const Status& status) { ReplyChanged(request, mount, status); });
}

void Release(fuse_req_t request, fuse_ino_t /*node*/, fuse_file_info* file) {
  Dismiss(MountOf(request), file->fh);
  fuse_reply_err(request, 0);
}

}  // namespace

void AddFileOperations(fuse_lowlevel_ops* table) {
  table->create = &Create;
  table->open = &OpenClearingPrivileges;
  table->read = &Read;
  table->write = &Write;
  table->flush = &Flush;
  table->fsync = &Fsync;
  table->fallocate = &Allocate;
  table->release = &Release;
}

}  // namespace tarn::fuse
