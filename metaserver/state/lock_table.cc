#include "metaserver/state/lock_table.h"

#include <algorithm>

#include "common/base/check.h"
#include "proto/locks.pb.h"

namespace tarn::meta {
namespace {

bool Overlap(const LockRequest& a, const LockRequest& b) { return a.first <= b.last && b.first <= a.last; }

bool InConflict(const LockRequest& held, const LockRequest& request) {
  return held.owner != request.owner && (held.exclusive || request.exclusive) && Overlap(held, request);
}

void ToProto(const LockRequest& lock, proto::FileLock* message) {
  message->set_session(lock.owner.session.value());
  message->set_owner(lock.owner.number);
  message->set_pid(lock.pid);
  message->set_exclusive(lock.exclusive);
  message->set_first(lock.first);
  message->set_last(lock.last);
}

LockRequest FromProto(const proto::FileLock& message) {
  return {.owner = {SessionId(message.session()), message.owner()},
          .pid = message.pid(),
          .exclusive = message.exclusive(),
          .first = message.first(),
          .last = message.last()};
}

bool Before(const LockRequest& a, const LockRequest& b) {
  return a.owner != b.owner ? a.owner < b.owner : a.first < b.first;
}

}  // namespace

Result<LockTable> LockTable::Decode(std::string_view record) {
  proto::LockTableRecord message;
  if (!message.ParseFromArray(record.data(), static_cast<int>(record.size()))) {
    return Status(StatusCode::kCorruption, "the record of a file's locks cannot be parsed");
  }
  LockTable table;
  for (const proto::FileLock& lock : message.held()) table.held_.push_back(FromProto(lock));
  for (const auto& wait : message.waiting()) {
    table.waiting_.push_back({Sequence(wait.sequence()), FromProto(wait.lock())});
  }
  const bool sound = std::ranges::is_sorted(table.held_, Before) &&
                     std::ranges::all_of(table.held_, [](const LockRequest& lock) {
                       return lock.first <= lock.last && lock.last <= kLockLastMax;
                     });
  if (!sound) return Status(StatusCode::kCorruption, "the record of a file's locks is not in order");
  return table;
}

std::string LockTable::Encode() const {
  proto::LockTableRecord message;
  for (const LockRequest& lock : held_) ToProto(lock, message.add_held());
  for (const LockWait& wait : waiting_) {
    proto::LockTableRecord::Wait* record = message.add_waiting();
    record->set_sequence(wait.sequence.value());
    ToProto(wait.request, record->mutable_lock());
  }
  return message.SerializeAsString();
}

std::vector<LockRequest> LockTable::Conflicts(const LockRequest& request) const {
  std::vector<LockRequest> conflicts;
  for (const LockRequest& held : held_) {
    if (InConflict(held, request)) conflicts.push_back(held);
  }
  return conflicts;
}

bool LockTable::HasConflict(const LockRequest& request) const {
  return std::ranges::any_of(held_, [&](const LockRequest& held) { return InConflict(held, request); });
}

bool LockTable::Holds(const LockOwner& owner) const {
  return std::ranges::any_of(held_, [&](const LockRequest& held) { return held.owner == owner; });
}

bool LockTable::Waits(const LockOwner& owner) const {
  return std::ranges::any_of(waiting_, [&](const LockWait& wait) { return wait.request.owner == owner; });
}

bool LockTable::ConcernsSession(SessionId session) const {
  return std::ranges::any_of(held_, [&](const LockRequest& held) { return held.owner.session == session; }) ||
         std::ranges::any_of(waiting_, [&](const LockWait& wait) { return wait.request.owner.session == session; });
}

void LockTable::Set(const LockRequest& request) {
  CHECK(request.first <= request.last && request.last <= kLockLastMax, "a lock has a range");
  Clear(request.owner, request.first, request.last);
  LockRequest merged = request;
  // What touches it and is of the same kind becomes one with it. `last` never overflows: it has 63 bits.
  std::erase_if(held_, [&](const LockRequest& held) {
    const bool touches = held.first <= merged.last + 1 && merged.first <= held.last + 1;
    if (held.owner != merged.owner || held.exclusive != merged.exclusive || !touches) return false;
    merged.first = std::min(merged.first, held.first);
    merged.last = std::max(merged.last, held.last);
    return true;
  });
  held_.insert(std::ranges::upper_bound(held_, merged, Before), merged);
}

void LockTable::Clear(const LockOwner& owner, uint64_t first, uint64_t last) {
  std::vector<LockRequest> rest;
  std::erase_if(held_, [&](const LockRequest& held) {
    if (held.owner != owner || held.first > last || held.last < first) return false;
    LockRequest part = held;
    if (held.first < first) {
      part.last = first - 1;
      rest.push_back(part);
      part.last = held.last;
    }
    if (held.last > last) {
      part.first = last + 1;
      rest.push_back(part);
    }
    return true;
  });
  for (const LockRequest& part : rest) held_.insert(std::ranges::upper_bound(held_, part, Before), part);
}

bool LockTable::RemoveWait(SessionId session, Sequence sequence) {
  return std::erase_if(waiting_, [&](const LockWait& wait) {
           return wait.request.owner.session == session && wait.sequence == sequence;
         }) != 0;
}

void LockTable::RemoveSession(SessionId session) {
  std::erase_if(held_, [&](const LockRequest& held) { return held.owner.session == session; });
  std::erase_if(waiting_, [&](const LockWait& wait) { return wait.request.owner.session == session; });
}

std::vector<LockWait> LockTable::GrantWaiting() {
  std::vector<LockWait> granted;
  size_t granted_before = 0;
  do {
    granted_before = granted.size();
    std::erase_if(waiting_, [&](const LockWait& wait) {
      if (HasConflict(wait.request)) return false;
      Set(wait.request);
      granted.push_back(wait);
      return true;
    });
    // Again, since a shared lock may have taken the place of an exclusive one of its owner.
  } while (granted.size() != granted_before);
  return granted;
}

}  // namespace tarn::meta
