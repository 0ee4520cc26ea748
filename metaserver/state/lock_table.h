// The advisory locks of one file in one space (flock, or POSIX byte ranges), and who waits for one (docs/locks.md).
//
// Invariants: ranges of one owner do not overlap, and those of one kind do not touch either; where two owners' ranges
// overlap, both are shared; nothing that waits could be granted. Pure: no I/O, no clock. One thread.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"

namespace tarn::meta {

inline constexpr uint64_t kLockLastMax = (uint64_t{1} << 63) - 1;  // OFFSET_MAX: to the end, wherever that is

struct LockOwner {
  SessionId session;
  uint64_t number = 0;  // given by the kernel of the session's mount
  friend auto operator<=>(const LockOwner&, const LockOwner&) = default;
};

struct LockRequest {
  LockOwner owner;
  uint32_t pid = 0;
  bool exclusive = false;
  uint64_t first = 0;  // bytes [first, last], last <= kLockLastMax
  uint64_t last = kLockLastMax;
  friend bool operator==(const LockRequest&, const LockRequest&) = default;
};

struct LockWait {
  Sequence sequence;  // of the mutation that began it, in the owner's session
  LockRequest request;
  friend bool operator==(const LockWait&, const LockWait&) = default;
};

class LockTable {
 public:
  // From a record's bytes; kCorruption.
  static Result<LockTable> Decode(std::string_view record);
  std::string Encode() const;

  bool empty() const { return held_.empty() && waiting_.empty(); }
  size_t size() const { return held_.size() + waiting_.size(); }
  // Sorted by owner and first byte.
  const std::vector<LockRequest>& held() const { return held_; }
  const std::vector<LockWait>& waiting() const { return waiting_; }

  // Locks of other owners that the request would have to wait for.
  std::vector<LockRequest> Conflicts(const LockRequest& request) const;
  bool HasConflict(const LockRequest& request) const;
  bool Holds(const LockOwner& owner) const;
  bool Waits(const LockOwner& owner) const;
  bool ConcernsSession(SessionId session) const;

  // The owner has this lock instead of what it had in the range. The request has no conflict.
  void Set(const LockRequest& request);
  // The owner has nothing in [first, last] any more.
  void Clear(const LockOwner& owner, uint64_t first, uint64_t last);
  void AddWait(LockWait wait) { waiting_.push_back(wait); }
  // False: there is none.
  bool RemoveWait(SessionId session, Sequence sequence);
  // What the session holds and waits for goes.
  void RemoveSession(SessionId session);
  // Sets what waits and has no conflict any more, in the order of waiting, and returns it.
  std::vector<LockWait> GrantWaiting();

 private:
  std::vector<LockRequest> held_;
  std::vector<LockWait> waiting_;
};

}  // namespace tarn::meta
