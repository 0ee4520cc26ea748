// End-to-end checksums: XXH3-64 over blocks of 4096 bytes of a chunk (docs/formats.md, "Block sums").
//
// Sums travel as little-endian 8-byte strings beside the data, from the client that wrote it to the client that reads it.
// Why 4096: a 4 KiB random read then needs to fetch and check no more than it asked for, and XXH3 is as fast on 4 KiB as on 64.
// Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tarn {

inline constexpr uint32_t kSumBlockBytes = 4096;
inline constexpr uint32_t kSumBytes = 8;

// XXH3-64 with seed 0. Uses the fastest code this CPU has (AVX2 where there is one).
uint64_t Xxh3(std::span<const uint8_t> bytes);

// How many pieces [offset, offset + length) of a chunk falls into when cut at multiples of kSumBlockBytes.
constexpr uint64_t PieceCount(uint64_t offset, uint64_t length) {
  if (length == 0) return 0;
  return (offset + length - 1) / kSumBlockBytes - offset / kSumBlockBytes + 1;
}

// Sums of the pieces of `bytes`, which lie at `offset` of their chunk. 8 bytes per piece.
std::string ComputePieceSums(uint64_t offset, std::span<const uint8_t> bytes);

// The index of the first piece whose sum differs (also if there are too few sums: the first without one); nullopt if all hold.
std::optional<uint64_t> FindBadPiece(uint64_t offset, std::span<const uint8_t> bytes, std::string_view sums);

// Sum of a full block of zeros: what a hole reads as.
uint64_t ZeroBlockSum();

uint64_t LoadSum(std::string_view sums, uint64_t piece);
void AppendSum(std::string& sums, uint64_t sum);

}  // namespace tarn
