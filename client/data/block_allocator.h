// A buddy allocator over numbered blocks: runs of 2^order blocks, aligned to their length, lowest numbers first.
//
// Lowest first keeps the memory that is really touched small and warm in the processor's caches. One bit per free run;
// no heap allocation after construction. Thread-compatible.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace tarn::client {

class BlockAllocator {
 public:
  // `block_count` blocks, runs of up to 2^order_max.
  BlockAllocator(uint64_t block_count, uint32_t order_max);

  // The first block of a run of 2^order; nullopt if there is none.
  std::optional<uint64_t> Allocate(uint32_t order);
  // A run that Allocate gave.
  void Free(uint64_t block, uint32_t order);

  uint64_t used_blocks() const { return used_blocks_; }
  uint32_t order_max() const { return order_max_; }

 private:
  struct FreeRuns {
    std::vector<uint64_t> bits;  // bit i: the run at block i << order is free
    uint64_t count = 0;
    uint64_t first_word = 0;  // no bit is set in any word before
  };

  void Insert(uint32_t order, uint64_t run);
  void Remove(uint32_t order, uint64_t run);
  bool IsFree(uint32_t order, uint64_t run) const;
  uint64_t TakeFirst(uint32_t order);

  const uint64_t block_count_;
  const uint32_t order_max_;
  std::vector<FreeRuns> free_;
  uint64_t used_blocks_ = 0;
};

}  // namespace tarn::client
