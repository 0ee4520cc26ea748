#include "metaserver/service/write_grants.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace tarn::meta {

SessionId WriteGrants::Holder(InodeId inode) const {
  const auto found = grants_.find(inode);
  return found != grants_.end() ? found->second.holder : SessionId();
}

bool WriteGrants::HeldByOther(SessionId session, InodeId inode) const {
  const SessionId holder = Holder(inode);
  return holder.valid() && holder != session;
}

bool WriteGrants::Give(SessionId session, InodeId inode) {
  if (Holder(inode) == session) return true;
  if (grants_.size() >= grants_max_) return false;
  grants_[inode].holder = session;
  inodes_of_[session].insert(inode);
  return true;
}

std::vector<WriteGrants::Recalled> WriteGrants::End(SessionId session, InodeId inode) {
  const auto found = grants_.find(inode);
  if (found == grants_.end() || found->second.holder != session) return {};
  std::vector<Recalled> waiting = std::move(found->second.waiting);
  grants_.erase(found);
  const auto inodes = inodes_of_.find(session);
  inodes->second.erase(inode);
  if (inodes->second.empty()) inodes_of_.erase(inodes);
  NoteEnd(session, inode);
  return waiting;
}

void WriteGrants::NoteEnd(SessionId holder, InodeId inode) {
  if (ended_.empty()) ended_.resize(kEndsRemembered);
  ended_[ends_++ % kEndsRemembered] = {holder, inode};
}

bool WriteGrants::OthersEndedSince(uint64_t ends, SessionId session, InodeId inode) const {
  if (ends_ - ends > kEndsRemembered) return true;
  for (; ends < ends_; ++ends) {
    const Ended& ended = ended_[ends % kEndsRemembered];
    if (ended.holder != session && (ended.inode == inode || !ended.inode.valid())) return true;
  }
  return false;
}

std::vector<InodeId> WriteGrants::InodesOf(SessionId session) const {
  const auto inodes = inodes_of_.find(session);
  if (inodes == inodes_of_.end()) return {};
  return {inodes->second.begin(), inodes->second.end()};
}

std::vector<WriteGrants::Recalled> WriteGrants::EndAll(SessionId session) {
  std::vector<Recalled> waiting;
  for (auto inodes = inodes_of_.find(session); inodes != inodes_of_.end(); inodes = inodes_of_.find(session)) {
    std::vector<Recalled> of_one = End(session, *inodes->second.begin());
    std::ranges::move(of_one, std::back_inserter(waiting));
  }
  return waiting;
}

bool WriteGrants::Await(InodeId inode, Recalled recalled) {
  Grant& grant = grants_.at(inode);
  grant.waiting.push_back(std::move(recalled));
  return grant.waiting.size() == 1;
}

bool WriteGrants::IsRecalled(SessionId session) const {
  const auto inodes = inodes_of_.find(session);
  if (inodes == inodes_of_.end()) return false;
  return std::ranges::any_of(inodes->second, [&](InodeId inode) { return !grants_.at(inode).waiting.empty(); });
}

bool WriteGrants::IsRecalled(InodeId inode) const {
  const auto found = grants_.find(inode);
  return found != grants_.end() && !found->second.waiting.empty();
}

std::vector<WriteGrants::Recalled> WriteGrants::Clear() {
  std::vector<Recalled> waiting;
  for (auto& [inode, grant] : grants_) std::ranges::move(grant.waiting, std::back_inserter(waiting));
  grants_.clear();
  inodes_of_.clear();
  return waiting;
}

}  // namespace tarn::meta
