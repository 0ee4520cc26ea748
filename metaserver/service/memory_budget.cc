#include "metaserver/service/memory_budget.h"

#include <algorithm>

namespace tarn::meta {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kFixedBytes = 48 * kMiB;  // program, gRPC, threads: measured after a start with little in it
constexpr uint64_t kDefaultMin = 256 * kMiB;
constexpr uint64_t kDefaultMax = 8192 * kMiB;

}  // namespace

MemoryBudget ShareOut(uint64_t limit_bytes) {
  const uint64_t limit = std::max(limit_bytes, kMemoryLimitMin);
  const uint64_t usable = std::max(limit - kFixedBytes, limit / 4);
  MemoryBudget budget;
  budget.store_bytes = usable / 2;
  budget.deferred_bytes = std::clamp(usable / 64, kMiB / 4, 4 * kMiB);
  budget.waiting_mutations_bytes = std::clamp(usable / 16, 4 * kMiB, 64 * kMiB);
  budget.log_bytes = std::clamp(usable / 32, 2 * kMiB, 32 * kMiB);
  return budget;
}

uint64_t DefaultMemoryLimit(uint64_t machine_bytes, std::optional<uint64_t> container_bytes) {
  if (!container_bytes || *container_bytes >= machine_bytes) {
    return std::clamp(machine_bytes / 8, kDefaultMin, kDefaultMax);
  }
  const uint64_t smallest = std::max(kMemoryLimitMin, std::min(kDefaultMin, *container_bytes / 4 * 3));
  return std::clamp(*container_bytes / 2, smallest, kDefaultMax);
}

}  // namespace tarn::meta
