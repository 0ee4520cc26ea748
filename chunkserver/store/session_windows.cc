#include "chunkserver/store/session_windows.h"

#include <string>

namespace tarn::store {

Result<SessionWindows::Seen> SessionWindows::Check(const WriteNumber& write) {
  MutexLock lock(mutex_);
  Window& window = Touch(write.group, write.session);
  RaiseAcked(&window, write.acked_through);
  if (write.sequence <= window.acked_through) {
    return Status(StatusCode::kStaleSequence, "sequence " + std::to_string(write.sequence.value()) + " of the session is done, as are all up to " +
                                                  std::to_string(window.acked_through.value()));
  }
  if (window.applied.contains(write.sequence)) return Seen::kApplied;
  if (window.applied.size() >= kWindowMax) {
    return Status(StatusCode::kResourceExhausted, "the session has " + std::to_string(kWindowMax) + " writes that it did not acknowledge");
  }
  return Seen::kNew;
}

void SessionWindows::MarkApplied(const WriteNumber& write) {
  MutexLock lock(mutex_);
  Window& window = Touch(write.group, write.session);
  RaiseAcked(&window, write.acked_through);
  if (write.sequence > window.acked_through) window.applied.insert(write.sequence);
}

std::vector<SessionWindow> SessionWindows::Of(GroupId group) const {
  std::vector<SessionWindow> windows;
  MutexLock lock(mutex_);
  const auto found = groups_.find(group);
  if (found == groups_.end()) return windows;
  windows.reserve(found->second.size());
  for (const auto& [session, window] : found->second) {
    windows.push_back({session, window.acked_through, {window.applied.begin(), window.applied.end()}});
  }
  return windows;
}

std::vector<GroupWindow> SessionWindows::All() const {
  MutexLock lock(mutex_);
  std::vector<GroupWindow> windows;
  windows.reserve(by_recency_.size());
  for (auto name = by_recency_.rbegin(); name != by_recency_.rend(); ++name) {
    const Window& window = groups_.at(name->first).at(name->second);
    windows.push_back({name->first, {name->second, window.acked_through, {window.applied.begin(), window.applied.end()}}});
  }
  return windows;
}

void SessionWindows::Install(GroupId group, std::span<const SessionWindow> windows, bool replace) {
  MutexLock lock(mutex_);
  if (replace) ForgetGroup(group);
  for (const SessionWindow& installed : windows) {
    Window& window = Touch(group, installed.session);
    RaiseAcked(&window, installed.acked_through);
    for (const Sequence sequence : installed.applied) {
      if (sequence > window.acked_through) window.applied.insert(sequence);
    }
  }
}

void SessionWindows::ForgetGroup(GroupId group) {
  const auto found = groups_.find(group);
  if (found == groups_.end()) return;
  for (const auto& [session, window] : found->second) by_recency_.erase(window.recency);
  groups_.erase(found);
}

void SessionWindows::RaiseAcked(Window* window, Sequence acked_through) {
  if (acked_through <= window->acked_through) return;
  window->acked_through = acked_through;
  window->applied.erase(window->applied.begin(), window->applied.upper_bound(acked_through));
}

SessionWindows::Window& SessionWindows::Touch(GroupId group, SessionId session) {
  auto& sessions = groups_[group];
  const auto [it, is_new] = sessions.try_emplace(session);
  if (!is_new) {
    by_recency_.splice(by_recency_.begin(), by_recency_, it->second.recency);
    return it->second;
  }
  Window& window = it->second;
  by_recency_.emplace_front(group, session);
  window.recency = by_recency_.begin();
  if (by_recency_.size() > kWindowsMax) {
    Forget(by_recency_.back());
    by_recency_.pop_back();
  }
  return window;
}

void SessionWindows::Forget(const Name& name) {
  const auto sessions = groups_.find(name.first);
  sessions->second.erase(name.second);
  if (sessions->second.empty()) groups_.erase(sessions);
}

}  // namespace tarn::store
