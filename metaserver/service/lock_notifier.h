// Tells sessions that wait for a lock when they have it (docs/locks.md). Nobody depends on it: what is lost with a
// connection or a leader is found by the clients' own question (LockWaitsRequest).
//
// In the leader's memory: where each session with a wait is. Thread-safe.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <unordered_map>

#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/rpc/frame_server.h"
#include "metaserver/state/changes.h"

namespace tarn::meta {

class LockNotifier {
 public:
  LockNotifier() = default;
  LockNotifier(const LockNotifier&) = delete;
  LockNotifier& operator=(const LockNotifier&) = delete;

  // Before the session begins a wait, or asks for those it has: the end of each is pushed over this connection.
  void Attach(SessionId session, const std::shared_ptr<rpc::Peer>& peer);
  void Detach(SessionId session);
  // Whether anybody is to be told.
  bool any() const { return any_.load(std::memory_order_acquire); }
  // Apply thread: of the commands of one entry.
  void OnApplied(std::span<const ChangeSet> changes);
  // Forgets connections that are gone. Now and then.
  void Sweep();

 private:
  void Update() REQUIRES(mutex_) { any_.store(!peers_.empty(), std::memory_order_release); }

  std::atomic<bool> any_{false};
  Mutex mutex_;
  std::unordered_map<SessionId, std::shared_ptr<rpc::Peer>> peers_ GUARDED_BY(mutex_);
};

}  // namespace tarn::meta
