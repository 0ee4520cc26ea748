// What an elastic target keeps (docs/elastic.md). Value types.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "chunkserver/store/chunk_reader.h"
#include "common/base/ids.h"

namespace tarn::elastic {

// A chunk is kept in units; a run of missing ones is fetched with one request.
inline constexpr uint32_t kUnitBytes = 256u << 10;
// Of one request, to this target or from it.
inline constexpr uint32_t kRequestBytesMax = 4u << 20;
inline constexpr uint32_t kUnitsPerFetchMax = kRequestBytesMax / kUnitBytes;

// Names the content of a chunk, beside its id. Ordered: a later one is another content.
struct Generation {
  uint32_t map_incarnation = 0;  // a restore from backup may give the others anew
  uint64_t data = 0;
  uint64_t truncate = 0;
  friend constexpr auto operator<=>(const Generation&, const Generation&) = default;
};

struct UnitKey {
  ChunkId chunk;
  Generation generation;
  uint32_t unit = 0;
  friend constexpr auto operator<=>(const UnitKey&, const UnitKey&) = default;
};

struct UnitKeyHash {
  size_t operator()(const UnitKey& key) const noexcept {
    return std::hash<ChunkId>{}(key.chunk) ^ (key.unit * 0x9E3779B97F4A7C15ull) ^ (key.generation.data << 32);
  }
};

// A stretch of a chunk that was asked for; offset and length are multiples of 4096.
struct Range {
  uint64_t offset = 0;
  uint32_t length = 0;

  uint64_t end() const { return offset + length; }
  uint32_t first_unit() const { return static_cast<uint32_t>(offset / kUnitBytes); }
  uint32_t last_unit() const { return static_cast<uint32_t>((end() - 1) / kUnitBytes); }
};

// Units that follow one another.
struct UnitRun {
  uint32_t first = 0;
  uint32_t count = 0;
  friend constexpr auto operator<=>(const UnitRun&, const UnitRun&) = default;
};

// Where the bytes of a read lie, and where their sums do. The lease of `data` holds the files of both.
struct CachedRead {
  store::ReadPlan data;                // without sums
  std::vector<store::ReadPiece> sums;  // 8 bytes for each block of `data`
};

// What the cache has of a range.
struct Found {
  bool refused = false;          // it holds a newer generation of the chunk
  std::vector<UnitRun> missing;  // empty, and not refused: `read` is all of it
  CachedRead read;
};

}  // namespace tarn::elastic
