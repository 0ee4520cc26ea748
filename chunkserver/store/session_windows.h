// Exactly once for writes: which sequences of a session were applied, so that a repeat is answered and not applied again.
//
// Kept in memory: a new incarnation of the server knows none, and clients send what was not durable again under new sequences.
// The caller asks and marks while it holds the chunk's write order: a repeat names the same chunk, so the two never race.
#pragma once

#include <cstdint>
#include <list>
#include <set>
#include <unordered_map>

#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/base/status.h"

namespace tarn::store {

// Thread-safe.
class SessionWindows {
 public:
  // More applied sequences than this above acked_through: kResourceExhausted.
  static constexpr size_t kWindowMax = 65'536;
  // The session that was quiet for longest is forgotten.
  static constexpr size_t kSessionsMax = 65'536;

  enum class Seen { kNew, kApplied };
  // kStaleSequence: at or below what the session said is done.
  Result<Seen> Check(SessionId session, Sequence sequence, Sequence acked_through);
  void MarkApplied(SessionId session, Sequence sequence);

 private:
  struct Window {
    Sequence acked_through;
    std::set<Sequence> applied;
    std::list<SessionId>::iterator recency;
  };
  Window& Touch(SessionId session) REQUIRES(mutex_);

  Mutex mutex_;
  std::unordered_map<SessionId, Window> windows_ GUARDED_BY(mutex_);
  std::list<SessionId> by_recency_ GUARDED_BY(mutex_);  // most recent first
};

}  // namespace tarn::store
