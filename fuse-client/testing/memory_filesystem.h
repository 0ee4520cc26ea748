// A client::Filesystem in memory: no servers, no network. For tests of what lies above the library, and for measuring
// FUSE alone.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "client/filesystem.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "fuse-client/testing/memory_tree.h"

namespace tarn::fuse {

// Thread-safe. Answers come from a thread of its own, as the library's do, or before the call returns.
class MemoryFilesystem final : public client::Filesystem {
 public:
  enum class Answers { kInline, kFromThread };
  // kGranted: the kernel is told to believe everything for a minute, and is told of changes "by others": setting the
  // root's xattr kForeignXattr to "make NAME", "unlink NAME", "chmod NAME" (to 0600) or "write NAME" (one byte changes)
  // makes one, which has come to pass when setxattr(2) returns. The root's xattr kQuestionsXattr is the number of
  // look-ups and attributes that the kernel has asked for.
  using Freshness = client::Filesystem::Freshness;
  static constexpr const char* kForeignXattr = "user.foreign";
  static constexpr const char* kQuestionsXattr = "user.questions";

  MemoryFilesystem(const Clock& clock, Answers answers, Freshness freshness = Freshness::kUnknown);
  ~MemoryFilesystem() override;

  InodeId root() const override { return root_; }
  client::VolumeInfo volume() const override;

  void Lookup(InodeId parent, const std::string& name, client::Callback<client::Attributes> done) override;
  void GetAttributes(InodeId inode, client::Callback<client::Attributes> done) override;
  void SetAttributes(InodeId inode, const client::AttributeChanges& changes, client::Caller caller,
                     client::Callback<client::Attributes> done) override;
  void MakeNode(InodeId parent, const std::string& name, client::FileType type, uint32_t mode, uint64_t rdev,
                client::Caller caller, client::Callback<client::Attributes> done) override;
  void MakeDirectory(InodeId parent, const std::string& name, uint32_t mode, client::Caller caller,
                     client::Callback<client::Attributes> done) override;
  void MakeSymlink(InodeId parent, const std::string& name, const std::string& target, client::Caller caller,
                   client::Callback<client::Attributes> done) override;
  void Link(InodeId inode, InodeId new_parent, const std::string& new_name, client::Caller caller,
            client::Callback<client::Attributes> done) override;
  void Unlink(InodeId parent, const std::string& name, client::Caller caller, client::StatusCallback done) override;
  // Mounts never ask for it: kNotSupported.
  void RemoveTree(InodeId parent, const std::string& name, client::Caller caller, client::StatusCallback done) override;
  void RemoveDirectory(InodeId parent, const std::string& name, client::Caller caller,
                       client::StatusCallback done) override;
  void Rename(InodeId parent, const std::string& name, InodeId new_parent, const std::string& new_name,
              RenameFlags flags, client::Caller caller, client::StatusCallback done) override;
  void ReadDirectory(InodeId directory, uint64_t after_cookie, uint32_t entries_max, bool with_attributes,
                     client::Callback<client::DirectoryPage> done) override;
  void GetXattr(InodeId inode, const std::string& name, client::Callback<std::string> done) override;
  void ListXattrs(InodeId inode, client::Callback<std::vector<std::string>> done) override;
  void SetXattr(InodeId inode, const std::string& name, const std::string& value, SetXattrFlags flags,
                client::Caller caller, client::StatusCallback done) override;
  void RemoveXattr(InodeId inode, const std::string& name, client::Caller caller, client::StatusCallback done) override;
  void StatFs(client::Callback<client::FilesystemStatistics> done) override;

  void Create(InodeId parent, const std::string& name, uint32_t mode, bool exclusive, client::OpenFlags flags,
              client::Caller caller, client::Callback<client::OpenedFile> done) override;
  void OpenFile(InodeId inode, client::OpenFlags flags, client::Callback<client::OpenedFile> done) override;
  void Read(const client::FileHandlePtr& handle, uint64_t offset, size_t length,
            client::Callback<client::ReadResult> done) override;
  void Allocate(const client::FileHandlePtr& handle, client::AllocateMode mode, ByteRange range,
                client::StatusCallback done) override;
  void Write(const client::FileHandlePtr& handle, uint64_t offset, std::span<const uint8_t> bytes,
             client::StatusCallback done) override;
  void Flush(const client::FileHandlePtr& handle, client::StatusCallback done) override;
  void Fsync(const client::FileHandlePtr& handle, client::StatusCallback done) override;
  void Release(const client::FileHandlePtr& handle) override;
  void SyncAll(client::StatusCallback done) override;
  void Ingest(const IngestFile& file, std::span<const uint8_t> bytes,
              client::Callback<client::Attributes> done) override;
  Counters counters() const override { return {}; }

  void SetKernelCache(client::KernelCache* kernel) override { kernel_ = kernel; }
  Freshness freshness() const override { return freshness_; }
  int64_t ShowAttributes(const client::Attributes& attributes) override;
  int64_t ShowName(InodeId parent, const std::string& name, InodeId inode) override;

 private:
  Status ChangeAsOther(const std::string& what);
  Result<client::OpenedFile> OpenLocked(InodeId inode, client::OpenFlags flags) REQUIRES(mutex_);
  void Answer(std::function<void()> answer);
  void AnswerLoop();

  const Answers answers_;
  const Freshness freshness_;
  client::KernelCache* kernel_ = nullptr;  // set before the first request
  std::atomic<uint64_t> questions_{0};
  InodeId root_;
  Mutex mutex_;
  MemoryTree tree_ GUARDED_BY(mutex_);

  Mutex queue_mutex_;
  CondVar queue_filled_;
  std::deque<std::function<void()>> queue_ GUARDED_BY(queue_mutex_);
  bool stopping_ GUARDED_BY(queue_mutex_) = false;
  std::thread thread_;
};

}  // namespace tarn::fuse
