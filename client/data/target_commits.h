// Brings acknowledged writes to stable storage: at most one commit per target at a time, shared by all inodes that wait
// for it.
//
// Acknowledgements are stamped when they arrive; a commit covers those stamped before it was sent, of the groups that
// it was sent for, if the target is still their primary and has the incarnation that gave them. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "client/data/chunk_client.h"
#include "common/base/ids.h"
#include "common/base/mutex.h"
#include "common/base/status.h"

namespace tarn::client {

class CommitListener {
 public:
  virtual ~CommitListener() = default;
  // Of the groups covered: what `target` acknowledged up to `stamp` under this incarnation is on stable storage; what
  // another incarnation acknowledged is not. Of the groups moved: what it acknowledged counts for nothing. An error:
  // nothing is known, and the retries are over. A listener that has more to wait for adds itself again.
  virtual void OnTargetCommitted(TargetId target, uint64_t stamp, const Result<CommitOutcome>& outcome) = 0;
};

class TargetCommits : public std::enable_shared_from_this<TargetCommits> {
 public:
  // `chunks` outlives it.
  explicit TargetCommits(ChunkClient* chunks) : chunks_(chunks) {}
  TargetCommits(const TargetCommits&) = delete;
  TargetCommits& operator=(const TargetCommits&) = delete;

  // For an acknowledgement that has just arrived.
  uint64_t NextStamp() { return last_stamp_.fetch_add(1) + 1; }
  // The listener holds data of this group that this target, its primary, has acknowledged and not made stable: it hears
  // of the next commit, which asks for that group as well.
  void Add(TargetId target, GroupId group, const std::shared_ptr<CommitListener>& listener);
  // Commits what was acknowledged so far. If a commit is under way, another one follows it.
  void Request(TargetId target);
  // All targets that have listeners.
  void RequestAll();
  // Lets go of the listeners; nothing is begun any more.
  void Close();

 private:
  struct Target {
    bool under_way = false;
    bool again = false;
    std::unordered_set<std::shared_ptr<CommitListener>> listeners;
    std::unordered_set<GroupId> groups;
  };

  void Begin(TargetId target);
  void OnCommitted(TargetId target, uint64_t stamp, const Result<CommitOutcome>& outcome);

  ChunkClient* const chunks_;
  std::atomic<uint64_t> last_stamp_{0};

  Mutex mutex_;
  std::unordered_map<TargetId, Target> targets_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;
};

}  // namespace tarn::client
