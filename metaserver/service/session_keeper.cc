#include "metaserver/service/session_keeper.h"

namespace tarn::meta {

void SessionKeeper::Reset(const std::vector<SessionId>& sessions) {
  const int64_t now_ns = clock_->MonotonicNs();
  MutexLock lock(mutex_);
  sessions_.clear();
  for (const SessionId session : sessions) sessions_[session] = Entry{now_ns, false};
}

void SessionKeeper::Add(SessionId session) {
  const int64_t now_ns = clock_->MonotonicNs();
  MutexLock lock(mutex_);
  sessions_[session] = Entry{now_ns, false};
}

void SessionKeeper::Remove(SessionId session) {
  MutexLock lock(mutex_);
  sessions_.erase(session);
}

bool SessionKeeper::Touch(SessionId session) {
  const int64_t now_ns = clock_->MonotonicNs();
  MutexLock lock(mutex_);
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return false;
  found->second.heard_ns = now_ns;
  return true;
}

std::vector<SessionId> SessionKeeper::TakeExpired(size_t count_max) {
  const int64_t now_ns = clock_->MonotonicNs();
  std::vector<SessionId> expired;
  MutexLock lock(mutex_);
  for (auto& [session, entry] : sessions_) {
    if (expired.size() == count_max) break;
    if (entry.closing || now_ns - entry.heard_ns <= lease_ns_) continue;
    entry.closing = true;
    expired.push_back(session);
  }
  return expired;
}

void SessionKeeper::Retry(SessionId session) {
  MutexLock lock(mutex_);
  if (const auto found = sessions_.find(session); found != sessions_.end()) found->second.closing = false;
}

size_t SessionKeeper::size() const {
  MutexLock lock(mutex_);
  return sessions_.size();
}

}  // namespace tarn::meta
