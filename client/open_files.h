// The files this client has open: one entry per inode, shared by its handles.
//
// It also tells the metadata server what is open here when others remove names (client/meta/coherence.h), so that an
// open needs no request of its own.
//
// Two invariants: an inode is in the table from before the metadata server is asked to open it until its last handle is
// released and nothing of it is dirty; and the attributes kept here never go back in time (`change` only rises), so
// that an answer which was overtaken by a later one does not show an old size.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "client/data/data_plane.h"
#include "client/meta/coherence.h"
#include "client/types.h"
#include "client/write_grant.h"
#include "client/write_releases.h"
#include "common/base/mutex.h"

namespace tarn::client {

// An entry. `data` and `grant` are immutable after construction, the counters are atomic; the rest is guarded by the table.
struct OpenInode {
  OpenInode(const Attributes& attributes, std::shared_ptr<InodeData> inode_data, std::shared_ptr<WriteGrant> write_grant)
      : id(attributes.inode), data(std::move(inode_data)), grant(std::move(write_grant)), newest(attributes) {}

  const InodeId id;
  const std::shared_ptr<InodeData> data;
  const std::shared_ptr<WriteGrant> grant;  // null: this client takes no part in write grants
  uint64_t uses = 0;     // handles, and operations that need the data for a while
  bool orphan = false;   // the server keeps it, or may, for this session until it is told otherwise: unlinked while open
  bool closing = false;  // no use is left, but what was written is still on its way
  Attributes newest;
  // How often another client changed it, and up to which of these changes the data half has been told.
  std::atomic<uint64_t> foreign_changes{0};
  std::atomic<uint64_t> changes_adopted{0};
  // What others had written is on stable storage as of so many of these changes; not at all if this is kNothingStable.
  static constexpr uint64_t kNothingStable = ~uint64_t{0};
  std::atomic<uint64_t> changes_stable{kNothingStable};
};
using OpenInodePtr = std::shared_ptr<OpenInode>;

// Thread-safe. Calls into the data half are made without the lock.
class OpenFiles final : public OpenInodes {
 public:
  OpenFiles() = default;
  OpenFiles(const OpenFiles&) = delete;
  OpenFiles& operator=(const OpenFiles&) = delete;

  // Set once, before anything is opened; outlives the entries.
  void SetDataPlane(DataPlane* data_plane) { data_plane_ = data_plane; }
  // The same. Makes what decides about an inode's writes; `granted`: it may be written at once.
  using MakeGrant = std::function<std::shared_ptr<WriteGrant>(InodeId, bool granted)>;
  // `releases` outlives the entries.
  void SetWriteGrants(MakeGrant make, WriteReleases* releases) {
    make_grant_ = std::move(make);
    releases_ = releases;
  }

  // An open is under way whose inode is not yet in the table: it counts for BeginRemoval. Invalid: it is not known which
  // inode it will be.
  void BeginOpening(InodeId inode = InodeId());
  // What was reported to the server as open, but is not: to be released.
  [[nodiscard]] std::vector<InodeId> EndOpening(InodeId inode = InodeId());
  // It is open, or may be about to be.
  bool MayBeOpen(InodeId inode) const;

  // Before a removal is sent. True: something is open, or about to be, so that the server is to hold what it removes.
  // False: whatever is to be opened waits for its end (WhenRemoved), or it would be gone although it is open.
  [[nodiscard]] bool BeginRemoval();
  // When it was answered, and the cache knows of it.
  void EndRemoval(bool held);
  // After BeginOpening: when no removal is under way that is not held; none can begin from then on.
  void WhenRemoved(std::function<void()> ready);
  size_t count() const;

  // Adds a use; the entry is made if there is none. `attributes` are fresh from the server. `granted`: the server gave
  // the write grant of the file that it has just made.
  OpenInodePtr Use(const Attributes& attributes, bool granted = false);
  // Adds a use if the inode is open; null otherwise.
  OpenInodePtr UseIfOpen(InodeId inode);

  // A flush before a close: with no other use the commit may end the write grant.
  void NoteClosing(const OpenInodePtr& open);

  // Before a commit that publishes all. The grant that ends with it, if one does.
  std::shared_ptr<WriteGrant> BeginRelease(InodeId inode);

  // Of an inode that has lost its last name and is about to be opened: it is open already, or was reported as such.
  bool IsKept(InodeId inode) const;
  // See WriteGrant; 0 also if the inode is not open.
  uint64_t ExclusiveTerm(InodeId inode) const;

  enum class AfterRelease {
    kNothing,       // other uses remain, or everything is done
    kFlush,         // the last use is gone but data is dirty: flush, then call FinishClose
    kReleaseOrphan  // gone from the table, and the server waits to hear it
  };
  [[nodiscard]] AfterRelease Release(const OpenInodePtr& open);
  // After the flush of kFlush, whether it succeeded or not (its error was reported): kNothing or kReleaseOrphan.
  [[nodiscard]] AfterRelease FinishClose(const OpenInodePtr& open);

  // The server keeps this unlinked inode for the session. True if it is open here, or about to be; then its last release
  // gives kReleaseOrphan. False: nobody here needs it.
  [[nodiscard]] bool MarkOrphan(InodeId inode);

  // What to show for attributes that just came from the server: never older than what was seen before, with the size
  // and mtime of buffered data. The data half learns of news.
  Attributes Show(const Attributes& fresh);
  // Remembers them only: the data half has them already.
  void Remember(const Attributes& fresh);

  // Calls back when what is buffered of the inode has been published, or cannot be; at once if it is not open. Whoever has
  // it open still hears of an error.
  void Publish(InodeId inode, StatusCallback done);

  // ---- OpenInodes ----
  std::vector<InodeId> AllOpen(bool reports) override;
  std::vector<InodeId> OpenBelow(InodeId directory, bool reports) override;
  bool ReportIfOpen(InodeId inode, bool removed) override;
  void NoteChanged(InodeId inode) override;
  void NoteAllChanged() override;
  void EndWriteGrants(bool session_lost) override;
  void FlushForRecall(InodeId inode, bool for_appender, std::function<void()> done) override;
  std::vector<InodeId> AllWritten() override;
  bool AnyOpening() override;

 private:
  bool ReportLocked(InodeId inode, bool removed) REQUIRES(mutex_);
  void AddOpening(bool reports, std::vector<InodeId>* open) REQUIRES(mutex_);
  // What came about inodes that are about to be open counts for their entries.
  void NoteWhileOpening(InodeId inode, std::unordered_set<InodeId>* noted) REQUIRES(mutex_);

  // Immutable once something is open.
  DataPlane* data_plane_ = nullptr;
  MakeGrant make_grant_;
  WriteReleases* releases_ = nullptr;

  mutable Mutex mutex_;
  uint64_t opening_ GUARDED_BY(mutex_) = 0;                                  // all of them
  std::unordered_map<InodeId, uint64_t> opening_inodes_ GUARDED_BY(mutex_);  // those whose inode is known
  uint64_t opening_unknown_ GUARDED_BY(mutex_) = 0;
  uint64_t unheld_removals_ GUARDED_BY(mutex_) = 0;
  std::vector<std::function<void()>> await_removals_ GUARDED_BY(mutex_);
  std::unordered_set<InodeId> reported_ GUARDED_BY(mutex_);  // said to be open because of an opening, and perhaps removed elsewhere
  std::unordered_set<InodeId> changed_opening_ GUARDED_BY(mutex_);   // by others, while something was being opened
  std::unordered_set<InodeId> recalled_opening_ GUARDED_BY(mutex_);  // likewise
  bool all_changed_opening_ GUARDED_BY(mutex_) = false;
  std::unordered_map<InodeId, OpenInodePtr> inodes_ GUARDED_BY(mutex_);
};

}  // namespace tarn::client
