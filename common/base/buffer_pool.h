// Recycles the memory of large buffers.
//
// Why: the C library gives a freed megabyte back to the kernel, and taking it anew costs a page fault per 4 KiB: more than copying the
// data. A server that answers with 1 MiB buffers is 1.5 to 2 times as fast with a pool (common/rpc/frame_bench.cc).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/mutex.h"

namespace tarn {

// Thread-safe. Buffers may outlive the owner's reference: they keep the pool alive.
class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  // Keeps at most `kept_bytes_max` of memory that nobody uses.
  static std::shared_ptr<BufferPool> Create(size_t kept_bytes_max);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // As Buffer(size); the memory comes back when the buffer is destroyed. Sizes from kPooledBytesMin to kPooledBytesMax are recycled, in
  // powers of two.
  Buffer Allocate(size_t size);

  size_t kept_bytes() const;

  static constexpr size_t kPooledBytesMin = 4 << 10;
  static constexpr size_t kPooledBytesMax = 4 << 20;

 private:
  friend class Buffer;
  static constexpr size_t kSizeClasses = 11;  // 4 KiB .. 4 MiB
  static_assert(kPooledBytesMin << (kSizeClasses - 1) == kPooledBytesMax);

  explicit BufferPool(size_t kept_bytes_max) : kept_bytes_max_(kept_bytes_max) {}
  // Called by the buffer that goes; frees what is beyond the bound.
  void TakeBack(uint8_t* bytes, size_t size_class);

  const size_t kept_bytes_max_;
  mutable Mutex mutex_;
  size_t kept_bytes_ GUARDED_BY(mutex_) = 0;
  // Last in, first out: what was just used is still in the CPU's cache.
  std::array<std::vector<uint8_t*>, kSizeClasses> free_ GUARDED_BY(mutex_);
};

}  // namespace tarn
