// Fills one answer to READDIR or READDIRPLUS.
//
// Offsets, which telldir(3) hands to programs: 1 after ".", 2 after "..", and the library's cookie after any other
// entry (the metadata server keeps those at 16 and above). Entries with equal cookies go out together or not at all,
// since a listing continues after a cookie.
#pragma once

#include <fuse3/fuse_lowlevel.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "client/types.h"
#include "fuse-client/operations/attributes.h"
#include "fuse-client/operations/node_ids.h"

namespace tarn::fuse {

inline constexpr uint64_t kOffsetAfterDot = 1;
inline constexpr uint64_t kOffsetAfterDotDot = 2;
inline constexpr uint64_t kCookieMin = 16;

// The cookie after which the listing continues.
inline uint64_t CookieOfOffset(uint64_t offset) { return offset < kCookieMin ? 0 : offset; }

// One thread.
class DirectoryPacker {
 public:
  DirectoryPacker(size_t bytes_max, bool with_attributes, const NodeIds& nodes);

  // "." and "..", those that come after `offset`. False if they did not fit.
  bool AddDots(uint64_t offset, InodeId self, InodeId parent);
  using TimeoutsOf = std::function<Timeouts(const client::DirectoryEntry&)>;
  // Returns how many of the entries fitted. An entry whose attributes the server did not tell (no link) is passed on as
  // a name only.
  size_t AddEntries(std::span<const client::DirectoryEntry> entries, const TimeoutsOf& timeouts_of);

  std::span<const char> bytes() const { return std::span(buffer_).first(used_); }

 private:
  bool AddDot(const char* name, InodeId inode, uint64_t offset);
  bool AddEntry(const client::DirectoryEntry& entry, const TimeoutsOf& timeouts_of);
  bool Commit(size_t length);

  const bool with_attributes_;
  const NodeIds& nodes_;
  std::vector<char> buffer_;
  size_t used_ = 0;
};

}  // namespace tarn::fuse
