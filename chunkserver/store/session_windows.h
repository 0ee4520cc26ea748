// Exactly once for writes: which sequences of a session were applied in a group, so that a repeat is answered and not applied again.
//
// Kept in memory, and over a clean shutdown (clean_mark.h): after a crash nothing is known, and clients send what was not durable again under
// new sequences. A new primary hands its windows to the members (docs/replication.md).
// The caller asks and marks while it holds the chunk's write order: a repeat names the same chunk, so the two never race.
#pragma once

#include <cstdint>
#include <list>
#include <set>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "chunkserver/store/replica_store.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/base/status.h"

namespace tarn::store {

// One write of a session to a group.
struct WriteNumber {
  GroupId group;
  SessionId session;
  Sequence sequence;
  Sequence acked_through;
};

struct GroupWindow {
  GroupId group;
  SessionWindow window;
};

// Thread-safe.
class SessionWindows {
 public:
  // More applied sequences than this above acked_through: kResourceExhausted.
  static constexpr size_t kWindowMax = 65'536;
  // Of all groups together; the one that was quiet for longest is forgotten.
  static constexpr size_t kWindowsMax = 262'144;

  enum class Seen { kNew, kApplied };
  // kStaleSequence: at or below what the session said is done.
  Result<Seen> Check(const WriteNumber& write);
  void MarkApplied(const WriteNumber& write);

  // Sequences in order.
  std::vector<SessionWindow> Of(GroupId group) const;
  // From the one that was quiet for longest on.
  std::vector<GroupWindow> All() const;
  // Added to those that the group has, or in their place.
  void Install(GroupId group, std::span<const SessionWindow> windows, bool replace);

 private:
  using Name = std::pair<GroupId, SessionId>;
  struct Window {
    Sequence acked_through;
    std::set<Sequence> applied;
    std::list<Name>::iterator recency;
  };
  Window& Touch(GroupId group, SessionId session) REQUIRES(mutex_);
  void Forget(const Name& name) REQUIRES(mutex_);
  void ForgetGroup(GroupId group) REQUIRES(mutex_);
  static void RaiseAcked(Window* window, Sequence acked_through);

  mutable Mutex mutex_;
  std::unordered_map<GroupId, std::unordered_map<SessionId, Window>> groups_ GUARDED_BY(mutex_);
  std::list<Name> by_recency_ GUARDED_BY(mutex_);  // most recent first
};

}  // namespace tarn::store
