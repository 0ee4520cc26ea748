#include "common/base/buffer.h"

#include <cstdlib>

#include "common/base/check.h"

namespace tarn {

Buffer::Buffer(size_t size) : size_(size) {
  if (size == 0) return;
  const size_t rounded = (size + kAlignment - 1) / kAlignment * kAlignment;
  bytes_.reset(static_cast<uint8_t*>(std::aligned_alloc(kAlignment, rounded)));
  CHECK(bytes_ != nullptr, "out of memory");
}

void Buffer::Shrink(size_t size) {
  CHECK(size <= size_, "a buffer only shrinks");
  size_ = size;
}

void Buffer::Free::operator()(uint8_t* bytes) const { std::free(bytes); }

}  // namespace tarn
