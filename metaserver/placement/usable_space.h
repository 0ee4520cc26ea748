// How much data fits where every byte is kept several times, on different nodes. A pure function.
#pragma once

#include <cstdint>
#include <vector>

namespace tarn::meta {

// `node_bytes`: the room on each node. 0: there are fewer nodes than copies. What a large node has beyond what the others
// can hold of the other copies is of no use.
uint64_t UsableBytes(std::vector<uint64_t> node_bytes, uint32_t copies);

}  // namespace tarn::meta
