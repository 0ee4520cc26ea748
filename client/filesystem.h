// One volume of a cluster, as FUSE, the command line and the tests use it: POSIX operations by inode, asynchronous.
//
// Thread-safe. No call blocks (Open and the destructor aside); answers come by callback (client/types.h). Errors are the POSIX codes of
// common/base/status.h. Requests that fail for want of a server are retried inside `retry_deadline_ms`, mutations exactly once in effect.
// Permissions are the kernel's business (default_permissions) or the tool's: the library checks none, but carries the caller for ownership.
//
// Freshness (docs/coherence.md): names and attributes are remembered as long as the metadata server tells of changes, so that answers are always those of the
// moment; without `cache_metadata` every question goes to the server. A kernel above is told what to forget (client/kernel_cache.h).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client/kernel_cache.h"
#include "client/types.h"
#include "common/base/byte_range.h"

namespace tarn::rpc {
class EventLoop;
}

namespace tarn::client {

struct FilesystemOptions {
  std::vector<std::string> metaservers;  // lean-frame HOST:PORT
  std::string volume;
  std::string subdirectory;  // "/a/b": becomes the root; empty: the volume's root
  std::string client_name;   // for logs and session lists; empty: host:pid
  std::string token;
  std::string node;  // copies of data on it are read first; empty: the host's name, as for chunk servers
  uint64_t memory_limit_bytes = 1ull << 30;  // read-ahead, write buffer and caches together
  int64_t retry_deadline_ms = 30'000;
  uint64_t read_ahead_bytes_max = 16 << 20;  // per file handle
  std::string write_buffer_name = "tarn-write-buffer";  // of the memfd
  // Where its work runs and its callbacks come; they outlive it. A call made on one of them needs no other thread. None: it has its own.
  std::vector<rpc::EventLoop*> loops;
  // Others' changes wait until this client has heard of them: for mounts, not for tools that come and go.
  bool cache_metadata = false;
};

// An open file. Handles of one inode share its write buffer. Owned by the library; valid until Release.
class FileHandle;
using FileHandlePtr = std::shared_ptr<FileHandle>;

struct OpenFlags {
  bool read = true;
  bool write = false;
  bool append = false;
  bool truncate = false;
};

struct OpenedFile {
  FileHandlePtr handle;
  Attributes attributes;
  bool created = false;
  // Pages that the kernel kept from an earlier open are still those of the file (size, mtime and data generation match).
  bool keep_cache = false;
};

class Filesystem {
 public:
  // Connects, resolves volume and subdirectory, opens a session. Blocks up to the retry deadline.
  // kNotFound (volume or subdirectory, named), kUnavailable (which addresses were tried).
  static Result<std::unique_ptr<Filesystem>> Open(const FilesystemOptions& options);
  // Flushes what is dirty (within the retry deadline), closes the session.
  virtual ~Filesystem() = default;

  virtual InodeId root() const = 0;
  virtual VolumeInfo volume() const = 0;

  // ---- Namespace ----
  // Fresh from the metadata server, with the size and mtime of data that this client still buffers.
  virtual void Lookup(InodeId parent, const std::string& name, Callback<Attributes> done) = 0;
  virtual void GetAttributes(InodeId inode, Callback<Attributes> done) = 0;
  virtual void SetAttributes(InodeId inode, const AttributeChanges& changes, Caller caller, Callback<Attributes> done) = 0;
  virtual void MakeNode(InodeId parent, const std::string& name, FileType type, uint32_t mode, uint64_t rdev, Caller caller, Callback<Attributes> done) = 0;
  virtual void MakeDirectory(InodeId parent, const std::string& name, uint32_t mode, Caller caller, Callback<Attributes> done) = 0;
  virtual void MakeSymlink(InodeId parent, const std::string& name, const std::string& target, Caller caller, Callback<Attributes> done) = 0;
  virtual void Link(InodeId inode, InodeId new_parent, const std::string& new_name, Caller caller, Callback<Attributes> done) = 0;
  // A file that this client has open stays readable and writable until its last Release.
  virtual void Unlink(InodeId parent, const std::string& name, Caller caller, StatusCallback done) = 0;
  virtual void RemoveDirectory(InodeId parent, const std::string& name, Caller caller, StatusCallback done) = 0;
  // A directory with everything in it, by root: the name goes at once, the rest in the background.
  virtual void RemoveTree(InodeId parent, const std::string& name, Caller caller, StatusCallback done) = 0;
  struct RenameFlags {
    bool no_replace = false;
    bool exchange = false;
  };
  virtual void Rename(InodeId parent, const std::string& name, InodeId new_parent, const std::string& new_name, RenameFlags flags, Caller caller,
                      StatusCallback done) = 0;
  // After `after_cookie` (0: from the start), in the directory's own order; without "." and "..".
  virtual void ReadDirectory(InodeId directory, uint64_t after_cookie, uint32_t entries_max, bool with_attributes, Callback<DirectoryPage> done) = 0;
  virtual void GetXattr(InodeId inode, const std::string& name, Callback<std::string> done) = 0;
  virtual void ListXattrs(InodeId inode, Callback<std::vector<std::string>> done) = 0;
  struct SetXattrFlags {
    bool create_only = false;
    bool replace_only = false;
  };
  virtual void SetXattr(InodeId inode, const std::string& name, const std::string& value, SetXattrFlags flags, Caller caller, StatusCallback done) = 0;
  virtual void RemoveXattr(InodeId inode, const std::string& name, Caller caller, StatusCallback done) = 0;
  virtual void StatFs(Callback<FilesystemStatistics> done) = 0;

  // ---- Files ----
  virtual void Create(InodeId parent, const std::string& name, uint32_t mode, bool exclusive, OpenFlags flags, Caller caller, Callback<OpenedFile> done) = 0;
  virtual void OpenFile(InodeId inode, OpenFlags flags, Callback<OpenedFile> done) = 0;
  // Short only at the end of the file.
  virtual void Read(const FileHandlePtr& handle, uint64_t offset, size_t length, Callback<ReadResult> done) = 0;
  // `bytes` is copied before the call returns. Done means buffered; the answer waits while the buffer is full. With append the offset is ignored.
  virtual void Write(const FileHandlePtr& handle, uint64_t offset, std::span<const uint8_t> bytes, StatusCallback done) = 0;
  // close(2): everything written through any handle of this inode is at the servers and the size is committed. Reports, once, what went wrong since the last report.
  virtual void Flush(const FileHandlePtr& handle, StatusCallback done) = 0;
  // fsync(2): Flush, and on stable storage.
  virtual void Fsync(const FileHandlePtr& handle, StatusCallback done) = 0;
  // fallocate(2). Nothing is reserved; kNotSupported: more than kZeroedBytesMax would have to be overwritten with zeros.
  static constexpr uint64_t kZeroedBytesMax = 256 << 20;
  virtual void Allocate(const FileHandlePtr& /*handle*/, AllocateMode /*mode*/, ByteRange /*range*/, StatusCallback done) {
    done(Status(StatusCode::kNotSupported, "fallocate"));
  }
  virtual void Release(const FileHandlePtr& handle) = 0;
  // Everything this client has written is visible and durable (syncfs, unmount).
  virtual void SyncAll(StatusCallback done) = 0;

  // ---- Locks (docs/locks.md): flock and fcntl locks that hold on all mounts ----
  virtual bool supports_locks() const { return false; }
  // kWouldBlock: another owner has a lock there, and `wait` is not set. Waiting ends with the lock, with CancelLock (kInterrupted, and no lock was
  // left behind), or with kDeadlock. kIoError: the owner's locks were lost with the client's session; it stays so until all of them are unlocked or
  // the file is closed, and so do reads and writes through the handle. Returns what CancelLock takes; 0: nothing to cancel.
  virtual uint64_t Lock(const FileHandlePtr& /*handle*/, const FileLock& /*lock*/, bool /*wait*/, StatusCallback done) {
    done(Status(StatusCode::kNotSupported, "locks are the kernel's"));
    return 0;
  }
  // May come at any time; the call of Lock is answered all the same.
  virtual void CancelLock(uint64_t /*ticket*/) {}
  virtual void Unlock(const FileHandlePtr& /*handle*/, const FileLock& /*range*/, StatusCallback done) { done(Status::Ok()); }
  // A lock that this one would have to wait for; none: nullopt.
  virtual void TestLock(const FileHandlePtr& /*handle*/, const FileLock& /*lock*/, Callback<std::optional<FileLock>> done) { done(std::optional<FileLock>()); }
  // A process has closed one of its descriptors of the file: its POSIX locks on it go. Release does that for all that was locked through the handle.
  virtual void ReleaseLocks(const FileHandlePtr& /*handle*/, uint64_t /*owner*/, StatusCallback done) { done(Status::Ok()); }

  // ---- Bulk ingest (tarn put) ----
  struct IngestFile {
    InodeId parent;
    std::string name;
    uint32_t mode = 0644;
    uint32_t uid = 0;
    uint32_t gid = 0;
    int64_t mtime_ns = 0;
  };
  // Writes `bytes` (the whole file, at most 8 MiB) under a reserved data id, durably, and then makes the name appear complete (replacing a regular file of that name): one
  // metadata command, batched with those of other calls. `bytes` must stay alive until the callback.
  virtual void Ingest(const IngestFile& file, std::span<const uint8_t> bytes, Callback<Attributes> done) = 0;

  // ---- The kernel's own cache ----
  // Set before the first answer is passed on; null: none. Outlives its use.
  virtual void SetKernelCache(KernelCache* /*kernel*/) {}
  // How the kernel may believe what is about to be shown to it.
  enum class Freshness {
    kUnknown,  // nobody tells of changes: as long as one is ready to be wrong
    kGranted   // as long as the calls below say
  };
  virtual Freshness freshness() const { return Freshness::kUnknown; }
  // Nanoseconds for which it may believe these attributes, that `name` in `parent` leads to `inode` (invalid: to nothing). 0: not at all. What is shown with such
  // a time-out is taken back by KernelCache::Invalidate; no change must come between the call and the showing.
  virtual int64_t ShowAttributes(const Attributes& /*attributes*/) { return 0; }
  virtual int64_t ShowName(InodeId /*parent*/, const std::string& /*name*/, InodeId /*inode*/) { return 0; }

  // For status displays and tests.
  struct Counters {
    uint64_t metadata_requests = 0;
    uint64_t data_requests = 0;
    uint64_t bytes_read = 0;
    uint64_t bytes_written = 0;
    uint64_t checksum_failures = 0;
    uint64_t dirty_bytes = 0;
    uint64_t cached_inodes = 0;
    uint64_t cached_names = 0;
    uint64_t cache_bytes = 0;
    uint64_t cache_hits = 0;
    uint64_t cache_misses = 0;
    uint64_t pushes = 0;
  };
  virtual Counters counters() const = 0;
};

}  // namespace tarn::client
