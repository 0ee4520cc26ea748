// The Filesystem of client/filesystem.h over a metadata client and a data plane.
//
// Namespace operations are answered from the namespace cache where it can and else go to the metadata server (filesystem_namespace.cc,
// filesystem_attributes.cc); what a change did to the cache is in filesystem_cache.cc; files
// are opened and closed through the table of open files (filesystem_files.cc), written as their grants say
// (filesystem_writes.cc); bulk ingest reserves data ids
// in advance (filesystem_ingest.cc). Every attribute that leaves here passes OpenFiles::Show, so that a program sees
// its own buffered writes. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "client/data/data_plane.h"
#include "client/filesystem.h"
#include "client/locks.h"
#include "client/meta/metadata_client.h"
#include "client/open_files.h"
#include "client/page_cache_views.h"
#include "client/reserved_data_ids.h"
#include "client/write_grant.h"
#include "client/write_releases.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/rpc/event_loop.h"

namespace tarn::client {

// Immutable after construction, but for the atomics and `locks`.
class FileHandle {
 public:
  FileHandle(OpenInodePtr open_inode, OpenFlags open_flags, bool made, std::shared_ptr<ReadAheadState> read_ahead_state)
      : inode(std::move(open_inode)),
        flags(open_flags),
        created(made),
        read_ahead(std::move(read_ahead_state)),
        errors(inode->data->NewErrorCursor()) {}

  const OpenInodePtr inode;
  const OpenFlags flags;
  const bool created;  // this open made the file
  const std::shared_ptr<ReadAheadState> read_ahead;
  const ErrorCursorPtr errors;
  std::atomic<bool> wrote = false;  // a write was asked for
  std::atomic<bool> released = false;
  HandleLocks locks;
};

class FilesystemImpl final : public Filesystem {
 public:
  // What it is made of. Loops, clock and random outlive the metadata client and the data plane, hence their order.
  struct Parts {
    std::unique_ptr<Clock> clock;
    std::unique_ptr<Random> random;
    std::vector<std::unique_ptr<rpc::EventLoop>> loops;
    std::unique_ptr<MetadataClient> metadata;  // its session is open
    VolumeInfo volume;
    InodeId root;
    int64_t retry_deadline_ms = 30'000;
    uint64_t page_cache_views_bytes = 4 << 20;
  };
  // Makes the data plane on top of what it is given.
  using MakeDataPlane = std::function<Result<std::unique_ptr<DataPlane>>(MetadataForData* metadata)>;
  static Result<std::unique_ptr<FilesystemImpl>> Create(Parts parts, const MakeDataPlane& make_data_plane);
  ~FilesystemImpl() override;
  FilesystemImpl(const FilesystemImpl&) = delete;
  FilesystemImpl& operator=(const FilesystemImpl&) = delete;

  InodeId root() const override { return parts_.root; }
  VolumeInfo volume() const override { return parts_.volume; }

  void Lookup(InodeId parent, const std::string& name, Callback<Attributes> done) override;
  void GetAttributes(InodeId inode, Callback<Attributes> done) override;
  void SetAttributes(InodeId inode, const AttributeChanges& changes, Caller caller, Callback<Attributes> done) override;
  void MakeNode(InodeId parent, const std::string& name, FileType type, uint32_t mode, uint64_t rdev, Caller caller,
                Callback<Attributes> done) override;
  void MakeDirectory(InodeId parent, const std::string& name, uint32_t mode, Caller caller,
                     Callback<Attributes> done) override;
  void MakeSymlink(InodeId parent, const std::string& name, const std::string& target, Caller caller,
                   Callback<Attributes> done) override;
  void Link(InodeId inode, InodeId new_parent, const std::string& new_name, Caller caller,
            Callback<Attributes> done) override;
  void Unlink(InodeId parent, const std::string& name, Caller caller, StatusCallback done) override;
  void RemoveDirectory(InodeId parent, const std::string& name, Caller caller, StatusCallback done) override;
  void RemoveTree(InodeId parent, const std::string& name, Caller caller, StatusCallback done) override;
  void Rename(InodeId parent, const std::string& name, InodeId new_parent, const std::string& new_name,
              RenameFlags flags, Caller caller, StatusCallback done) override;
  void ReadDirectory(InodeId directory, uint64_t after_cookie, uint32_t entries_max, bool with_attributes,
                     Callback<DirectoryPage> done) override;
  void GetXattr(InodeId inode, const std::string& name, Callback<std::string> done) override;
  void ListXattrs(InodeId inode, Callback<std::vector<std::string>> done) override;
  void SetXattr(InodeId inode, const std::string& name, const std::string& value, SetXattrFlags flags, Caller caller,
                StatusCallback done) override;
  void RemoveXattr(InodeId inode, const std::string& name, Caller caller, StatusCallback done) override;
  void StatFs(Callback<FilesystemStatistics> done) override;

  void Create(InodeId parent, const std::string& name, uint32_t mode, bool exclusive, OpenFlags flags, Caller caller,
              Callback<OpenedFile> done) override;
  void OpenFile(InodeId inode, OpenFlags flags, Callback<OpenedFile> done) override;
  void Read(const FileHandlePtr& handle, uint64_t offset, size_t length, Callback<ReadResult> done) override;
  void Write(const FileHandlePtr& handle, uint64_t offset, std::span<const uint8_t> bytes,
             StatusCallback done) override;
  void Flush(const FileHandlePtr& handle, StatusCallback done) override;
  void Fsync(const FileHandlePtr& handle, StatusCallback done) override;
  void Allocate(const FileHandlePtr& handle, AllocateMode mode, ByteRange range, StatusCallback done) override;
  void Release(const FileHandlePtr& handle) override;
  void SyncAll(StatusCallback done) override;

  // ---- filesystem_locks.cc ----
  bool supports_locks() const override { return true; }
  uint64_t Lock(const FileHandlePtr& handle, const FileLock& lock, bool wait, StatusCallback done) override;
  void CancelLock(uint64_t ticket) override;
  void Unlock(const FileHandlePtr& handle, const FileLock& range, StatusCallback done) override;
  void TestLock(const FileHandlePtr& handle, const FileLock& lock, Callback<std::optional<FileLock>> done) override;
  void ReleaseLocks(const FileHandlePtr& handle, uint64_t owner, StatusCallback done) override;

  void Ingest(const IngestFile& file, std::span<const uint8_t> bytes, Callback<Attributes> done) override;

  void SetKernelCache(KernelCache* kernel) override;
  Freshness freshness() const override;
  int64_t ShowAttributes(const Attributes& attributes) override;
  int64_t ShowName(InodeId parent, const std::string& name, InodeId inode) override;

  Counters counters() const override;

 private:
  // What the data half asks of the metadata half, with an eye on the answers: they move the attributes of open files.
  class ObservedMetadata final : public MetadataForData {
   public:
    explicit ObservedMetadata(FilesystemImpl* filesystem) : filesystem_(filesystem) {}
    void AllocateData(InodeId inode, Callback<Attributes> done) override;
    void CommitWrite(const WriteCommit& commit, Callback<Attributes> done) override;
    void FetchAttributes(InodeId inode, Callback<Attributes> done) override;
    void TruncateDone(InodeId inode, uint64_t truncate_generation, StatusCallback done) override;
    std::shared_ptr<const proto::ClusterMap> cluster_map() override { return metadata()->cluster_map(); }
    void RefreshClusterMap(uint64_t version, StatusCallback done) override {
      metadata()->RefreshClusterMap(version, std::move(done));
    }
    SessionId session() override { return metadata()->session(); }
    bool KnowsContent(InodeId inode, const DataContent& content) override;
    uint64_t SoleWriterTerm(InodeId inode) override;
    bool MayWriteData() override {
      return filesystem_->cache_ == nullptr || filesystem_->cache_->usable();
    }

   private:
    MetadataClient* metadata() { return filesystem_->metadata_; }
    FilesystemImpl* const filesystem_;
  };

  explicit FilesystemImpl(Parts parts);

  // Every mutation that makes a name goes this way, so that the cache knows of it.
  void MutateMaking(InodeId parent, const std::string& name, proto::Mutation mutation,
                    MetadataSession::MutationCallback done);
  MetadataSession::MutationCallback NoteMaking(InodeId parent, const std::string& name,
                                               MetadataSession::MutationCallback done);
  // A mutation that makes a name, and whose reply's attributes are the answer.
  void MakeAndShow(InodeId parent, const std::string& name, proto::Mutation mutation, Callback<Attributes> done);
  // The attributes from the server, remembered if they may be.
  void FetchAttributes(InodeId inode, Callback<Attributes> done);

  // Before it is opened: the server is to ask this client before it lets go of the file, whoever unlinks it.
  void FetchToOpen(InodeId inode, uint32_t attempts, Callback<Attributes> done);
  // It does so already for a file that was made under this parent (docs/coherence.md, rule 8).
  bool IsCovered(uint64_t token, InodeId parent, const Attributes& made);

  // Known without asking.
  bool HasNoXattrs(InodeId inode);

  // ---- filesystem_cache.cc: this client's own changes in its cache (no-ops without one) ----
  // Before a change is sent.
  uint64_t CacheToken() const { return cache_ != nullptr ? cache_->Token() : 0; }
  // `inode` invalid: the name is gone. `reply`: what says so, with the directory as it is now.
  void CacheName(uint64_t token, InodeId parent, const std::string& name, InodeId inode,
                 const proto::MutationReply& reply);
  void CacheAttributes(uint64_t token, const Attributes& attributes, bool seen_by_kernel);
  // It failed, or it is not known what it did.
  void CacheForgetName(InodeId parent, const std::string& name);
  void CacheForgetAttributes(InodeId inode);
  // It has left the directory that covered it, by a change of this client.
  void CoverLeft(InodeId inode);
  void CacheRename(uint64_t token, const proto::RenameOp& op, const proto::MutationReply& reply);
  // The session of a read that wants a grant; 0 without a cache.
  uint64_t GrantSession() const { return cache_ != nullptr ? metadata_->caching_session().value() : 0; }
  NamespaceCache::Admission Admit(const proto::CacheGrant& grant, uint64_t token);
  // After an unlink or a rename took a file's last name away.
  void AfterNameRemoved(uint64_t token, const proto::MutationReply& reply, bool held_open);
  void EndOpening(InodeId inode = InodeId());
  void ReleaseOrphan(InodeId inode);
  // Ends one use of an open inode, with all that follows from the last one.
  void EndUse(const OpenInodePtr& open);
  void AfterRelease(const OpenInodePtr& open, OpenFiles::AfterRelease next);

  // The steps of SetAttributes: what is buffered, then the size, then the rest.
  void FlushIfDirty(InodeId inode, StatusCallback done);
  void SetOtherAttributes(InodeId inode, const AttributeChanges& changes, Caller caller, Callback<Attributes> done);
  struct TruncateRequest {
    InodeId inode;
    uint64_t size_bytes = 0;
    bool clear_suid_sgid = false;
    Caller caller;
    uint32_t attempts = 0;
  };
  void Truncate(const TruncateRequest& request, Callback<Attributes> done);
  void OnTruncated(const Attributes& attributes, Callback<Attributes> done);
  // Carries out the truncate that is pending on the inode, ours or that of a client which did not finish it.
  void FinishPendingTruncate(InodeId inode, StatusCallback done);

  struct CreateRequest {
    InodeId parent;
    std::string name;
    uint32_t mode = 0;
    bool exclusive = false;
    OpenFlags flags;
    Caller caller;
  };
  // `with_data`: the file may get a data id at once.
  void SendCreate(const CreateRequest& request, bool with_data, Callback<OpenedFile> done);
  // It has been noted that the inode is about to be open.
  void OpenNow(InodeId inode, OpenFlags flags, Callback<OpenedFile> done);
  void NoteFirstUse(const FileHandle& handle);

  struct Made {
    bool created = false;
    bool write_granted = false;
  };
  void FinishOpen(const Attributes& attributes, Made made, OpenFlags flags, Caller caller,
                  Callback<OpenedFile> done);
  void AllocateGranted(const OpenInodePtr& open, AllocateMode mode, ByteRange range, StatusCallback done);
  // ---- filesystem_writes.cc ----
  void WriteNow(const FileHandlePtr& handle, uint64_t offset, std::span<const uint8_t> bytes, StatusCallback done);
  // The write has begun; ends it.
  void WriteGranted(const FileHandlePtr& handle, WriteGrant::Way way, uint64_t offset, std::span<const uint8_t> bytes,
                    StatusCallback done);
  std::shared_ptr<WriteGrant> MakeGrant(InodeId inode, bool granted);
  void AcquireWrite(InodeId inode, bool append, int64_t give_up_ns, Callback<bool> done);
  // An exclusive grant that came too late to be used.
  void GiveBackWrite(InodeId inode, std::function<void()> done);
  void SendWriteReleases(const std::vector<InodeId>& inodes, std::function<void()> done);

  void MakeIngestedName(const IngestFile& file, const ReservedDataIds::Reserved& reserved, uint64_t size_bytes,
                        Callback<Attributes> done);

  std::atomic<uint64_t> grant_terms_{0};
  // Destroyed from the bottom up: the data plane uses all above it.
  Parts parts_;
  MetadataClient* const metadata_;  // of parts_
  NamespaceCache* const cache_;     // of metadata_; null: nothing is remembered
  const std::shared_ptr<Locks> locks_;
  OpenFiles open_files_;
  WriteReleases write_releases_;
  PageCacheViews page_cache_views_;
  ReservedDataIds reserved_data_ids_;
  // Whether files made here are written by whoever made them: rises with each that is, falls with each that is not.
  std::atomic<int> written_when_made_{0};
  ObservedMetadata observed_metadata_;
  std::unique_ptr<DataPlane> data_;
};

}  // namespace tarn::client
