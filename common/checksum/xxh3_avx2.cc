// Compiled with -mavx2 (common/CMakeLists.txt).
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/checksum/xxh3_kernels.h"

#if XXH_VECTOR != XXH_AVX2
#error "this file must be compiled with -mavx2"
#endif

namespace tarn::checksum {

uint64_t Xxh3Avx2(const void* bytes, size_t length) { return XXH3_64bits(bytes, length); }

}  // namespace tarn::checksum
