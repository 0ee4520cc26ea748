#include "chunkserver/store/session_windows.h"

#include <string>

namespace tarn::store {

Result<SessionWindows::Seen> SessionWindows::Check(SessionId session, Sequence sequence, Sequence acked_through) {
  MutexLock lock(mutex_);
  Window& window = Touch(session);
  if (acked_through > window.acked_through) {
    window.acked_through = acked_through;
    window.applied.erase(window.applied.begin(), window.applied.upper_bound(acked_through));
  }
  if (sequence <= window.acked_through) {
    return Status(StatusCode::kStaleSequence, "sequence " + std::to_string(sequence.value()) + " of the session is done, as are all up to " +
                                                  std::to_string(window.acked_through.value()));
  }
  if (window.applied.contains(sequence)) return Seen::kApplied;
  if (window.applied.size() >= kWindowMax) {
    return Status(StatusCode::kResourceExhausted, "the session has " + std::to_string(kWindowMax) + " writes that it did not acknowledge");
  }
  return Seen::kNew;
}

void SessionWindows::MarkApplied(SessionId session, Sequence sequence) {
  MutexLock lock(mutex_);
  Window& window = Touch(session);
  if (sequence > window.acked_through) window.applied.insert(sequence);
}

SessionWindows::Window& SessionWindows::Touch(SessionId session) {
  const auto [it, is_new] = windows_.try_emplace(session);
  if (is_new) {
    by_recency_.push_front(session);
    it->second.recency = by_recency_.begin();
    if (windows_.size() > kSessionsMax) {
      windows_.erase(by_recency_.back());
      by_recency_.pop_back();
    }
  } else {
    by_recency_.splice(by_recency_.begin(), by_recency_, it->second.recency);
  }
  return it->second;
}

}  // namespace tarn::store
