#include "client/data/target_commits.h"

#include <utility>
#include <vector>

namespace tarn::client {

void TargetCommits::Add(TargetId target, GroupId group, const std::shared_ptr<CommitListener>& listener) {
  MutexLock lock(mutex_);
  if (closed_) return;
  Target& state = targets_[target];
  state.listeners.insert(listener);
  state.groups.insert(group);
}

void TargetCommits::Request(TargetId target) {
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    Target& state = targets_[target];
    if (state.under_way) {
      state.again = true;
      return;
    }
    state.under_way = true;
  }
  Begin(target);
}

void TargetCommits::RequestAll() {
  std::vector<TargetId> targets;
  {
    MutexLock lock(mutex_);
    for (const auto& [target, state] : targets_) {
      if (!state.listeners.empty()) targets.push_back(target);
    }
  }
  for (const TargetId target : targets) Request(target);
}

void TargetCommits::Close() {
  std::vector<std::shared_ptr<CommitListener>> released;  // after the lock
  MutexLock lock(mutex_);
  closed_ = true;
  for (auto& [target, state] : targets_) {
    released.insert(released.end(), state.listeners.begin(), state.listeners.end());
    state.listeners.clear();
  }
  lock.Unlock();
}

void TargetCommits::Begin(TargetId target) {
  const uint64_t stamp = last_stamp_.load();
  std::vector<GroupId> groups;
  {
    MutexLock lock(mutex_);
    Target& state = targets_[target];
    // Whoever asked was served by the commit before. Without a group nothing would tell that the target is not asked any more.
    if (state.groups.empty()) {
      state.under_way = false;
      return;
    }
    groups.assign(state.groups.begin(), state.groups.end());
    state.groups.clear();
  }
  chunks_->CommitTarget(target, std::move(groups),
                        [self = shared_from_this(), target, stamp](const Result<CommitOutcome>& outcome) {
                          self->OnCommitted(target, stamp, outcome);
                        });
}

void TargetCommits::OnCommitted(TargetId target, uint64_t stamp, const Result<CommitOutcome>& outcome) {
  std::unordered_set<std::shared_ptr<CommitListener>> listeners;
  {
    MutexLock lock(mutex_);
    listeners.swap(targets_[target].listeners);
  }
  for (const auto& listener : listeners) listener->OnTargetCommitted(target, stamp, outcome);
  bool again = false;
  {
    MutexLock lock(mutex_);
    Target& state = targets_[target];
    again = state.again && !closed_;
    state.again = false;
    state.under_way = again;
  }
  if (again) Begin(target);
}

}  // namespace tarn::client
