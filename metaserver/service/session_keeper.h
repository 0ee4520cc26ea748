// The leader's memory of when each session was last heard of. Not replicated: a new leader starts all sessions afresh.
//
// Two times run from a session's latest request. When its lease and a margin are over it has lapsed: it caches nothing
// (its own clock told it so earlier), and nobody waits for it; its next request ends that. After several leases it has
// expired and is closed by a replicated command; until that is applied it may still act.
// Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"

namespace tarn::meta {

// A session is closed after so many leases of silence.
inline constexpr int64_t kSessionLeases = 6;
// The server counts from receipt, the client from sending; beyond that this covers clocks that run at different rates.
inline constexpr int64_t kLeaseMarginDivisor = 8;

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
  bool Touch(SessionId session) { return TouchAndCount(session).has_value(); }
  // Also tells how often it has lapsed.
  std::optional<uint64_t> TouchAndCount(SessionId session);
  // Those that have lapsed since the last call.
  std::vector<SessionId> TakeLapsed();
  // At most `count_max` sessions that have expired; each is returned once, unless it is put back with Retry.
  std::vector<SessionId> TakeExpired(size_t count_max);
  // It is to be closed now, whether it is heard of or not.
  void Expire(SessionId session);
  // It is to be closed by the caller. False: it is not open, or is being closed already.
  bool BeginClosing(SessionId session);
  // Closing it failed.
  void Retry(SessionId session);
  size_t size() const;
  int64_t lease_ms() const { return lease_ns_ / 1'000'000; }

 private:
  struct Entry {
    int64_t heard_ns = 0;
    uint64_t lapses = 0;
    bool lapsed = false;
    bool expired = false;  // by Expire
    bool closing = false;
  };

  Clock* const clock_;
  const int64_t lease_ns_;
  mutable Mutex mutex_;
  std::unordered_map<SessionId, Entry> sessions_ GUARDED_BY(mutex_);
};

}  // namespace tarn::meta
