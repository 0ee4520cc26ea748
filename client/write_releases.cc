#include "client/write_releases.h"

#include <utility>

namespace tarn::client {
namespace {

constexpr size_t kInodesPerMessageMax = 1024;

}  // namespace

void WriteReleases::Add(InodeId inode) {
  MutexLock lock(mutex_);
  queued_.insert(inode);
}

void WriteReleases::SendNext() {
  std::vector<InodeId> inodes;
  {
    MutexLock lock(mutex_);
    if (!sent_.empty()) return;
    while (!queued_.empty() && inodes.size() < kInodesPerMessageMax) {
      inodes.push_back(*queued_.begin());
      sent_[inodes.back()];
      queued_.erase(queued_.begin());
    }
  }
  if (!inodes.empty()) send_(inodes, [this] { OnDone(); });
}

void WriteReleases::OnDone() {
  std::unordered_map<InodeId, std::vector<std::function<void()>>> done;
  {
    MutexLock lock(mutex_);
    done = std::exchange(sent_, {});
  }
  for (const auto& [inode, waiting] : done) {
    for (const auto& clear : waiting) clear();
  }
  SendNext();
}

void WriteReleases::WhenClear(InodeId inode, std::function<void()> clear) {
  {
    MutexLock lock(mutex_);
    queued_.erase(inode);
    if (const auto found = sent_.find(inode); found != sent_.end()) {
      found->second.push_back(std::move(clear));
      return;
    }
  }
  clear();
}

}  // namespace tarn::client
