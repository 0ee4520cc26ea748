#include "chunkserver/store/page_residency.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <optional>

namespace tarn::store {
namespace {

// Not in the headers of Debian 12 (include/uapi/linux/mman.h and the system call table of Linux 6.5).
constexpr long kCachestatCall = 451;
struct CachestatRange {
  uint64_t offset;
  uint64_t length;
};
struct Cachestat {
  uint64_t cached_pages;
  uint64_t dirty_pages;
  uint64_t writeback_pages;
  uint64_t evicted_pages;
  uint64_t recently_evicted_pages;
};

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kSampleStepBytes = 64 << 10;

// nullopt: the kernel cannot say.
std::optional<bool> AskCachestat(int fd, uint64_t offset, uint64_t length) {
  CachestatRange range{offset, length};
  Cachestat found{};
  if (syscall(kCachestatCall, fd, &range, &found, 0) != 0) return std::nullopt;
  const uint64_t pages = (offset + length + kPageBytes - 1) / kPageBytes - offset / kPageBytes;
  return found.cached_pages >= pages;
}

bool ReadsAtOnce(int fd, uint64_t offset) {
  char byte;
  const iovec part{&byte, 1};
  return preadv2(fd, &part, 1, static_cast<off_t>(offset), RWF_NOWAIT) == 1;
}

}  // namespace

bool IsInPageCache(int fd, uint64_t offset, uint64_t length) {
  if (length == 0) return true;
  if (const std::optional<bool> answer = AskCachestat(fd, offset, length)) return *answer;
  for (uint64_t sample = offset; sample < offset + length; sample += kSampleStepBytes) {
    if (!ReadsAtOnce(fd, sample)) return false;
  }
  return ReadsAtOnce(fd, offset + length - 1);
}

}  // namespace tarn::store
