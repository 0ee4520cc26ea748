// The store's seam to the disk: segment files and the directory they lie in.
//
// The real body uses POSIX calls; tests wrap it to lose what was not synced (lossy_segment_directory.h) or to fail.
// Reads go straight to the descriptor (preadv2, sendfile): a page just written is readable before it is durable.
// Files: thread-safe. Directory: thread-safe.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chunkserver/store/format.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace tarn::store {

class SegmentFile {
 public:
  virtual ~SegmentFile() = default;
  // All parts, one after another, at `offset`. On failure any part of it may have been written.
  virtual Status Write(std::span<const iovec> parts, uint64_t offset) = 0;
  // What was written before is on stable storage after. A failure means that anything since the last success may be lost; the file then
  // fails for ever, since the kernel tells of such an error only once.
  virtual Status Sync() = 0;
  // Asks the kernel to begin writing a range to disk; no promise, no waiting for it.
  virtual void StartWriteback(uint64_t offset, uint64_t length) = 0;
  // Gives the range back to the file system; it reads as zeros. Durable with the next Sync.
  virtual Status PunchHole(uint64_t offset, uint64_t length) = 0;
  // Shorter only: gives back the preallocated rest.
  virtual Status Truncate(uint64_t length) = 0;

  // The file is opened when it is needed, and its descriptor may be taken away (DescriptorBound) from whoever does not hold a read lease,
  // write to it or sync it. kIoError and the like: it cannot be opened.
  virtual Result<int> Descriptor() const = 0;
  // The same, but -1 instead of waiting for an open.
  virtual int OpenDescriptor() const = 0;
  // Whether anybody asked for the descriptor since the last call.
  virtual bool WasUsed() = 0;
  // Nobody gets this descriptor any more. Only when everything written is synced: an error that comes later would go to nobody.
  virtual UniqueFd Detach() = 0;
  virtual const std::string& path() const = 0;
  // A second descriptor that reads past the page cache; kNotSupported where the file system has no O_DIRECT.
  Result<UniqueFd> OpenDirect() const;
  Result<uint64_t> SizeBytes() const;
  // Bytes the file really takes on the disk.
  Result<uint64_t> AllocatedBytes() const;
  // The first range at or behind `offset` that is not a hole; nullopt if there is none.
  struct DataRange {
    uint64_t offset = 0;
    uint64_t end = 0;
  };
  Result<std::optional<DataRange>> NextData(uint64_t offset) const;
};

struct FileSystemSpace {
  uint64_t capacity_bytes = 0;
  uint64_t available_bytes = 0;
};

class SegmentDirectory {
 public:
  virtual ~SegmentDirectory() = default;
  virtual Result<std::vector<SegmentNumber>> List() = 0;
  // A new file, preallocated (reads as zeros). kNoSpace if it does not fit. Durable after SyncDirectory.
  virtual Result<std::unique_ptr<SegmentFile>> Create(SegmentNumber number, uint64_t bytes) = 0;
  virtual Result<std::unique_ptr<SegmentFile>> Open(SegmentNumber number) = 0;
  virtual Status Remove(SegmentNumber number) = 0;
  virtual Status SyncDirectory() = 0;
  virtual Result<FileSystemSpace> Space() = 0;
};

// Makes the directory if it is missing.
Result<std::unique_ptr<SegmentDirectory>> OpenPosixSegmentDirectory(const std::string& path);

// "%016x.seg".
std::string SegmentFileName(SegmentNumber number);

}  // namespace tarn::store
