#include "metaserver/service/session_keeper.h"

#include <utility>

namespace tarn::meta {

void SessionKeeper::Reset(const std::vector<SessionId>& sessions) {
  const int64_t now_ns = clock_->MonotonicNs();
  MutexLock lock(mutex_);
  sessions_.clear();
  for (const SessionId session : sessions) sessions_[session].heard_ns = now_ns;
}

void SessionKeeper::Add(SessionId session) {
  const int64_t now_ns = clock_->MonotonicNs();
  MutexLock lock(mutex_);
  sessions_.try_emplace(session).first->second.heard_ns = now_ns;
}

void SessionKeeper::Remove(SessionId session) {
  MutexLock lock(mutex_);
  sessions_.erase(session);
}

std::optional<uint64_t> SessionKeeper::TouchAndCount(SessionId session) {
  const int64_t now_ns = clock_->MonotonicNs();
  MutexLock lock(mutex_);
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return std::nullopt;
  found->second.heard_ns = now_ns;
  found->second.lapsed = false;
  return found->second.lapses;
}

std::vector<SessionId> SessionKeeper::TakeLapsed() {
  const int64_t now_ns = clock_->MonotonicNs();
  std::vector<SessionId> lapsed;
  MutexLock lock(mutex_);
  for (auto& [session, entry] : sessions_) {
    if (entry.lapsed || now_ns - entry.heard_ns <= lease_ns_ + lease_ns_ / kLeaseMarginDivisor) continue;
    entry.lapsed = true;
    ++entry.lapses;
    lapsed.push_back(session);
  }
  return lapsed;
}

std::vector<SessionId> SessionKeeper::TakeExpired(size_t count_max) {
  const int64_t now_ns = clock_->MonotonicNs();
  std::vector<SessionId> expired;
  MutexLock lock(mutex_);
  for (auto& [session, entry] : sessions_) {
    if (expired.size() == count_max) break;
    const bool silent = now_ns - entry.heard_ns > lease_ns_ * kSessionLeases;
    if (entry.closing || !(silent || entry.expired)) continue;
    entry.closing = true;
    expired.push_back(session);
  }
  return expired;
}

void SessionKeeper::Expire(SessionId session) {
  MutexLock lock(mutex_);
  if (const auto found = sessions_.find(session); found != sessions_.end()) found->second.expired = true;
}

bool SessionKeeper::BeginClosing(SessionId session) {
  MutexLock lock(mutex_);
  const auto found = sessions_.find(session);
  return found != sessions_.end() && !std::exchange(found->second.closing, true);
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
