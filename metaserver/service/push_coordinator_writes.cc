// Write grants: acquiring, recalling and ending them (docs/coherence.md, "Write grants").
#include <algorithm>
#include <string>
#include <utility>

#include "metaserver/service/push_coordinator.h"

namespace tarn::meta {
namespace {

// What was in the way is over: then there may be another grant, or none.
WriteGrants::Recalled BusyOnceOver(PushCoordinator::Acquired acquired) {
  return [acquired = std::move(acquired)](const Status& status) {
    acquired(status.ok() ? Status(StatusCode::kBusy, "another session writes or has written the inode") : status);
  };
}

}  // namespace

void PushCoordinator::UpdateWriters() {
  // In this order: who sees nobody sees who has gone.
  grant_ends_.store(grants_.ends(), std::memory_order_release);
  any_writer_.store(grants_.size() != 0 || !acquiring_.empty() || !unclaimed_.empty(), std::memory_order_release);
}

bool PushCoordinator::OthersUnclaimed(SessionId session) const {
  return unclaimed_.size() > (unclaimed_.contains(session) ? 1u : 0u);
}

bool PushCoordinator::HeldByOtherLocked(SessionId session, InodeId inode) const {
  const SessionId holder = grants_.Holder(inode);
  return holder.valid() ? holder != session : OthersUnclaimed(session);
}

void PushCoordinator::EndUnclaimed(SessionId session, Outbox* outbox) {
  if (unclaimed_.erase(session) == 0) return;
  grants_.NoteUnknownEnd(session);
  auto still = std::stable_partition(await_claims_.begin(), await_claims_.end(),
                                     [&](const auto& each) REQUIRES(mutex_) { return OthersUnclaimed(each.first); });
  for (auto done = still; done != await_claims_.end(); ++done) outbox->recalled.push_back(std::move(done->second));
  await_claims_.erase(still, await_claims_.end());
  UpdateWriters();
}

PushCoordinator::Push* PushCoordinator::AddPush(SessionId id, Session* session, proto::Invalidation item,
                                                Outbox* outbox) {
  auto message = std::make_shared<proto::InvalidatePush>();
  message->set_session(id.value());
  message->set_term(term());
  message->set_push(session->next_push++);
  *message->add_items() = std::move(item);
  ++pushes_sent_;
  if (session->peer != nullptr) outbox->pushes.emplace_back(session->peer, message);
  Push& push = session->pushes[message->push()];
  push.message = std::move(message);
  return &push;
}

PushCoordinator::Push* PushCoordinator::AddOrJoinPush(SessionId id, Session* session, proto::Invalidation item,
                                                      Outbox* outbox) {
  if (session->drop_all == 0 && session->pushes.size() >= options_.pushes_per_session_max) {
    DropAll(id, session, outbox);
  }
  if (session->drop_all != 0) return &session->pushes.at(session->drop_all);
  return AddPush(id, session, std::move(item), outbox);
}

void PushCoordinator::AcquireWrite(const WriteRequest& request, Acquired acquired) {
  const SessionId id = request.session;
  const InodeId inode = request.inode;
  Result<bool> at_once = false;
  Outbox outbox;
  {
    MutexLock lock(mutex_);
    Session* session = Find(id);
    const auto other = acquiring_.find(inode);
    if (term() == 0) {
      at_once = Status(StatusCode::kResourceExhausted, "this metadata server begins to lead");
    } else if (session == nullptr) {
      at_once = Status(StatusCode::kInvalidArgument, "a session that does not cache has no write grants");
    } else if (session->unregistered) {
      at_once = Status(StatusCode::kResourceExhausted, "the session has not registered in this term yet");
    } else if (HeldByOtherLocked(id, inode)) {
      at_once = Status(StatusCode::kBusy, "another session writes inode " + std::to_string(inode.value()));
    } else if (grants_.IsRecalled(inode)) {
      // Its own, and that ends: a new one comes after those who wait for the end.
      grants_.Await(inode, BusyOnceOver(std::exchange(acquired, nullptr)));
    } else if (grants_.Holder(inode) == id) {
      at_once = true;
    } else if (other != acquiring_.end() && (request.append || other->second->append || other->second->session == id)) {
      // One after the other.
      if (other->second->session != id) other->second->others = true;
      other->second->waiting.push_back(BusyOnceOver(std::exchange(acquired, nullptr)));
    } else if (other != acquiring_.end()) {
      other->second->others = true;  // both share it
      interests_.Add(id, inode);
    } else {
      session->acquires = true;
      auto acquire = std::make_shared<Acquire>();
      acquire->session = id;
      acquire->inode = inode;
      acquire->append = request.append;
      acquire->acquired = std::exchange(acquired, nullptr);
      StartAcquire(acquire, request.directory, &outbox);
    }
  }
  if (acquired != nullptr) return acquired(std::move(at_once));
  Dispatch(std::move(outbox));
}

// An appender takes the place of those who share the file: what they have under way comes first.
void PushCoordinator::AskOfAcquire(Acquire* acquire, const ChangePtr& change, SessionId id, Session* session,
                                   Outbox* outbox) {
  if (!acquire->asked.insert(id).second) return;
  proto::Invalidation item;
  item.set_inode(acquire->inode.value());
  item.set_report_open(true);
  if (acquire->append) item.set_recall_write(true);
  AddOrJoinPush(id, session, std::move(item), outbox)->changes.push_back(change);
  ++change->pushes;
}

// Everybody who may have it open, or its attributes cached, is asked and told.
void PushCoordinator::StartAcquire(const std::shared_ptr<Acquire>& acquire, InodeId directory, Outbox* outbox) {
  acquiring_[acquire->inode] = acquire;
  std::set<SessionId> asked(dropping_all_);
  for (const InodeId key : {acquire->inode, directory}) {
    const auto watchers = interests_.Watchers(key);
    asked.insert(watchers.begin(), watchers.end());
  }
  asked.erase(acquire->session);
  auto change = std::make_shared<Change>();
  change->acquire = acquire;
  acquire->change = change;
  for (const SessionId other : asked) AskOfAcquire(acquire.get(), change, other, &sessions_.at(other), outbox);
  if (change->pushes == 0) FinishAcquire(acquire, outbox);
  UpdateWriters();
}

void PushCoordinator::FinishAcquire(const std::shared_ptr<Acquire>& acquire, Outbox* outbox) {
  const auto found = acquiring_.find(acquire->inode);
  if (found == acquiring_.end() || found->second != acquire) return;
  acquiring_.erase(found);
  const Session* session = Find(acquire->session);
  const bool registered = session != nullptr && !session->unregistered;
  const bool sole = acquire->append || !acquire->others;
  // It hears of what others do with the inode, an appender who takes its place among that.
  const bool told = registered && interests_.Add(acquire->session, acquire->inode);
  const bool exclusive = told && sole && grants_.Give(acquire->session, acquire->inode);
  outbox->acquired.emplace_back(acquire, exclusive);
  for (WriteGrants::Recalled& waiting : acquire->waiting) outbox->recalled.push_back(std::move(waiting));
  UpdateWriters();
}

// Whoever has read of the new file before this was pushed its name, and the writer's answer waits for that; whoever
// reads of it from now on recalls the grant first.
void PushCoordinator::GrantCreated(SessionId id, InodeId inode) {
  const Session* session = Find(id);
  if (session == nullptr || !session->acquires || session->unregistered) return;
  grants_.Give(id, inode);
  UpdateWriters();
}

bool PushCoordinator::HoldsWrite(SessionId session, InodeId inode) const {
  if (!any_writer_.load(std::memory_order_acquire)) return false;
  MutexLock lock(mutex_);
  return grants_.Holder(inode) == session;
}

bool PushCoordinator::HoldsAnyWrite(SessionId session) const {
  if (!any_writer_.load(std::memory_order_acquire)) return false;
  MutexLock lock(mutex_);
  return grants_.HoldsAny(session);
}

void PushCoordinator::ReleaseWrite(SessionId session, InodeId inode) {
  Outbox outbox;
  {
    MutexLock lock(mutex_);
    EndGrant(session, inode, &outbox);
  }
  Dispatch(std::move(outbox));
}

bool PushCoordinator::HeldByOther(SessionId session, InodeId inode) const {
  if (!any_writer_.load(std::memory_order_acquire)) return false;
  MutexLock lock(mutex_);
  return HeldByOtherLocked(session, inode);
}

bool PushCoordinator::MustRecall(SessionId id, InodeId inode, uint64_t ends) {
  if (!any_writer_.load(std::memory_order_acquire) && grant_ends() == ends) return false;
  Outbox outbox;
  bool held = false;
  {
    MutexLock lock(mutex_);
    held = HeldByOtherLocked(id, inode) || grants_.OthersEndedSince(ends, id, inode);
    const auto found = acquiring_.find(inode);
    if (found != acquiring_.end() && found->second->session != id) {
      Acquire& acquire = *found->second;
      acquire.others = true;
      Session* const session = Find(id);
      const ChangePtr change = acquire.change.lock();
      // It may cache what it reads, and the appender will be alone in any case: it is told like the rest. If it has
      // answered to that already, it reads behind the acquisition.
      held = held || (acquire.append && acquire.answered.contains(id));
      if (acquire.append && session != nullptr && change != nullptr) {
        AskOfAcquire(&acquire, change, id, session, &outbox);
      }
    }
  }
  Dispatch(std::move(outbox));
  return held;
}

std::set<InodeId> PushCoordinator::HeldByOthers(SessionId session, std::span<const InodeId> inodes, uint64_t ends) {
  std::set<InodeId> held;
  if (!any_writer_.load(std::memory_order_acquire) && grant_ends() == ends) return held;
  MutexLock lock(mutex_);
  for (const InodeId inode : inodes) {
    const auto acquiring = acquiring_.find(inode);
    const bool acquired_by_other = acquiring != acquiring_.end() && acquiring->second->session != session;
    if (acquired_by_other || HeldByOtherLocked(session, inode) || grants_.OthersEndedSince(ends, session, inode)) held.insert(inode);
  }
  return held;
}

void PushCoordinator::Recall(SessionId session, InodeId inode, WriteGrants::Recalled recalled) {
  // What is waited for may end in a grant of which nobody was told to let go: a claim, or an acquisition.
  const auto look_again = [this, session, inode, recalled](const Status& status) {
    if (!status.ok()) return recalled(status);
    Recall(session, inode, recalled);
  };
  Outbox outbox;
  bool held = false;
  {
    MutexLock lock(mutex_);
    held = HeldByOtherLocked(session, inode);
    const auto acquiring = acquiring_.find(inode);
    if (!held && acquiring != acquiring_.end() && acquiring->second->append &&
        acquiring->second->answered.contains(session)) {
      held = true;
      acquiring->second->waiting.emplace_back(look_again);
    } else if (held && !grants_.Holder(inode).valid()) {
      await_claims_.emplace_back(session, look_again);
      for (const SessionId other : unclaimed_) {
        // It has lapsed: it will not say anything before it is heard of again, and may be writing.
        if (other != session && !sessions_.at(other).drop_all_is_of_term) keeper_->Expire(other);
      }
    } else if (held && grants_.Await(inode, recalled)) {
      const SessionId holder = grants_.Holder(inode);
      Session& writer = sessions_.at(holder);
      if (writer.unregistered) {
        keeper_->Expire(holder);
      } else {
        proto::Invalidation item;
        item.set_inode(inode.value());
        item.set_recall_write(true);
        AddPush(holder, &writer, std::move(item), &outbox)->recalled.push_back(inode);
      }
    }
  }
  if (!held) return recalled(Status::Ok());
  Dispatch(std::move(outbox));
}

void PushCoordinator::EndGrant(SessionId session, InodeId inode, Outbox* outbox) {
  for (WriteGrants::Recalled& recalled : grants_.End(session, inode)) outbox->recalled.push_back(std::move(recalled));
  UpdateWriters();
}

void PushCoordinator::EndGrants(SessionId session, Outbox* outbox) {
  for (WriteGrants::Recalled& recalled : grants_.EndAll(session)) outbox->recalled.push_back(std::move(recalled));
  UpdateWriters();
}

}  // namespace tarn::meta
