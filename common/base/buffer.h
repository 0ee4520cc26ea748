// A block of bytes aligned to 4096, so that it may go to O_DIRECT files, and never zeroed. Moves, does not copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

namespace tarn {

class BufferPool;

class Buffer {
 public:
  static constexpr size_t kAlignment = 4096;

  Buffer() = default;
  // From the C library. Large ones that come and go should come from a BufferPool (common/base/buffer_pool.h).
  explicit Buffer(size_t size);

  uint8_t* data() { return bytes_.get(); }
  const uint8_t* data() const { return bytes_.get(); }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::span<uint8_t> span() { return {data(), size_}; }
  std::span<const uint8_t> span() const { return {data(), size_}; }
  // Only smaller; the memory stays.
  void Shrink(size_t size);

 private:
  friend class BufferPool;
  struct Free {
    Free() : size_class(0) {}
    Free(std::shared_ptr<BufferPool> from, size_t its_size_class) : pool(std::move(from)), size_class(its_size_class) {}
    void operator()(uint8_t* bytes) const;
    std::shared_ptr<BufferPool> pool;  // null: from the C library
    size_t size_class;                 // of the pool
  };

  static uint8_t* AllocateBytes(size_t size);
  Buffer(uint8_t* bytes, size_t size, std::shared_ptr<BufferPool> pool, size_t size_class);

  std::unique_ptr<uint8_t[], Free> bytes_;
  size_t size_ = 0;
};

}  // namespace tarn
