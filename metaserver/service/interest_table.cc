#include "metaserver/service/interest_table.h"

#include <algorithm>

namespace tarn::meta {

bool InterestTable::Insert(SessionId session, InodeId inode, bool tentative) {
  InodesOfSession& inodes = sessions_[session];
  if (size_ >= limits_.total_max || inodes.size() >= limits_.per_session_max) return false;
  inodes.emplace(inode, tentative);
  watched_[inode].sessions.push_back(session);
  ++size_;
  return true;
}

bool InterestTable::Add(SessionId session, InodeId inode) {
  if (const auto of_session = sessions_.find(session); of_session != sessions_.end()) {
    if (const auto found = of_session->second.find(inode); found != of_session->second.end()) {
      found->second = false;
      return true;
    }
  }
  return Insert(session, inode, false);
}

bool InterestTable::AddTentative(SessionId session, InodeId inode) {
  return !Has(session, inode) && Insert(session, inode, true);
}

void InterestTable::RemoveTentative(SessionId session, InodeId inode) {
  const auto of_session = sessions_.find(session);
  if (of_session == sessions_.end()) return;
  const auto found = of_session->second.find(inode);
  if (found != of_session->second.end() && found->second) Remove(session, inode);
}

void InterestTable::Remove(SessionId session, InodeId inode) {
  const auto of_session = sessions_.find(session);
  if (of_session == sessions_.end() || of_session->second.erase(inode) == 0) return;
  RemoveWatcher(session, inode);
}

void InterestTable::RemoveSession(SessionId session) {
  const auto of_session = sessions_.find(session);
  if (of_session == sessions_.end()) return;
  for (const auto& [inode, tentative] : of_session->second) RemoveWatcher(session, inode);
  sessions_.erase(of_session);
}

void InterestTable::RemoveWatcher(SessionId session, InodeId inode) {
  const auto watched = watched_.find(inode);
  std::vector<SessionId>& sessions = watched->second.sessions;
  const auto found = std::find(sessions.begin(), sessions.end(), session);
  *found = sessions.back();
  sessions.pop_back();
  --size_;
  if (watched->second.sole_user == session) watched->second.sole_user = SessionId();
  if (sessions.empty()) watched_.erase(watched);
}

void InterestTable::Clear() {
  watched_.clear();
  sessions_.clear();
  size_ = 0;
}

bool InterestTable::Has(SessionId session, InodeId inode) const {
  const auto of_session = sessions_.find(session);
  return of_session != sessions_.end() && of_session->second.contains(inode);
}

std::span<const SessionId> InterestTable::Watchers(InodeId inode) const {
  const auto watched = watched_.find(inode);
  if (watched == watched_.end()) return {};
  return watched->second.sessions;
}

bool InterestTable::OthersWatch(InodeId inode, SessionId session) const {
  const auto watchers = Watchers(inode);
  return watchers.size() > 1 || (watchers.size() == 1 && watchers.front() != session);
}

SessionId InterestTable::SoleUser(InodeId inode) const {
  const auto watched = watched_.find(inode);
  return watched != watched_.end() ? watched->second.sole_user : SessionId();
}

void InterestTable::SetSoleUser(InodeId inode, SessionId session) {
  if (const auto watched = watched_.find(inode); watched != watched_.end()) watched->second.sole_user = session;
}

size_t InterestTable::size_of(SessionId session) const {
  const auto of_session = sessions_.find(session);
  return of_session != sessions_.end() ? of_session->second.size() : 0;
}

}  // namespace tarn::meta
