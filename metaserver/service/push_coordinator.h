// Coherence, the server's half (docs/coherence.md): which session caches what, who must hear of a change, and which
// answers wait until they have.
//
// A read registers an interest before it reads (Watch). On the apply thread every applied entry is turned into at most
// one push per session that it concerns (OnApplied); a mutation's answer is released when those pushes are acknowledged
// or their sessions have lapsed (WhenAcknowledged). Nothing here blocks: what must wait is a callback in a table.
//
// In the leader's memory only. Bounds: interests (InterestTable), pushes per session, inodes with a push account.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/rpc/frame_server.h"
#include "metaserver/service/interest_table.h"
#include "metaserver/service/push_budget.h"
#include "metaserver/service/session_keeper.h"
#include "metaserver/service/write_grants.h"
#include "metaserver/state/changes.h"
#include "proto/coherence.pb.h"
#include "proto/metadata.pb.h"
#include "proto/state.pb.h"

namespace tarn::meta {

struct PushCoordinatorOptions {
  InterestTable::Limits interests;
  PushBudgetOptions budget;
  size_t write_grants_max = size_t{256} << 10;
  size_t pushes_per_session_max = 1024;  // unacknowledged ones; then one that ends all its interests
};

// Thread-safe. Callbacks run without a lock held, on whichever thread made them due.
class PushCoordinator {
 public:
  using PeerPtr = std::shared_ptr<rpc::Peer>;
  using MutationId = std::pair<SessionId, Sequence>;
  // Ok: answer now. kNotLeader: this member does not lead any more.
  using Release = std::function<void(const Status&)>;
  // Proposes SettleOrphan; the callback says whether it was applied.
  using Settle = std::function<void(InodeId, std::vector<SessionId>, std::function<void(const Status&)>)>;

  struct Grant {
    uint64_t term = 0;
    bool granted = false;
    bool shared = false;
  };
  struct Removal {
    bool hold = false;
    // Keep it until the removal is applied or has failed.
    std::shared_ptr<void> pending;
  };
  struct Stats {
    size_t sessions = 0;
    size_t interests = 0;
    size_t unacknowledged_pushes = 0;
    size_t unsettled_orphans = 0;
    uint64_t pushes = 0;
    uint64_t drops = 0;
  };

  // Clock and keeper outlive the coordinator.
  PushCoordinator(const PushCoordinatorOptions& options, Clock* clock, SessionKeeper* keeper);
  PushCoordinator(const PushCoordinator&) = delete;
  PushCoordinator& operator=(const PushCoordinator&) = delete;

  // Before the first entry is applied.
  void SetSettle(Settle settle) { settle_ = std::move(settle); }

  // ---- Apply thread ----
  // `term`: rises with every leadership, whoever leads; not the log's.
  void BeginLeading(uint64_t term, std::span<const proto::SessionRecord> sessions, std::span<const InodeId> orphans);
  void EndLeading();
  // Whether it is worth collecting the changes of the entry that comes next.
  bool WantsChanges() const { return wants_changes_.load(std::memory_order_acquire); }
  // One reply and one set of changes per command; `changes` may be empty if they were not wanted.
  void OnApplied(const proto::LogEntry& entry, std::span<const proto::MutationReply> replies,
                 std::span<const ChangeSet> changes);
  // After OnApplied: calls back once every push that these mutations wait for is settled; at once if there is none.
  void WhenAcknowledged(std::span<const MutationId> mutations, Release release);
  // False: WhenAcknowledged would call back at once.
  bool AnythingWaits() const { return changes_waiting_.load(std::memory_order_acquire) != 0; }

  // ---- Any thread ----
  // A request of the session came over this connection: pushes go there from now on, unacknowledged ones once more.
  void Attach(SessionId session, const PeerPtr& peer);
  // What the session reads of the inode from now on may be cached, if granted. `names`: of a directory, its names too.
  // `directory`: where the inode's name lies, if it is known.
  Grant Watch(SessionId session, InodeId inode, bool names, InodeId directory = InodeId());
  void Acknowledge(const proto::AckPushRequest& request);
  void Forget(const proto::ForgetRequest& request);
  // `lapses` as the keeper counts them now. Registers the session if it has to and the request does.
  void KeepAlive(const proto::KeepAliveRequest& request, uint64_t lapses);
  uint64_t term() const { return term_.load(std::memory_order_acquire); }
  // A mutation is about to take a name away; `child` invalid: not known.
  Removal PrepareRemoval(SessionId session, InodeId directory, InodeId child);
  bool HasOtherSessions(SessionId session) const;

  // ---- Write grants (any thread) ----
  // Calls back with whether the session is the only one that has the inode open, and so holds its grant. kBusy: another
  // session holds it, or is about to: recall first, then ask again. kResourceExhausted: the session has not registered
  // yet. kInvalidArgument: it does not cache. kNotLeader.
  using Acquired = std::function<void(Result<bool> exclusive)>;
  struct WriteRequest {
    SessionId session;
    InodeId inode;
    InodeId directory;    // what covers the inode, if that is known
    bool append = false;  // exclusive even if others have it open
  };
  void AcquireWrite(const WriteRequest& request, Acquired acquired);
  void ReleaseWrite(SessionId session, InodeId inode);
  // To be taken before something is read, for the two below: what others hold when it has been read is not all that
  // counts, for a grant can end in between, and with it come the writes that were buffered under it.
  uint64_t grant_ends() const { return grant_ends_.load(std::memory_order_acquire); }
  // Of a session that has just read of the inode, which is a regular file: whether that may be behind what another session has buffered, or had
  // since `ends`: recall first. An acquisition by another session that is under way takes account of the reader.
  bool MustRecall(SessionId session, InodeId inode, uint64_t ends);
  bool HeldByOther(SessionId session, InodeId inode) const;
  bool AnyWriter() const { return any_writer_.load(std::memory_order_acquire); }
  // At once if nobody else holds it. As long as another session may hold it from before this leader (see unclaimed_), or
  // an appender is about to: first when that is decided, and then as if it were asked anew.
  void Recall(SessionId session, InodeId inode, WriteGrants::Recalled recalled);
  bool HoldsWrite(SessionId session, InodeId inode) const;
  bool HoldsAnyWrite(SessionId session) const;
  // Of those inodes, the ones that others hold, or have held since `ends`.
  std::set<InodeId> HeldByOthers(SessionId session, std::span<const InodeId> inodes, uint64_t ends);

  // Now and then: lapsed sessions, orphans whose settling failed.
  void Tick();
  Stats stats() const;

 private:
  struct Waiter {
    size_t changes = 0;  // that it waits for
    Release release;
  };
  struct Change;
  using ChangePtr = std::shared_ptr<Change>;
  struct Acquire {
    SessionId session;
    InodeId inode;
    bool append = false;
    bool others = false;  // have it open, or have read it meanwhile
    Acquired acquired;
    std::vector<WriteGrants::Recalled> waiting;  // for its end, to look again
    std::set<SessionId> asked;
    std::set<SessionId> answered;  // of these: what they read from now on they would not be told of again
    std::weak_ptr<Change> change;  // that waits for their acknowledgements
  };
  // A mutation that was applied, or an acquisition, that waits for acknowledgements.
  struct Change {
    MutationId id;
    size_t pushes = 0;
    std::vector<std::shared_ptr<Waiter>> waiters;
    std::shared_ptr<Acquire> acquire;
  };
  struct Push {
    std::shared_ptr<const proto::InvalidatePush> message;
    std::vector<ChangePtr> changes;
    std::vector<InodeId> tentative;  // interests that end with it unless the inode is open
    std::vector<InodeId> ended;      // interests that end with it
    std::vector<InodeId> orphans;    // whose holders it asks for
    std::vector<InodeId> recalled;   // write grants that end with it
  };
  struct Session {
    PeerPtr peer;
    uint64_t next_push = 1;
    std::map<uint64_t, Push> pushes;
    uint64_t drop_all = 0;                           // the push that ends every interest, while it is unacknowledged
    std::unordered_map<InodeId, uint64_t> dropping;  // likewise, of single inodes
    // Of an earlier term, or lapsed: it has not said yet what it has open.
    bool unregistered = false;
    bool drop_all_is_of_term = false;
    bool acquires = false;  // it has asked for a write grant before
  };
  struct Orphan {
    std::set<SessionId> awaited;
    std::vector<SessionId> holders;
    bool settling = false;
  };
  // What is done once the lock is free.
  struct Outbox {
    std::vector<std::pair<PeerPtr, std::shared_ptr<const proto::InvalidatePush>>> pushes;
    std::vector<std::shared_ptr<Waiter>> released;
    std::vector<std::pair<InodeId, std::vector<SessionId>>> settled;
    std::vector<std::pair<std::shared_ptr<Acquire>, bool>> acquired;
    std::vector<WriteGrants::Recalled> recalled;
  };
  // One entry's pushes while they are being put together.
  struct Draft {
    uint64_t id = 0;
    std::shared_ptr<proto::InvalidatePush> message;
    Push push;
  };
  struct Entry {
    std::unordered_map<SessionId, Draft> drafts;
    std::unordered_set<InodeId> charged;  // a push costs once, however much it says
    int64_t now_ns = 0;
  };
  // The command whose changes are being addressed.
  struct Command {
    SessionId session;
    bool data = false;
    bool keeps_removed = false;  // the session has the file open that it removes, or may have
    Sequence sequence;
    ChangePtr change;  // null: it waits for nothing so far
    const ChangeSet* changes = nullptr;
  };

  void NoteSessions(const proto::Mutation& mutation, const proto::MutationReply& reply, Outbox* outbox)
      REQUIRES(mutex_);
  void AddressCommand(const proto::LogCommand& command, const ChangeSet& changes, Entry* entry, Outbox* outbox)
      REQUIRES(mutex_);
  void AwaitDropAlls(Command* command) REQUIRES(mutex_);
  void AddressName(Command* command, const ChangedName& name, Entry* entry) REQUIRES(mutex_);
  void AddressInode(Command* command, const ChangedInode& inode, Entry* entry) REQUIRES(mutex_);
  void AddressOrphan(const Command& command, InodeId inode, Outbox* outbox) REQUIRES(mutex_);
  // Who makes the change hears nothing of it, and loses what covered the inode like everybody else.
  void CoverOwn(const Command& command, const ChangedInode& inode) REQUIRES(mutex_);
  // The draft that tells the session of a change of `key`; null: a push that is on its way says enough.
  Draft* DraftFor(Command* command, SessionId session, InodeId key, Entry* entry) REQUIRES(mutex_);
  proto::Invalidation* ItemFor(const ChangedInode& inode, Draft* draft) REQUIRES(mutex_);
  // True: the watchers of `key` were told to forget it.
  bool DropIfTooBusy(Command* command, InodeId key, bool is_directory, Entry* entry) REQUIRES(mutex_);
  void SendDrafts(Entry* entry, Outbox* outbox) REQUIRES(mutex_);
  void DropAll(SessionId id, Session* session, Outbox* outbox) REQUIRES(mutex_);
  static void Await(Command* command, Push* push);

  void CompletePush(SessionId id, Session* session, std::map<uint64_t, Push>::iterator push,
                    const std::set<uint64_t>& open, Outbox* outbox) REQUIRES(mutex_);
  void ReleaseChanges(const std::vector<ChangePtr>& changes, Outbox* outbox) REQUIRES(mutex_);
  void Lapse(SessionId id, Session* session, Outbox* outbox) REQUIRES(mutex_);
  // `written`: what it has to publish yet of what it held before the lapse, or before this leader.
  void Register(SessionId id, Session* session, const std::set<uint64_t>& open, const std::set<uint64_t>& written,
                Outbox* outbox) REQUIRES(mutex_);
  void RemoveSession(SessionId id, Outbox* outbox) REQUIRES(mutex_);
  void ResolveOrphan(InodeId inode, SessionId session, bool open, Outbox* outbox) REQUIRES(mutex_);
  void ResolveOrphans(SessionId session, const std::set<uint64_t>& open, Outbox* outbox) REQUIRES(mutex_);
  Session* Find(SessionId session) REQUIRES(mutex_);
  bool OthersRemoveFrom(InodeId directory, SessionId session) const REQUIRES(mutex_);
  // The session says that it needs it no more.
  void EndInterest(SessionId session, InodeId inode) REQUIRES(mutex_);
  void UpdateWants() REQUIRES(mutex_);
  // A push of its own, outside any log entry.
  Push* AddPush(SessionId id, Session* session, proto::Invalidation item, Outbox* outbox) REQUIRES(mutex_);
  // As AddPush, unless the session is about to forget everything anyway, or leaves too much unacknowledged: then that.
  Push* AddOrJoinPush(SessionId id, Session* session, proto::Invalidation item, Outbox* outbox) REQUIRES(mutex_);
  void StartAcquire(const std::shared_ptr<Acquire>& acquire, InodeId directory, Outbox* outbox) REQUIRES(mutex_);
  void AskOfAcquire(Acquire* acquire, const ChangePtr& change, SessionId id, Session* session, Outbox* outbox)
      REQUIRES(mutex_);
  void FinishAcquire(const std::shared_ptr<Acquire>& acquire, Outbox* outbox) REQUIRES(mutex_);
  // What a session creates it alone writes from the start, if it uses write grants at all.
  void GrantCreated(SessionId session, InodeId inode) REQUIRES(mutex_);
  void EndGrant(SessionId session, InodeId inode, Outbox* outbox) REQUIRES(mutex_);
  void EndGrants(SessionId session, Outbox* outbox) REQUIRES(mutex_);
  // Another session than this one may hold write grants that this leader does not know.
  bool OthersUnclaimed(SessionId session) const REQUIRES(mutex_);
  bool HeldByOtherLocked(SessionId session, InodeId inode) const REQUIRES(mutex_);
  // The session has said what it holds, or holds nothing any more.
  void EndUnclaimed(SessionId session, Outbox* outbox) REQUIRES(mutex_);
  void UpdateWriters() REQUIRES(mutex_);
  void Dispatch(Outbox outbox);

  const PushCoordinatorOptions options_;
  Clock* const clock_;
  SessionKeeper* const keeper_;
  Settle settle_;  // immutable once entries are applied

  std::atomic<bool> wants_changes_{false};
  std::atomic<uint64_t> term_{0};  // 0: does not lead
  std::atomic<size_t> changes_waiting_{0};
  std::atomic<uint64_t> grant_ends_{0};  // grants_.ends(), for who has no lock
  std::atomic<bool> any_writer_{false};  // grants_, acquiring_ or unclaimed_ have something

  mutable Mutex mutex_;
  InterestTable interests_ GUARDED_BY(mutex_);
  PushBudget budget_ GUARDED_BY(mutex_);
  std::unordered_map<SessionId, Session> sessions_ GUARDED_BY(mutex_);  // those that cache
  std::set<SessionId> dropping_all_ GUARDED_BY(mutex_);                 // those with Session::drop_all
  std::map<MutationId, ChangePtr> changes_ GUARDED_BY(mutex_);
  std::unordered_map<InodeId, Orphan> orphans_ GUARDED_BY(mutex_);
  // Not held ones, by directory and by who removes.
  std::unordered_map<InodeId, std::map<SessionId, size_t>> pending_removals_ GUARDED_BY(mutex_);
  std::set<SessionId> unregistered_ GUARDED_BY(mutex_);  // those with Session::unregistered
  int64_t swept_ns_ GUARDED_BY(mutex_) = 0;
  WriteGrants grants_ GUARDED_BY(mutex_);
  std::unordered_map<InodeId, std::shared_ptr<Acquire>> acquiring_ GUARDED_BY(mutex_);
  // Sessions to which earlier leaders may have given write grants, of any inode: they have not yet said of which.
  std::set<SessionId> unclaimed_ GUARDED_BY(mutex_);
  // Who waits for the others of these.
  std::vector<std::pair<SessionId, WriteGrants::Recalled>> await_claims_ GUARDED_BY(mutex_);
  uint64_t pushes_sent_ GUARDED_BY(mutex_) = 0;
  uint64_t drops_ GUARDED_BY(mutex_) = 0;
};

}  // namespace tarn::meta
