// How many pushes a directory (or inode) may cost: one that many sessions watch while it changes often is better not
// cached at all for a while.
//
// Kept by PushCoordinator under its lock; one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>

#include "common/base/ids.h"

namespace tarn::meta {

struct PushBudgetOptions {
  double pushes_per_second = 2000;
  double burst = 4000;
  int64_t uncached_ns = 10'000'000'000;  // the first time; doubles when it happens again soon
  int64_t uncached_max_ns = 300'000'000'000;
  int64_t forgiven_after_ns = 60'000'000'000;  // "soon" ends so long after it was cached again
  size_t tracked_max = size_t{64} << 10;       // beyond this, further inodes are not limited
};

class PushBudget {
 public:
  explicit PushBudget(const PushBudgetOptions& options) : options_(options) {}

  // A change of `inode` costs so many pushes. False: too many; it is uncached from now on.
  bool Charge(InodeId inode, size_t pushes, int64_t now_ns);
  // Whether nothing of it may be granted now.
  bool IsUncached(InodeId inode, int64_t now_ns) const;
  // Forgets what has been quiet for long.
  void Sweep(int64_t now_ns);
  void Clear() { accounts_.clear(); }
  size_t size() const { return accounts_.size(); }

 private:
  struct Account {
    double credit = 0;
    int64_t credited_ns = 0;
    int64_t uncached_until_ns = 0;
    int64_t uncached_for_ns = 0;  // the last time; 0: never
  };

  const PushBudgetOptions options_;
  std::unordered_map<InodeId, Account> accounts_;
};

}  // namespace tarn::meta
