// How much memory a mount takes if nobody says: an eighth of what the process may have at all, the container's limit
// counted, within bounds.
#pragma once

#include <cstdint>

namespace tarn::fuse {

inline constexpr uint64_t kMemoryLimitMinBytes = 64ull << 20;
inline constexpr uint64_t kMemoryLimitMaxBytes = 1ull << 30;

// Pure.
uint64_t ChooseMemoryLimit(uint64_t available_bytes);

// The machine's memory, or the limit of the control group (v1 or v2) that this process is in, whichever is less. 0 if
// unknown.
uint64_t AvailableMemoryBytes();

}  // namespace tarn::fuse
