#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/checksum/xxh3_kernels.h"

namespace tarn::checksum {

uint64_t Xxh3Baseline(const void* bytes, size_t length) { return XXH3_64bits(bytes, length); }

}  // namespace tarn::checksum
