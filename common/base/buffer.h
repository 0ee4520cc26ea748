// A block of bytes aligned to 4096, so that it may go to O_DIRECT files, and never zeroed. Moves, does not copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace tarn {

class Buffer {
 public:
  static constexpr size_t kAlignment = 4096;

  Buffer() = default;
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
  struct Free {
    void operator()(uint8_t* bytes) const;
  };
  std::unique_ptr<uint8_t[], Free> bytes_;
  size_t size_ = 0;
};

}  // namespace tarn
