#include "common/base/buffer.h"

#include <cstdlib>
#include <utility>

#include "common/base/buffer_pool.h"
#include "common/base/check.h"

namespace tarn {

Buffer::Buffer(size_t size) : size_(size) {
  if (size > 0) bytes_.reset(AllocateBytes(size));
}

Buffer::Buffer(uint8_t* bytes, size_t size, std::shared_ptr<BufferPool> pool, size_t size_class)
    : bytes_(bytes, Free(std::move(pool), size_class)), size_(size) {}

uint8_t* Buffer::AllocateBytes(size_t size) {
  const size_t rounded = (size + kAlignment - 1) / kAlignment * kAlignment;
  auto* const bytes = static_cast<uint8_t*>(std::aligned_alloc(kAlignment, rounded));
  CHECK(bytes != nullptr, "out of memory");
  return bytes;
}

void Buffer::Shrink(size_t size) {
  CHECK(size <= size_, "a buffer only shrinks");
  size_ = size;
}

void Buffer::Free::operator()(uint8_t* bytes) const {
  if (pool != nullptr) {
    pool->TakeBack(bytes, size_class);
  } else {
    std::free(bytes);
  }
}

}  // namespace tarn
