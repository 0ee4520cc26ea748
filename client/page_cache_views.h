// Which state of a file the kernel's page cache may hold, per inode: decides whether an open may keep the pages.
//
// A view is what was reported at this client's last open of the inode, moved along by this client's own writes and
// truncates (those the kernel saw pass). A change by anybody else makes the data generation jump, and the view is
// dropped.
//
// A fixed table, four ways associative: what falls out costs a later open its pages, nothing else. Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "client/types.h"
#include "common/base/mutex.h"

namespace tarn::client {

class PageCacheViews {
 public:
  // Rounded down to what fits a power of two of sets; at least one set.
  explicit PageCacheViews(uint64_t bytes_max);
  PageCacheViews(const PageCacheViews&) = delete;
  PageCacheViews& operator=(const PageCacheViews&) = delete;

  // True if pages kept from earlier opens are those of the file as `attributes` (fresh from the server) describe it.
  // The view is then, or becomes, that state.
  bool Open(const Attributes& attributes);
  // This client wrote or truncated, once, and the server answered with these.
  void OwnWrite(const Attributes& attributes);
  // This client changed attributes only, and the server answered with these.
  void OwnAttributeChange(const Attributes& attributes);

 private:
  static constexpr size_t kWays = 4;
  struct View {
    InodeId inode;  // invalid: free
    uint64_t size_bytes = 0;
    int64_t mtime_ns = 0;
    uint64_t data_generation = 0;
  };
  using Set = std::array<View, kWays>;
  struct Free {
    void operator()(Set* sets) const { free(sets); }
  };

  Set& SetOf(InodeId inode) REQUIRES(mutex_);
  static View* Find(Set& set, InodeId inode);
  void Advance(const Attributes& attributes, uint64_t generations);

  // Immutable after construction.
  size_t set_mask_ = 0;

  Mutex mutex_;
  // From calloc, so that memory is only taken as views come.
  std::unique_ptr<Set[], Free> sets_ GUARDED_BY(mutex_);
};

}  // namespace tarn::client
