#include "client/open_files.h"

#include <utility>

#include "common/base/check.h"

namespace tarn::client {

void OpenFiles::BeginOpening(InodeId inode) {
  MutexLock lock(mutex_);
  ++opening_;
  if (inode.valid()) {
    ++opening_inodes_[inode];
  } else {
    ++opening_unknown_;
  }
}

std::vector<InodeId> OpenFiles::EndOpening(InodeId inode) {
  MutexLock lock(mutex_);
  CHECK(opening_ > 0, "an opening ends once");
  --opening_;
  if (!inode.valid()) {
    --opening_unknown_;
  } else if (--opening_inodes_[inode] == 0) {
    opening_inodes_.erase(inode);
  }
  std::vector<InodeId> not_open;
  if (opening_ == 0) {
    changed_opening_.clear();
    recalled_opening_.clear();
    all_changed_opening_ = false;
  }
  if (opening_ > 0 || reported_.empty()) return not_open;
  not_open.assign(reported_.begin(), reported_.end());
  reported_.clear();
  return not_open;
}

bool OpenFiles::MayBeOpen(InodeId inode) const {
  MutexLock lock(mutex_);
  return opening_unknown_ > 0 || opening_inodes_.contains(inode) || inodes_.contains(inode);
}

bool OpenFiles::BeginRemoval() {
  MutexLock lock(mutex_);
  if (opening_ > 0 || !inodes_.empty()) return true;
  ++unheld_removals_;
  return false;
}

void OpenFiles::EndRemoval(bool held) {
  std::vector<std::function<void()>> ready;
  {
    MutexLock lock(mutex_);
    if (held || --unheld_removals_ > 0) return;
    ready = std::exchange(await_removals_, {});
  }
  for (const auto& each : ready) each();
}

void OpenFiles::WhenRemoved(std::function<void()> ready) {
  {
    MutexLock lock(mutex_);
    if (unheld_removals_ > 0) {
      await_removals_.push_back(std::move(ready));
      return;
    }
  }
  ready();
}

size_t OpenFiles::count() const {
  MutexLock lock(mutex_);
  return inodes_.size();
}

OpenInodePtr OpenFiles::Use(const Attributes& attributes, bool granted) {
  OpenInodePtr existing = UseIfOpen(attributes.inode);
  if (existing == nullptr) {
    // Made without the lock; if another thread was quicker, its entry is taken and this one dropped unused.
    const InodeId inode = attributes.inode;
    auto data = data_plane_->Attach(attributes);
    MutexLock lock(mutex_);
    const bool kept = granted && !all_changed_opening_ && !recalled_opening_.contains(inode);
    auto made = std::make_shared<OpenInode>(attributes, std::move(data),
                                            make_grant_ != nullptr ? make_grant_(inode, kept) : nullptr);
    if (attributes.size_bytes == 0) made->changes_stable = 0;  // others can only have begun since
    if (all_changed_opening_ || changed_opening_.contains(inode)) made->foreign_changes = 1;
    auto [entry, inserted] = inodes_.try_emplace(attributes.inode, std::move(made));
    ++entry->second->uses;
    if (reported_.erase(attributes.inode) > 0) entry->second->orphan = true;
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

void OpenFiles::NoteClosing(const OpenInodePtr& open) {
  MutexLock lock(mutex_);
  if (open->grant != nullptr && open->uses == 1) open->grant->NoteClosing();
}

std::shared_ptr<WriteGrant> OpenFiles::BeginRelease(InodeId inode) {
  MutexLock lock(mutex_);
  const auto found = inodes_.find(inode);
  if (found == inodes_.end() || found->second->grant == nullptr) return nullptr;
  return found->second->grant->BeginRelease() ? found->second->grant : nullptr;
}

bool OpenFiles::IsKept(InodeId inode) const {
  MutexLock lock(mutex_);
  return inodes_.contains(inode) || reported_.contains(inode);
}

uint64_t OpenFiles::ExclusiveTerm(InodeId inode) const {
  MutexLock lock(mutex_);
  const auto found = inodes_.find(inode);
  return found == inodes_.end() || found->second->grant == nullptr ? 0 : found->second->grant->exclusive_term();
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
  bool releases_orphan = false;
  {
    MutexLock lock(mutex_);
    CHECK(open->closing, "only a closing entry ends");
    open->closing = false;
    if (open->uses > 0) return AfterRelease::kNothing;  // opened again meanwhile
    inodes_.erase(open->id);
    releases_orphan = open->orphan;
    // An opening may need it still: else its end releases it.
    if (releases_orphan && (opening_unknown_ > 0 || opening_inodes_.contains(open->id))) {
      reported_.insert(open->id);
      releases_orphan = false;
    }
    // Under the lock, so that who opens it again asks for a grant behind this.
    if (open->grant != nullptr && open->grant->Release()) releases_->Add(open->id);
  }
  if (releases_ != nullptr) releases_->SendQueued();
  return releases_orphan ? AfterRelease::kReleaseOrphan : AfterRelease::kNothing;
}

bool OpenFiles::MarkOrphan(InodeId inode) {
  MutexLock lock(mutex_);
  return ReportLocked(inode, /*removed=*/true);
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

// ---- For the coherence protocol ----

std::vector<InodeId> OpenFiles::AllOpen(bool reports) {
  MutexLock lock(mutex_);
  std::vector<InodeId> open;
  open.reserve(inodes_.size() + opening_inodes_.size());
  for (const auto& [inode, entry] : inodes_) open.push_back(inode);
  AddOpening(reports, &open);
  return open;
}

std::vector<InodeId> OpenFiles::OpenBelow(InodeId directory, bool reports) {
  MutexLock lock(mutex_);
  std::vector<InodeId> open;
  for (const auto& [inode, entry] : inodes_) {
    if (entry->newest.parent == directory || !entry->newest.parent.valid()) open.push_back(inode);
  }
  AddOpening(reports, &open);
  return open;
}

// Which of them have lost their last name this client is not told.
void OpenFiles::AddOpening(bool reports, std::vector<InodeId>* open) {
  for (const InodeId inode : *open) inodes_.at(inode)->orphan |= reports;
  for (const auto& [inode, count] : opening_inodes_) {
    if (inodes_.contains(inode)) continue;
    open->push_back(inode);
    if (reports) reported_.insert(inode);
  }
  // Said to be open before, perhaps to an earlier leader, for the sake of an opening that does not know its inode yet.
  for (const InodeId inode : reported_) {
    if (!inodes_.contains(inode) && !opening_inodes_.contains(inode)) open->push_back(inode);
  }
}

bool OpenFiles::ReportIfOpen(InodeId inode, bool removed) {
  MutexLock lock(mutex_);
  return ReportLocked(inode, removed);
}

bool OpenFiles::ReportLocked(InodeId inode, bool removed) {
  if (const auto found = inodes_.find(inode); found != inodes_.end()) {
    if (removed) found->second->orphan = true;
    return true;
  }
  if (opening_unknown_ == 0 && !opening_inodes_.contains(inode)) return false;
  if (removed) reported_.insert(inode);
  return true;
}

void OpenFiles::NoteChanged(InodeId inode) {
  MutexLock lock(mutex_);
  const auto found = inodes_.find(inode);
  if (found != inodes_.end()) {
    found->second->foreign_changes.fetch_add(1);
  } else {
    NoteWhileOpening(inode, &changed_opening_);
  }
}

void OpenFiles::NoteWhileOpening(InodeId inode, std::unordered_set<InodeId>* noted) {
  if (opening_unknown_ > 0 || opening_inodes_.contains(inode)) noted->insert(inode);
}

void OpenFiles::NoteAllChanged() {
  MutexLock lock(mutex_);
  for (const auto& [inode, entry] : inodes_) entry->foreign_changes.fetch_add(1);
  if (opening_ > 0) all_changed_opening_ = true;
}

void OpenFiles::EndWriteGrants(bool session_lost) {
  std::vector<OpenInodePtr> buffered;
  {
    MutexLock lock(mutex_);
    for (const auto& [inode, entry] : inodes_) {
      if (entry->grant == nullptr) continue;
      const bool exclusive = entry->grant->Void();
      // Of a lost session whatever is left counts, also if its grant was recalled before that was known.
      if (exclusive || session_lost) buffered.push_back(entry);
    }
  }
  for (const OpenInodePtr& open : buffered) {
    if (session_lost) {
      open->data->Abandon(Status(StatusCode::kIoError, "the client's session expired before this was published"));
    } else {
      // Writes that have begun are buffered yet.
      open->grant->WhenIdle([open] { open->data->FlushFor(open->data->NewErrorCursor(), [open](const Status&) {}); });
    }
  }
}

void OpenFiles::FlushForRecall(InodeId inode, bool for_appender, std::function<void()> done) {
  OpenInodePtr open;
  {
    MutexLock lock(mutex_);
    if (const auto found = inodes_.find(inode); found != inodes_.end()) open = found->second;
    if (open == nullptr) NoteWhileOpening(inode, &recalled_opening_);
  }
  if (open == nullptr) return done();
  const auto flush = [open, done = std::move(done)] {
    // For a cursor of its own, so that whoever has the file open still hears of an error.
    open->data->FlushFor(open->data->NewErrorCursor(), [open, done](const Status&) { done(); });
  };
  if (open->grant == nullptr) return flush();
  open->grant->Recall(for_appender, flush);
}

void OpenFiles::Publish(InodeId inode, StatusCallback done) {
  OpenInodePtr open;
  {
    MutexLock lock(mutex_);
    if (const auto found = inodes_.find(inode); found != inodes_.end()) open = found->second;
  }
  if (open == nullptr) return done(Status::Ok());
  const auto flush = [open, done = std::move(done)] {
    open->data->FlushFor(open->data->NewErrorCursor(), [open, done](const Status& status) { done(status); });
  };
  if (open->grant == nullptr) return flush();
  open->grant->WhenIdle(flush);
}

std::vector<InodeId> OpenFiles::AllWritten() {
  std::vector<OpenInodePtr> all;
  {
    MutexLock lock(mutex_);
    for (const auto& [inode, entry] : inodes_) {
      if (entry->grant != nullptr) all.push_back(entry);
    }
  }
  std::vector<InodeId> written;
  for (const OpenInodePtr& open : all) {
    if (open->grant->active() || open->data->dirty()) written.push_back(open->id);
  }
  return written;
}

bool OpenFiles::AnyOpening() {
  MutexLock lock(mutex_);
  return opening_ > 0;
}

}  // namespace tarn::client
