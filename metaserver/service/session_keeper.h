// The leader's memory of when each session was last heard of. Not replicated: a new leader starts all sessions afresh.
//
// A session whose lease has run out is closed by a replicated command; until that is applied it may still act.
// Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"

namespace tarn::meta {

class SessionKeeper {
 public:
  SessionKeeper(Clock* clock, int64_t lease_ms) : clock_(clock), lease_ns_(lease_ms * 1'000'000) {}
  SessionKeeper(const SessionKeeper&) = delete;
  SessionKeeper& operator=(const SessionKeeper&) = delete;

  // A new leader's sessions: all of them were heard of just now.
  void Reset(const std::vector<SessionId>& sessions);
  void Add(SessionId session);
  void Remove(SessionId session);
  // A request of the session came. False: unknown.
  bool Touch(SessionId session);
  // At most `count_max` sessions whose lease has run out; each is returned once, unless it is put back with Retry.
  std::vector<SessionId> TakeExpired(size_t count_max);
  // Closing it failed.
  void Retry(SessionId session);
  size_t size() const;
  int64_t lease_ms() const { return lease_ns_ / 1'000'000; }

 private:
  struct Entry {
    int64_t heard_ns = 0;
    bool closing = false;
  };

  Clock* const clock_;
  const int64_t lease_ns_;
  mutable Mutex mutex_;
  std::unordered_map<SessionId, Entry> sessions_ GUARDED_BY(mutex_);
};

}  // namespace tarn::meta
