// Advisory locks that hold on all mounts, the client's side (docs/locks.md).
//
// The metadata server has the locks; here is only which owners may have any, through which handles, so that a close of a
// file that was never locked sends nothing, and under which session, so that the loss of that session is noticed: its
// locks are gone, and who had them must not go on as if not. Also the requests that wait, to be ended by a push, by the
// answer to a question asked now and then, or by an interrupt.
#pragma once

#include <atomic>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "client/meta/metadata_client.h"
#include "client/types.h"
#include "common/base/mutex.h"

namespace tarn::client {

class FileHandle;

// kIoError, with a text that says why.
Status LockLost();

// What a handle knows of the locks taken through it.
struct HandleLocks {
  std::atomic<uint64_t> session{0};  // under which there are some; 0: there are none
  uint32_t owners = 0;               // guarded by Locks
};

// Thread-safe.
class Locks : public std::enable_shared_from_this<Locks> {
 public:
  // `metadata` outlives it, and is told where grants are to be sent.
  static std::shared_ptr<Locks> Create(MetadataClient* metadata);
  Locks(const Locks&) = delete;
  Locks& operator=(const Locks&) = delete;

  // As Filesystem says of each.
  uint64_t Lock(const std::shared_ptr<FileHandle>& handle, const FileLock& lock, bool wait, StatusCallback done);
  void Cancel(uint64_t ticket);
  void Unlock(const std::shared_ptr<FileHandle>& handle, const FileLock& range, StatusCallback done);
  void Test(InodeId inode, const FileLock& lock, Callback<std::optional<FileLock>> done);
  // A process has closed a descriptor of the inode: its POSIX locks go. `done` once they are gone, or will be.
  void ReleaseOwner(InodeId inode, uint64_t owner, StatusCallback done);
  // Nobody has the handle any more: what was locked through it goes.
  void ReleaseHandle(FileHandle& handle);
  // The session under which it was used for locks is over: they are gone.
  bool LostBy(const HandleLocks& handle) const;
  // Everything that waits fails with kCancelled, and so do later calls that would.
  void Close();

 private:
  struct Key {
    InodeId inode;
    LockSpace space = LockSpace::kPosix;
    uint64_t owner = 0;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  struct Owner {
    std::set<FileHandle*> handles;
    SessionId session;     // under which it got its locks; invalid: it has none yet
    uint32_t pending = 0;  // requests under way, waits included
    uint64_t changes = 0;  // requests sent so far
  };
  using Owners = std::map<Key, Owner>;
  struct Request {
    std::shared_ptr<FileHandle> handle;
    Key key;
    FileLock lock;
    bool wait = false;
    StatusCallback done;
    uint64_t ticket = 0;
    // Guarded by Locks::mutex_.
    bool cancelled = false;
    bool answered = false;
    SessionId session;   // of the wait
    uint64_t sequence = 0;
  };
  using RequestPtr = std::shared_ptr<Request>;
  using WaitId = std::pair<SessionId, uint64_t>;

  explicit Locks(MetadataClient* metadata) : metadata_(metadata) {}

  static Key KeyOf(InodeId inode, const FileLock& lock) { return {inode, lock.space, lock.owner}; }
  bool IsLost(const Owner& owner) const REQUIRES(mutex_);
  void Use(const std::shared_ptr<FileHandle>& handle, Owner* owner) REQUIRES(mutex_);
  void Erase(Owners::iterator owner) REQUIRES(mutex_);
  void Submit(const RequestPtr& request);
  void OnReply(const RequestPtr& request, const Result<proto::MutationReply>& reply);
  void BeginWait(const RequestPtr& request, const proto::LockResult& result);
  void OnGranted(const RequestPtr& request, SessionId session);
  void Finish(const RequestPtr& request, const Status& status);
  void SendCancel(const RequestPtr& request);
  void OnCancelled(const RequestPtr& request, const Result<proto::MutationReply>& reply);
  // `lets_go`: all of its owner's, who wants to hear of none of them any more.
  void SendUnlock(const Key& key, const FileLock& range, bool lets_go, StatusCallback done);
  // Unlocks all of the owner's, again and again until the server has heard of it.
  void SendRelease(const Key& key, StatusCallback done);
  void OnPush(SessionId session, std::span<const uint64_t> waits);
  RequestPtr TakeWait(const WaitId& wait) REQUIRES(mutex_);
  void AskLater(int64_t delay_ms);
  void Ask();
  void OnWaits(SessionId session, const std::vector<uint64_t>& asked, const Result<proto::LockWaitsReply>& reply);

  MetadataClient* const metadata_;
  std::atomic<size_t> owner_count_{0};  // of owners_

  Mutex mutex_;
  bool closed_ GUARDED_BY(mutex_) = false;
  uint64_t next_ticket_ GUARDED_BY(mutex_) = 1;
  Owners owners_ GUARDED_BY(mutex_);
  std::map<uint64_t, RequestPtr> requests_ GUARDED_BY(mutex_);
  std::map<WaitId, RequestPtr> waits_ GUARDED_BY(mutex_);
  std::set<WaitId> early_grants_ GUARDED_BY(mutex_);  // pushed before the answer that says that there is a wait
  bool asks_ GUARDED_BY(mutex_) = false;              // a timer is set
};

}  // namespace tarn::client
