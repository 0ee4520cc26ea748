// The memory for data that is not yet known to be on stable storage: a named memfd of fixed size, cut into slabs.
//
// The format (client/data/write_buffer_format.h) lets another process find every slab after this one has died. The
// budget is the size of the data area: it can never be exceeded. Pages become resident as they are first touched,
// lowest first.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "client/data/block_allocator.h"
#include "client/data/write_buffer_format.h"
#include "common/base/byte_range.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace tarn::client {

class WriteBuffer;

inline constexpr uint64_t kSlabBytesMax = 1 << 20;
inline constexpr uint64_t kWriteBufferBytesMin = 1 << 20;

// Whose bytes a slab holds.
struct SlabIdentity {
  InodeId inode;
  DataId data;
  uint64_t truncate_generation = 0;
};

// A run of the buffer; gives itself back when destroyed. Thread-compatible.
class Slab {
 public:
  ~Slab();
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  uint8_t* data() { return data_; }
  uint64_t capacity() const { return capacity_; }
  // The part of the file that it could hold.
  ByteRange window() const { return {window_offset_, capacity_}; }

  // Publishes which bytes of the file the slab holds now; they must lie in the window and have been written before.
  void SetExtent(ByteRange range, uint64_t age, int64_t mtime_ns);
  void SetState(SlabState state);
  // The inode got a data id, or another one.
  void SetIdentity(const SlabIdentity& identity);

 private:
  friend class WriteBuffer;
  Slab(std::shared_ptr<WriteBuffer> buffer, uint64_t block, uint32_t order, uint64_t window_offset);

  const std::shared_ptr<WriteBuffer> buffer_;
  const uint64_t block_;
  const uint32_t order_;
  const uint64_t window_offset_;
  uint64_t capacity_;
  uint8_t* data_;
  SlabDescriptor* descriptor_;
};

// Thread-safe.
class WriteBuffer : public std::enable_shared_from_this<WriteBuffer> {
 public:
  // `bytes` of data (rounded down to whole blocks, at least kWriteBufferBytesMin). kNoMemory if the kernel refuses.
  static Result<std::shared_ptr<WriteBuffer>> Create(const std::string& name, uint64_t bytes);
  ~WriteBuffer();

  // A slab of at least `bytes` (at most slab_bytes_max) for file bytes from `window_offset` on, free of any extent and
  // in state kDirty once SetExtent was called. Null if there is no room.
  std::unique_ptr<Slab> Allocate(uint64_t bytes, const SlabIdentity& identity, uint64_t window_offset);

  uint64_t capacity_bytes() const { return block_count_ * kWriteBufferBlockBytes; }
  uint64_t used_bytes() const;
  // Less than kSlabBytesMax in a buffer so small that a few slabs would fill it.
  uint64_t slab_bytes_max() const { return slab_bytes_max_; }
  // For whoever takes the buffer over.
  int fd() const { return fd_.get(); }

 private:
  friend class Slab;
  WriteBuffer(UniqueFd fd, uint8_t* memory, uint64_t memory_bytes, uint64_t block_count);
  void Free(uint64_t block, uint32_t order);

  // Immutable after construction.
  const UniqueFd fd_;
  uint8_t* const memory_;
  const uint64_t memory_bytes_;
  const uint64_t block_count_;
  uint64_t slab_bytes_max_ = 0;
  SlabDescriptor* table_ = nullptr;
  uint8_t* blocks_ = nullptr;

  mutable Mutex mutex_;
  BlockAllocator allocator_ GUARDED_BY(mutex_);
};

}  // namespace tarn::client
