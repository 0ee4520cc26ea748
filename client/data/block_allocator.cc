#include "client/data/block_allocator.h"

#include <algorithm>
#include <bit>

#include "common/base/check.h"

namespace tarn::client {

BlockAllocator::BlockAllocator(uint64_t block_count, uint32_t order_max)
    : block_count_(block_count), order_max_(order_max), free_(order_max + 1) {
  for (uint32_t order = 0; order <= order_max; ++order) {
    free_[order].bits.resize(((block_count >> order) + 63) / 64);
    free_[order].first_word = free_[order].bits.size();
  }
  // The largest aligned runs that fit, from the front.
  for (uint64_t block = 0; block < block_count;) {
    uint32_t order = block == 0 ? order_max : std::min<uint32_t>(order_max, std::countr_zero(block));
    while (block + (uint64_t{1} << order) > block_count) --order;
    Insert(order, block >> order);
    block += uint64_t{1} << order;
  }
}

std::optional<uint64_t> BlockAllocator::Allocate(uint32_t order) {
  uint32_t from = order;
  while (from <= order_max_ && free_[from].count == 0) ++from;
  if (from > order_max_) return std::nullopt;
  uint64_t run = TakeFirst(from);
  for (; from > order; --from) {
    run *= 2;
    Insert(from - 1, run + 1);
  }
  used_blocks_ += uint64_t{1} << order;
  return run << order;
}

void BlockAllocator::Free(uint64_t block, uint32_t order) {
  CHECK(order <= order_max_ && block % (uint64_t{1} << order) == 0 && block < block_count_, "no run of this allocator");
  used_blocks_ -= uint64_t{1} << order;
  uint64_t run = block >> order;
  while (order < order_max_ && IsFree(order, run ^ 1)) {
    Remove(order, run ^ 1);
    run /= 2;
    ++order;
  }
  Insert(order, run);
}

void BlockAllocator::Insert(uint32_t order, uint64_t run) {
  FreeRuns& runs = free_[order];
  const uint64_t mask = uint64_t{1} << (run % 64);
  CHECK((runs.bits[run / 64] & mask) == 0, "a run is freed once");
  runs.bits[run / 64] |= mask;
  runs.first_word = std::min(runs.first_word, run / 64);
  ++runs.count;
}

void BlockAllocator::Remove(uint32_t order, uint64_t run) {
  free_[order].bits[run / 64] &= ~(uint64_t{1} << (run % 64));
  --free_[order].count;
}

bool BlockAllocator::IsFree(uint32_t order, uint64_t run) const {
  const FreeRuns& runs = free_[order];
  return run / 64 < runs.bits.size() && (runs.bits[run / 64] >> (run % 64) & 1) != 0;
}

uint64_t BlockAllocator::TakeFirst(uint32_t order) {
  FreeRuns& runs = free_[order];
  while (runs.bits[runs.first_word] == 0) ++runs.first_word;
  const uint64_t run = runs.first_word * 64 + std::countr_zero(runs.bits[runs.first_word]);
  Remove(order, run);
  return run;
}

}  // namespace tarn::client
