// Which session has what cached: pairs of (session, inode), found from either side, in bounded memory.
//
// What an interest covers is said in docs/coherence.md. Kept by PushCoordinator under its lock; one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "common/base/ids.h"

namespace tarn::meta {

class InterestTable {
 public:
  struct Limits {
    size_t total_max = size_t{1} << 20;
    size_t per_session_max = size_t{256} << 10;
  };

  explicit InterestTable(const Limits& limits) : limits_(limits) {}
  InterestTable(const InterestTable&) = delete;
  InterestTable& operator=(const InterestTable&) = delete;

  // False: there is no room. A tentative interest becomes a firm one.
  bool Add(SessionId session, InodeId inode);
  // One that ends with RemoveTentative unless it is added meanwhile. False: no room, or it is there already.
  bool AddTentative(SessionId session, InodeId inode);
  void RemoveTentative(SessionId session, InodeId inode);
  void Remove(SessionId session, InodeId inode);
  void RemoveSession(SessionId session);
  void Clear();

  bool Has(SessionId session, InodeId inode) const;
  // Valid until the table changes. In no particular order.
  std::span<const SessionId> Watchers(InodeId inode) const;
  bool OthersWatch(InodeId inode, SessionId session) const;

  // The one session that was told that nobody else uses the directory; invalid: none.
  SessionId SoleUser(InodeId inode) const;
  void SetSoleUser(InodeId inode, SessionId session);

  size_t size() const { return size_; }
  size_t size_of(SessionId session) const;

 private:
  struct Watched {
    std::vector<SessionId> sessions;
    SessionId sole_user;
  };
  using InodesOfSession = std::unordered_map<InodeId, bool>;  // -> tentative

  bool Insert(SessionId session, InodeId inode, bool tentative);
  void RemoveWatcher(SessionId session, InodeId inode);

  const Limits limits_;
  std::unordered_map<InodeId, Watched> watched_;
  std::unordered_map<SessionId, InodesOfSession> sessions_;
  size_t size_ = 0;
};

}  // namespace tarn::meta
