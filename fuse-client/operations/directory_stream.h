// One opened directory: keeps the page last fetched, which usually is larger than what one READDIR takes.
//
// A kept page is used only where it cannot be told from a fresh one: a listing from the start always fetches, and
// attributes are handed out again only while nothing was changed through this mount since they were fetched, with the
// time-outs that are left of them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "client/types.h"
#include "common/base/mutex.h"

namespace tarn::fuse {

struct FetchedPage {
  uint64_t after_cookie = 0;
  bool with_attributes = false;
  uint64_t changes = 0;    // the mount's count of changes when it was asked for
  int64_t fetched_ns = 0;  // Clock::MonotonicNs when it was asked for
  client::DirectoryPage page;
};

// Thread-safe.
class DirectoryStream {
 public:
  explicit DirectoryStream(InodeId directory) : directory_(directory) {}

  struct Wanted {
    uint64_t after_cookie = 0;
    bool with_attributes = false;
    uint64_t changes = 0;
    int64_t now_ns = 0;
  };
  // A kept page and where in it the listing continues (its end only if the directory ends there, too).
  struct Continuation {
    std::shared_ptr<const FetchedPage> page;
    size_t next = 0;

    std::span<const client::DirectoryEntry> entries() const { return std::span(page->page.entries).subspan(next); }
  };
  std::optional<Continuation> Continue(const Wanted& wanted);
  void Keep(std::shared_ptr<const FetchedPage> page);
  // rewinddir(3).
  void Drop();

  InodeId directory() const { return directory_; }

 private:
  const InodeId directory_;
  Mutex mutex_;
  std::shared_ptr<const FetchedPage> kept_ GUARDED_BY(mutex_);
};

}  // namespace tarn::fuse
