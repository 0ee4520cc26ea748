#include "common/checksum/block_sums.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "common/base/check.h"
#include "common/checksum/xxh3_kernels.h"

namespace tarn {
namespace {

static_assert(std::endian::native == std::endian::little, "sums are stored as they lie in memory");

// XXH3-64 of 4096 zero bytes; held against Xxh3 by a test.
constexpr uint64_t kZeroBlockSum = 0x93d76fe148c689baull;

using Kernel = uint64_t (*)(const void*, size_t);

// A load and a test of what libgcc found out at start: cheap enough for every call.
Kernel FastestKernel() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return checksum::Xxh3Avx2;
#endif
  return checksum::Xxh3Baseline;
}

// Length of the piece that begins at `offset` of the chunk when `left` bytes are left.
size_t PieceLength(uint64_t offset, size_t left) {
  return std::min<size_t>(left, kSumBlockBytes - offset % kSumBlockBytes);
}

}  // namespace

uint64_t Xxh3(std::span<const uint8_t> bytes) { return FastestKernel()(bytes.data(), bytes.size()); }

std::string ComputePieceSums(uint64_t offset, std::span<const uint8_t> bytes) {
  const Kernel kernel = FastestKernel();
  std::string sums(PieceCount(offset, bytes.size()) * kSumBytes, '\0');
  size_t piece = 0;
  for (size_t done = 0; done < bytes.size();) {
    const size_t length = PieceLength(offset + done, bytes.size() - done);
    const uint64_t sum = kernel(bytes.data() + done, length);
    std::memcpy(sums.data() + piece * kSumBytes, &sum, kSumBytes);
    done += length;
    ++piece;
  }
  return sums;
}

std::optional<uint64_t> FindBadPiece(uint64_t offset, std::span<const uint8_t> bytes, std::string_view sums) {
  const Kernel kernel = FastestKernel();
  uint64_t piece = 0;
  for (size_t done = 0; done < bytes.size();) {
    const size_t length = PieceLength(offset + done, bytes.size() - done);
    if (sums.size() < (piece + 1) * kSumBytes) return piece;
    if (kernel(bytes.data() + done, length) != LoadSum(sums, piece)) return piece;
    done += length;
    ++piece;
  }
  return std::nullopt;
}

uint64_t ZeroBlockSum() { return kZeroBlockSum; }

uint64_t LoadSum(std::string_view sums, uint64_t piece) {
  CHECK(piece < sums.size() / kSumBytes, "a sum past the end");
  uint64_t sum = 0;
  std::memcpy(&sum, sums.data() + piece * kSumBytes, kSumBytes);
  return sum;
}

void AppendSum(std::string& sums, uint64_t sum) {
  std::array<char, kSumBytes> bytes{};
  std::memcpy(bytes.data(), &sum, kSumBytes);
  sums.append(bytes.data(), bytes.size());
}

}  // namespace tarn
