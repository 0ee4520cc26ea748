// Whether a range of a file is in the page cache, without reading it.
#pragma once

#include <cstdint>

namespace tarn::store {

// cachestat(2) (Linux 6.5) where there is one, else a sample: a byte of every 64 KiB is read without waiting. A hint: pages may go at any time.
// Thread-safe.
bool IsInPageCache(int fd, uint64_t offset, uint64_t length);

}  // namespace tarn::store
