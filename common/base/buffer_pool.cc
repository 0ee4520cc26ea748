#include "common/base/buffer_pool.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <utility>

namespace tarn {
namespace {

size_t SizeClassOf(size_t size) {
  const size_t rounded = std::bit_ceil(std::max(size, BufferPool::kPooledBytesMin));
  return static_cast<size_t>(std::countr_zero(rounded / BufferPool::kPooledBytesMin));
}

}  // namespace

std::shared_ptr<BufferPool> BufferPool::Create(size_t kept_bytes_max) {
  return std::shared_ptr<BufferPool>(new BufferPool(kept_bytes_max));
}

BufferPool::~BufferPool() {
  for (std::vector<uint8_t*>& list : free_) {
    for (uint8_t* bytes : list) std::free(bytes);
  }
}

Buffer BufferPool::Allocate(size_t size) {
  if (size < kPooledBytesMin || size > kPooledBytesMax) return Buffer(size);
  const size_t size_class = SizeClassOf(size);
  const size_t class_bytes = kPooledBytesMin << size_class;
  uint8_t* bytes = nullptr;
  {
    MutexLock lock(mutex_);
    std::vector<uint8_t*>& list = free_[size_class];
    if (!list.empty()) {
      bytes = list.back();
      list.pop_back();
      kept_bytes_ -= class_bytes;
    }
  }
  if (bytes == nullptr) bytes = Buffer::AllocateBytes(class_bytes);
  return Buffer(bytes, size, shared_from_this(), size_class);
}

void BufferPool::TakeBack(uint8_t* bytes, size_t size_class) {
  const size_t class_bytes = kPooledBytesMin << size_class;
  {
    MutexLock lock(mutex_);
    if (kept_bytes_ + class_bytes <= kept_bytes_max_) {
      free_[size_class].push_back(bytes);
      kept_bytes_ += class_bytes;
      return;
    }
  }
  std::free(bytes);
}

size_t BufferPool::kept_bytes() const {
  MutexLock lock(mutex_);
  return kept_bytes_;
}

}  // namespace tarn
