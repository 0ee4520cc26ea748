// A range of bytes of a file or a chunk.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>

namespace tarn {

struct ByteRange {
  uint64_t offset = 0;
  uint64_t length = 0;

  constexpr uint64_t end() const { return offset + length; }
  constexpr bool empty() const { return length == 0; }
  constexpr bool Overlaps(const ByteRange& other) const { return offset < other.end() && other.offset < end(); }
  friend constexpr auto operator<=>(const ByteRange&, const ByteRange&) = default;
};

constexpr ByteRange Intersect(const ByteRange& a, const ByteRange& b) {
  const uint64_t begin = std::max(a.offset, b.offset);
  const uint64_t end = std::min(a.end(), b.end());
  return begin < end ? ByteRange{begin, end - begin} : ByteRange{begin, 0};
}

}  // namespace tarn
