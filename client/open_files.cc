#include "client/open_files.h"

#include <utility>

#include "common/base/check.h"

namespace tarn::client {

void OpenFiles::BeginOpening() {
  MutexLock lock(mutex_);
  ++opening_;
}

void OpenFiles::EndOpening() {
  MutexLock lock(mutex_);
  CHECK(opening_ > 0, "an opening ends once");
  --opening_;
}

bool OpenFiles::any_open() const {
  MutexLock lock(mutex_);
  return opening_ > 0 || !inodes_.empty();
}

size_t OpenFiles::count() const {
  MutexLock lock(mutex_);
  return inodes_.size();
}

OpenInodePtr OpenFiles::Use(const Attributes& attributes) {
  OpenInodePtr existing = UseIfOpen(attributes.inode);
  if (existing == nullptr) {
    // Made without the lock; if another thread was quicker, its entry is taken and this one dropped unused.
    auto made = std::make_shared<OpenInode>(attributes, data_plane_->Attach(attributes));
    MutexLock lock(mutex_);
    auto [entry, inserted] = inodes_.try_emplace(attributes.inode, std::move(made));
    ++entry->second->uses;
    if (inserted) return entry->second;
    existing = entry->second;
  }
  (void)Show(attributes);
  return existing;
}

OpenInodePtr OpenFiles::UseIfOpen(InodeId inode) {
  MutexLock lock(mutex_);
  auto found = inodes_.find(inode);
  if (found == inodes_.end()) return nullptr;
  ++found->second->uses;
  return found->second;
}

OpenFiles::AfterRelease OpenFiles::Release(const OpenInodePtr& open) {
  {
    MutexLock lock(mutex_);
    CHECK(open->uses > 0, "a use is released once");
    if (--open->uses > 0 || open->closing) return AfterRelease::kNothing;
    open->closing = true;
  }
  if (open->data->dirty()) return AfterRelease::kFlush;
  return FinishClose(open);
}

OpenFiles::AfterRelease OpenFiles::FinishClose(const OpenInodePtr& open) {
  MutexLock lock(mutex_);
  CHECK(open->closing, "only a closing entry ends");
  open->closing = false;
  if (open->uses > 0) return AfterRelease::kNothing;  // opened again meanwhile
  inodes_.erase(open->id);
  return open->orphan ? AfterRelease::kReleaseOrphan : AfterRelease::kNothing;
}

bool OpenFiles::MarkOrphan(InodeId inode) {
  MutexLock lock(mutex_);
  auto found = inodes_.find(inode);
  if (found == inodes_.end()) return false;
  found->second->orphan = true;
  return true;
}

Attributes OpenFiles::Show(const Attributes& fresh) {
  OpenInodePtr open;
  Attributes shown = fresh;
  bool news = false;
  {
    MutexLock lock(mutex_);
    auto found = inodes_.find(fresh.inode);
    if (found == inodes_.end()) return shown;
    open = found->second;
    news = fresh.change > open->newest.change;
    if (news) {
      open->newest = fresh;
    } else {
      shown = open->newest;
    }
  }
  if (news) open->data->Adopt(fresh);
  return open->data->Overlay(std::move(shown));
}

void OpenFiles::Remember(const Attributes& fresh) {
  MutexLock lock(mutex_);
  auto found = inodes_.find(fresh.inode);
  if (found != inodes_.end() && fresh.change > found->second->newest.change) found->second->newest = fresh;
}

}  // namespace tarn::client
