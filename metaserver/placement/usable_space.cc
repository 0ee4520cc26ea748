#include "metaserver/placement/usable_space.h"

#include <algorithm>
#include <functional>
#include <numeric>

namespace tarn::meta {

// With x bytes of data a node holds x at most, so x is the largest for which the sum of min(node, x) is copies * x. A node
// that has more than an even share of what is left holds a copy of everything, and the others share the rest.
uint64_t UsableBytes(std::vector<uint64_t> node_bytes, uint32_t copies) {
  if (copies == 0 || node_bytes.size() < copies) return 0;
  std::ranges::sort(node_bytes, std::greater());
  uint64_t left = std::accumulate(node_bytes.begin(), node_bytes.end(), uint64_t{0});
  for (uint32_t held = 0;; ++held) {
    const uint64_t share = left / (copies - held);
    if (held + 1 == copies || node_bytes[held] <= share) return share;
    left -= node_bytes[held];
  }
}

}  // namespace tarn::meta
