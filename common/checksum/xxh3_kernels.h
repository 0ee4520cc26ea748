// XXH3-64 (xxhash, https://github.com/Cyan4973/xxHash, specification in its doc/) compiled inline once per instruction set.
//
// Each body is a file of its own with its own compiler flags, and includes nothing but xxhash.h: an inline function of any other header
// compiled there with AVX2 could be the one the linker keeps for the whole program. Thread-safe.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace tarn::checksum {

// What every CPU of the architecture has (SSE2 on x86-64, NEON on arm64).
uint64_t Xxh3Baseline(const void* bytes, size_t length);
// Only on CPUs with AVX2; exists on x86-64 only.
uint64_t Xxh3Avx2(const void* bytes, size_t length);

}  // namespace tarn::checksum
