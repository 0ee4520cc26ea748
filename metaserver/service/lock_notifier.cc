#include "metaserver/service/lock_notifier.h"

#include <map>
#include <utility>
#include <vector>

#include "common/rpc/frame.h"
#include "proto/locks.pb.h"

namespace tarn::meta {

void LockNotifier::Attach(SessionId session, const std::shared_ptr<rpc::Peer>& peer) {
  MutexLock lock(mutex_);
  peers_[session] = peer;
  Update();
}

void LockNotifier::Detach(SessionId session) {
  MutexLock lock(mutex_);
  peers_.erase(session);
  Update();
}

void LockNotifier::OnApplied(std::span<const ChangeSet> changes) {
  std::map<SessionId, proto::LocksGrantedPush> pushes;
  for (const ChangeSet& change : changes) {
    for (const auto& [session, wait] : change.locks_granted) pushes[session].add_waits(wait.value());
  }
  if (pushes.empty()) return;
  std::vector<std::pair<std::shared_ptr<rpc::Peer>, proto::LocksGrantedPush>> to_send;
  {
    MutexLock lock(mutex_);
    for (auto& [session, push] : pushes) {
      const auto found = peers_.find(session);
      if (found == peers_.end()) continue;
      push.set_session(session.value());
      to_send.emplace_back(found->second, std::move(push));
    }
  }
  for (const auto& [peer, push] : to_send) peer->Push(rpc::Method::kLocksGranted, push);
}

void LockNotifier::Sweep() {
  MutexLock lock(mutex_);
  std::erase_if(peers_, [](const auto& entry) { return !entry.second->connected(); });
  Update();
}

}  // namespace tarn::meta
