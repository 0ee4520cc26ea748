// Write grants that end because their file is closed, told to the metadata server many at once: one message is under way
// at a time, and whatever ends meanwhile goes into the next.
//
// An inode whose release is under way is not acquired again before that is over: the two could change places. Bounded by
// the files that are closed while one message is answered. Thread-safe.
#pragma once

#include <functional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/base/ids.h"
#include "common/base/mutex.h"

namespace tarn::client {

class WriteReleases {
 public:
  // Calls back when it was answered, or given up.
  using Send = std::function<void(const std::vector<InodeId>& inodes, std::function<void()> done)>;

  explicit WriteReleases(Send send) : send_(std::move(send)) {}
  WriteReleases(const WriteReleases&) = delete;
  WriteReleases& operator=(const WriteReleases&) = delete;

  // Of the next message; SendQueued sends it, unless one is under way.
  void Add(InodeId inode);
  void SendQueued() { SendNext(); }
  // Calls back when no release of the inode is under way; one that was not sent yet is not sent any more.
  void WhenClear(InodeId inode, std::function<void()> clear);

 private:
  void SendNext();
  void OnDone();

  const Send send_;
  Mutex mutex_;
  std::unordered_set<InodeId> queued_ GUARDED_BY(mutex_);
  std::unordered_map<InodeId, std::vector<std::function<void()>>> sent_ GUARDED_BY(mutex_);  // who waits
};

}  // namespace tarn::client
