// Which elastic target is the home of a chunk (docs/elastic.md): a rendezvous hash, so that each chunk has one home in the
// cluster, and a target that comes or goes moves only its own share. Clients and chunk servers must agree on it.
//
// Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "common/base/ids.h"

namespace tarn {

inline uint64_t ElasticWeight(TargetId target, ChunkId chunk) {
  const auto mix = [](uint64_t value) {
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
    return value ^ (value >> 31);
  };
  return mix(mix(chunk.data.value() * 0x9E3779B97F4A7C15ull + chunk.index) ^ mix(target.value() + 0x9E3779B97F4A7C15ull));
}

// The index of the home among these; nullopt: there are none. Their order does not matter.
inline std::optional<size_t> ElasticHome(ChunkId chunk, std::span<const TargetId> targets) {
  std::optional<size_t> home;
  uint64_t heaviest = 0;
  for (size_t i = 0; i < targets.size(); ++i) {
    const uint64_t weight = ElasticWeight(targets[i], chunk);
    if (home && (weight < heaviest || (weight == heaviest && targets[i] < targets[*home]))) continue;
    home = i;
    heaviest = weight;
  }
  return home;
}

}  // namespace tarn
