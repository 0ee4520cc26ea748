// Which session is the only writer of an inode, and who waits for it to stop (docs/coherence.md, "Write grants").
//
// Kept by PushCoordinator under its lock; one thread at a time. Bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <unordered_map>
#include <vector>

#include "common/base/ids.h"
#include "common/base/status.h"

namespace tarn::meta {

class WriteGrants {
 public:
  // Ok: nobody else holds the inode any more.
  using Recalled = std::function<void(const Status&)>;

  explicit WriteGrants(size_t grants_max) : grants_max_(grants_max) {}

  // Invalid: nobody.
  SessionId Holder(InodeId inode) const;
  bool HoldsAny(SessionId session) const { return inodes_of_.contains(session); }
  bool HeldByOther(SessionId session, InodeId inode) const;
  // False: there is no room. Nobody else holds it.
  bool Give(SessionId session, InodeId inode);
  // Who waited for the end of the session's grant; nobody if it has none.
  std::vector<Recalled> End(SessionId session, InodeId inode);
  std::vector<Recalled> EndAll(SessionId session);
  std::vector<InodeId> InodesOf(SessionId session) const;
  // Waits for the end of the grant that somebody holds. True: it is the first to, so the holder is to be told.
  bool Await(InodeId inode, Recalled recalled);
  // Somebody waits for the end of one of the session's grants, or of the inode's.
  bool IsRecalled(SessionId session) const;
  bool IsRecalled(InodeId inode) const;
  std::vector<Recalled> Clear();
  // How many have ended so far. Who reads something takes it before, and asks afterwards whose have ended since: what such
  // a holder had buffered and has published in between is perhaps not in what was read.
  uint64_t ends() const { return ends_; }
  // Whether one of another session has ended since there were so many, or may have: only the last ones are remembered.
  bool OthersEndedSince(uint64_t ends, SessionId session, InodeId inode) const;
  // Whatever the session may have held from before this leader.
  void NoteUnknownEnd(SessionId session) { NoteEnd(session, InodeId()); }
  size_t size() const { return grants_.size(); }

 private:
  struct Grant {
    SessionId holder;
    std::vector<Recalled> waiting;
  };

  static constexpr size_t kEndsRemembered = 4096;
  struct Ended {
    SessionId holder;
    InodeId inode;  // invalid: any
  };

  void NoteEnd(SessionId holder, InodeId inode);

  const size_t grants_max_;
  std::unordered_map<InodeId, Grant> grants_;
  std::unordered_map<SessionId, std::set<InodeId>> inodes_of_;
  uint64_t ends_ = 0;
  std::vector<Ended> ended_;  // the one with number n at n % kEndsRemembered
};

}  // namespace tarn::meta
