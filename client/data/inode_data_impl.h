// The data of one inode: what is buffered, how it is flushed, what is read. Internal to the data plane.
//
// Everything that happens (a write, an answer, a flush request, new attributes) changes the state under the mutex and
// then calls Advance, which finds out under the mutex what can be done now and does it after the mutex is released. So
// there is one place that decides about order:
//   * extents go to the servers once the inode has a data id and no fresh attributes are being fetched;
//   * a size is committed when all extents that belong to it are acknowledged, one commit at a time;
//   * a flush request is over when its writes are acknowledged and committed, a sync request when they are on stable
//   storage as well;
//   * written data stays buffered until it is on stable storage and its size is committed.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "client/data/data_view.h"
#include "client/data/extent_map.h"
#include "client/data/plane_core.h"
#include "client/data/read_ahead.h"
#include "common/base/mutex.h"

namespace tarn::client {

class FileRead;

// Thread-safe.
class InodeDataImpl final : public InodeData,
                            public CommitListener,
                            public std::enable_shared_from_this<InodeDataImpl> {
 public:
  InodeDataImpl(std::shared_ptr<PlaneCore> core, const Attributes& attributes);
  ~InodeDataImpl() override;
  InodeDataImpl(const InodeDataImpl&) = delete;
  InodeDataImpl& operator=(const InodeDataImpl&) = delete;

  // ---- InodeData ----
  void Read(const std::shared_ptr<ReadAheadState>& read_ahead, ByteRange range, Callback<ReadResult> done) override;
  void Write(uint64_t offset, std::span<const uint8_t> bytes, StatusCallback done) override;
  void Append(std::span<const uint8_t> bytes, StatusCallback done) override;
  void Flush(StatusCallback done) override;
  void Sync(StatusCallback done) override;
  ErrorCursorPtr NewErrorCursor() override;
  void FlushFor(const ErrorCursorPtr& cursor, StatusCallback done) override;
  void SyncFor(const ErrorCursorPtr& cursor, StatusCallback done) override;
  void SyncEverybodysFor(const ErrorCursorPtr& cursor, StatusCallback done) override;
  void Abandon(const Status& status) override;
  void Adopt(const Attributes& attributes) override;
  void FinishTruncate(const Attributes& attributes, StatusCallback done) override;
  Attributes Overlay(Attributes attributes) const override;
  bool dirty() const override;

  // ---- CommitListener ----
  void OnTargetCommitted(TargetId target, uint64_t stamp, const Result<CommitOutcome>& outcome) override;

  // ---- For the plane ----
  // Buffers as much as there is room for, from the front; how much that was.
  size_t BufferSome(uint64_t offset, std::span<const uint8_t> bytes);
  // A write that was to come from `end` backwards waits for room, so that appends go behind it; and is over.
  void OnWriteQueued(uint64_t end);
  void OnQueuedWriteOver();
  // Sync that leaves an error for the file's own next flush to report.
  void SyncKeepingErrors(StatusCallback done);
  // Starts what is due at this time; lets go of the plane if nothing is left to do.
  void OnTick(int64_t now_ns);
  // Sends and publishes everything, so that its room becomes free.
  void FlushForRoom();

 private:
  friend class FileRead;

  // Writes between two flush requests: what a commit has to publish.
  struct UncommittedWrites {
    uint64_t age = 0;  // of the last write
    uint64_t end = 0;
    int64_t mtime_ns = 0;
    int64_t since_ns = 0;
    bool closed = false;  // by a flush request: later writes begin another one
  };
  struct FlushRequest {
    uint64_t age = 0;  // of the last write that it covers
    bool sync = false;
    bool takes_error = true;
    ErrorCursorPtr cursor = nullptr;  // null: the inode's own
    StatusCallback done;  // may be null
  };
  struct PendingTruncate {
    Attributes attributes;
    std::vector<ExtentPtr> under_way;  // sends of bytes that are to be cut
    StatusCallback done;
  };
  struct SendPart {
    ChunkPiece piece;
    AcknowledgedStamp acknowledged;
    bool was_acknowledged = false;
  };
  struct Send {
    ExtentPtr extent;
    uint64_t offset = 0;  // of the bytes, in the file
    std::span<const uint8_t> bytes;
    std::vector<SendPart> parts;
    DataView view;
    bool durable = false;
  };
  // What Advance found to do.
  struct Actions {
    std::vector<Send> sends;
    std::optional<MetadataForData::WriteCommit> commit;
    uint64_t commit_age = 0;
    std::vector<TargetId> targets;
    std::vector<std::pair<StatusCallback, Status>> finished;
    std::vector<PendingTruncate> truncates;
    bool allocate = false;
    bool refresh = false;
  };
  // How the base of a read is fetched, taken together with the snapshot of what is buffered.
  struct ReadPlan {
    DataView view;
    uint64_t cache_key = 0;
    ReadAheadPlan plan;
    bool own_changes = false;  // of the data, that are not published
  };

  // ---- inode_data_impl.cc: attributes and sizes ----
  void AdoptLocked(const Attributes& attributes) REQUIRES(mutex_);
  void SendUncommittedAgain(uint64_t cut_at) REQUIRES(mutex_);
  void AdoptOwnTruncate(const Attributes& attributes, PendingTruncate* pending) REQUIRES(mutex_);
  void DropCache() REQUIRES(mutex_);
  uint64_t FileSize() const REQUIRES(mutex_);
  uint64_t SizeForAppend() const REQUIRES(mutex_);
  void CapUncommitted(uint64_t size) REQUIRES(mutex_);
  void SetView(const Attributes& attributes) REQUIRES(mutex_);
  void Account() REQUIRES(mutex_);

  // ---- inode_write.cc: buffering, sending ----
  // `sole`: nobody else has written since it was acknowledged, so nobody need be asked whether its bytes are the newest.
  static std::vector<SendPart> PartsOf(const FileLayout& layout, const Extent& extent, bool sole);
  uint64_t SoleTerm();
  Status CheckWritable(uint64_t offset, uint64_t length) REQUIRES(mutex_);
  void WriteAt(uint64_t offset, std::span<const uint8_t> bytes, StatusCallback done);
  void NoteWritten(uint64_t end, int64_t now_ns, int64_t mtime_ns) REQUIRES(mutex_);
  bool PrepareSend(const ExtentPtr& extent, Send* send) REQUIRES(mutex_);
  void StartSend(const Send& send);
  void SendOne(const std::shared_ptr<const Send>& send, const SendPart& part);
  void OnPartSent(const std::shared_ptr<const Send>& send, const SendPart& part, const Result<WriteAck>& ack);
  void OnSendOver(const ExtentPtr& extent) REQUIRES(mutex_);
  void RemoveExtent(const ExtentPtr& extent) REQUIRES(mutex_);
  void RemoveIfSettled(const ExtentPtr& extent) REQUIRES(mutex_);
  void LoseExtent(const ExtentPtr& extent, const Status& status) REQUIRES(mutex_);
  void LoseUnsent(const Status& status) REQUIRES(mutex_);
  void SetError(const Status& status) REQUIRES(mutex_);

  // ---- inode_flush.cc: requests, commits ----
  void Request(FlushRequest request);
  void Advance();
  void CollectActions(Actions* actions) REQUIRES(mutex_);
  void CollectSends(Actions* actions) REQUIRES(mutex_);
  void CollectCommit(Actions* actions) REQUIRES(mutex_);
  void CollectTargets(Actions* actions) REQUIRES(mutex_);
  void CollectFinished(Actions* actions) REQUIRES(mutex_);
  bool IsOver(const FlushRequest& request) const REQUIRES(mutex_);
  void Perform(Actions actions);
  void AllocateData();
  void RefreshAttributes();
  void OnAttributesForSending(bool allocated, const Result<Attributes>& attributes);
  void CommitWrites(const MetadataForData::WriteCommit& commit, uint64_t age);
  void OnCommitted(uint64_t age, const Result<Attributes>& attributes);
  void UpdateSyncWaiting() REQUIRES(mutex_);

  // ---- inode_read.cc ----
  void StartRead(const std::shared_ptr<FileRead>& read);
  bool PlanReadLocked(FileRead& read, ReadPlan* plan) REQUIRES(mutex_);
  // A copy that is kept under this generation of the data is as good as an in-sync one.
  bool IsSettled(const ReadPlan& plan) const;
  void FetchSpan(const ReadPlan& plan, const ReadSpanPtr& span);
  void RefreshForRead(const std::shared_ptr<FileRead>& read);

  // Immutable after construction.
  const std::shared_ptr<PlaneCore> core_;
  const InodeId inode_;

  mutable Mutex mutex_;
  DataView view_ GUARDED_BY(mutex_);
  Status view_status_ GUARDED_BY(mutex_);  // not ok: the layout makes no sense, nothing can be read or sent
  uint64_t change_ GUARDED_BY(mutex_) = 0;
  uint64_t committed_size_ GUARDED_BY(mutex_) = 0;
  uint64_t cache_key_ GUARDED_BY(mutex_);
  // What is acknowledged up to this age must become stable before it may be read from here: the data changed elsewhere.
  uint64_t settle_through_age_ GUARDED_BY(mutex_) = 0;
  uint64_t own_generations_expected_ GUARDED_BY(mutex_) =
      0;  // data generations that our commit under way will have caused

  ExtentMap extents_ GUARDED_BY(mutex_);
  std::deque<UncommittedWrites> uncommitted_ GUARDED_BY(mutex_);
  uint64_t committed_age_ GUARDED_BY(mutex_) = 0;     // writes up to this one are published
  uint64_t acknowledged_end_ GUARDED_BY(mutex_) = 0;  // of uncommitted writes that reached the servers
  std::list<FlushRequest> requests_ GUARDED_BY(mutex_);
  std::list<PendingTruncate> truncates_ GUARDED_BY(mutex_);
  bool active_ GUARDED_BY(mutex_) = false;
  bool allocating_ GUARDED_BY(mutex_) = false;
  bool refresh_wanted_ GUARDED_BY(mutex_) = false;
  bool refreshing_ GUARDED_BY(mutex_) = false;
  bool committing_ GUARDED_BY(mutex_) = false;
  bool waits_for_lease_ GUARDED_BY(mutex_) = false;  // there is something to send; OnTick looks again
  std::set<TargetId> targets_requested_ GUARDED_BY(mutex_);  // to be committed for a sync request
  uint32_t commit_refusals_ GUARDED_BY(mutex_) = 0;
  uint64_t queued_writes_ GUARDED_BY(mutex_) = 0;  // waiting for room in the buffer
  uint64_t queued_end_ GUARDED_BY(mutex_) = 0;

  Status error_ GUARDED_BY(mutex_);  // the last one
  uint64_t error_count_ GUARDED_BY(mutex_) = 0;
  const ErrorCursorPtr own_errors_ = std::make_shared<ErrorCursor>();  // for flushes of no open file in particular
  bool no_space_ GUARDED_BY(mutex_) = false;
  int64_t no_space_until_ns_ GUARDED_BY(mutex_) = 0;  // then one write may try again

  // What Account has told the plane.
  uint64_t accounted_unacknowledged_ GUARDED_BY(mutex_) = 0;
  uint64_t accounted_unstable_ GUARDED_BY(mutex_) = 0;
};

}  // namespace tarn::client
