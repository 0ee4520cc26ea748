#include "fuse-client/testing/memory_filesystem.h"

#include <algorithm>
#include <utility>

#include "common/base/named_thread.h"

namespace tarn::fuse {
namespace {

using client::Attributes;
using client::Callback;
using client::Caller;
using client::FileHandle;
using client::FileHandlePtr;
using client::FileType;
using client::OpenedFile;
using client::OpenFlags;
using client::StatusCallback;

constexpr uint64_t kTotalBytes = 1ull << 40;
constexpr uint64_t kTotalInodes = 1ull << 32;
constexpr int64_t kBelievedNs = 60'000'000'000;

struct MemoryHandle {
  InodeId inode;
  OpenFlags flags;
};

// The interface leaves the type of handles to the implementation.
FileHandlePtr ToHandle(std::shared_ptr<MemoryHandle> handle) {
  return std::reinterpret_pointer_cast<FileHandle>(std::move(handle));
}
const MemoryHandle& FromHandle(const FileHandlePtr& handle) {
  return *reinterpret_cast<const MemoryHandle*>(handle.get());
}

// Binds an answer to its callback.
template <typename Done, typename Value>
std::function<void()> Bind(Done done, Value value) {
  return [done = std::move(done), value = std::move(value)]() mutable { done(std::move(value)); };
}

}  // namespace

MemoryFilesystem::MemoryFilesystem(const Clock& clock, Answers answers, Freshness freshness)
    : answers_(answers), freshness_(freshness), tree_(clock) {
  root_ = tree_.root();
  if (answers_ == Answers::kFromThread) thread_ = StartNamedThread("memory-answers", [this] { AnswerLoop(); });
}

MemoryFilesystem::~MemoryFilesystem() {
  {
    MutexLock lock(queue_mutex_);
    stopping_ = true;
    queue_filled_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void MemoryFilesystem::Answer(std::function<void()> answer) {
  if (answers_ == Answers::kInline) return answer();
  MutexLock lock(queue_mutex_);
  queue_.push_back(std::move(answer));
  queue_filled_.NotifyOne();
}

void MemoryFilesystem::AnswerLoop() {
  MutexLock lock(queue_mutex_);
  while (!stopping_ || !queue_.empty()) {
    if (queue_.empty()) {
      queue_filled_.Wait(lock);
      continue;
    }
    const std::function<void()> answer = std::move(queue_.front());
    queue_.pop_front();
    lock.Unlock();
    answer();
    lock.Lock();
  }
}

client::VolumeInfo MemoryFilesystem::volume() const {
  client::VolumeInfo info;
  info.name = "memory";
  info.root = root_;
  return info;
}

// ---- What others change ----

int64_t MemoryFilesystem::ShowAttributes(const Attributes& attributes) {
  MutexLock lock(mutex_);
  const Result<Attributes> now = tree_.GetAttributes(attributes.inode);
  return now.ok() && now->change == attributes.change ? kBelievedNs : 0;
}

int64_t MemoryFilesystem::ShowName(InodeId parent, const std::string& name, InodeId inode) {
  MutexLock lock(mutex_);
  const Result<Attributes> now = tree_.Lookup(parent, name);
  const InodeId now_inode = now.ok() ? now->inode : InodeId();
  return now_inode == inode ? kBelievedNs : 0;
}

Status MemoryFilesystem::ChangeAsOther(const std::string& what) {
  const std::string kind = what.substr(0, what.find(' '));
  const std::string name = what.substr(what.find(' ') + 1);
  client::KernelChanges changes;
  changes.inodes = {root_};
  {
    MutexLock lock(mutex_);
    const Result<Attributes> found = tree_.Lookup(root_, name);
    if (found.ok()) changes.inodes.push_back(found->inode);
    if (kind == "make") {
      changes.names = true;
      RETURN_IF_ERROR(tree_.Make(root_, name, FileType::kRegular, 0644, 0, "", Caller()).status());
    } else if (kind == "unlink") {
      changes.names = true;
      RETURN_IF_ERROR(tree_.Unlink(root_, name));
    } else if (!found.ok()) {
      return found.status();
    } else if (kind == "chmod") {
      client::AttributeChanges mode;
      mode.mode = 0600;
      RETURN_IF_ERROR(tree_.SetAttributes(found->inode, mode).status());
    } else if (kind == "write") {
      const uint8_t byte = '!';
      RETURN_IF_ERROR(tree_.Write(found->inode, 0, std::span(&byte, 1)));
    }
  }
  kernel_->Invalidate(changes);
  return Status::Ok();
}

void MemoryFilesystem::Lookup(InodeId parent, const std::string& name, Callback<Attributes> done) {
  questions_.fetch_add(1);
  MutexLock lock(mutex_);
  auto answer = Bind(std::move(done), tree_.Lookup(parent, name));
  lock.Unlock();
  Answer(std::move(answer));
}

void MemoryFilesystem::GetAttributes(InodeId inode, Callback<Attributes> done) {
  questions_.fetch_add(1);
  MutexLock lock(mutex_);
  auto answer = Bind(std::move(done), tree_.GetAttributes(inode));
  lock.Unlock();
  Answer(std::move(answer));
}

void MemoryFilesystem::SetAttributes(InodeId inode, const client::AttributeChanges& changes, Caller /*caller*/,
                                     Callback<Attributes> done) {
  MutexLock lock(mutex_);
  auto answer = Bind(std::move(done), tree_.SetAttributes(inode, changes));
  lock.Unlock();
  Answer(std::move(answer));
}

void MemoryFilesystem::MakeNode(InodeId parent, const std::string& name, FileType type, uint32_t mode, uint64_t rdev,
                                Caller caller, Callback<Attributes> done) {
  MutexLock lock(mutex_);
  auto answer = Bind(std::move(done), tree_.Make(parent, name, type, mode, rdev, "", caller));
  lock.Unlock();
  Answer(std::move(answer));
}

void MemoryFilesystem::MakeDirectory(InodeId parent, const std::string& name, uint32_t mode, Caller caller,
                                     Callback<Attributes> done) {
  MakeNode(parent, name, FileType::kDirectory, mode, 0, caller, std::move(done));
}

void MemoryFilesystem::MakeSymlink(InodeId parent, const std::string& name, const std::string& target, Caller caller,
                                   Callback<Attributes> done) {
  MutexLock lock(mutex_);
  auto answer = Bind(std::move(done), tree_.Make(parent, name, FileType::kSymlink, 0777, 0, target, caller));
  lock.Unlock();
  Answer(std::move(answer));
}

void MemoryFilesystem::Link(InodeId inode, InodeId new_parent, const std::string& new_name, Caller /*caller*/,
                            Callback<Attributes> done) {
  MutexLock lock(mutex_);
  auto answer = Bind(std::move(done), tree_.Link(inode, new_parent, new_name));
  lock.Unlock();
  Answer(std::move(answer));
}

void MemoryFilesystem::Unlink(InodeId parent, const std::string& name, Caller /*caller*/, StatusCallback done) {
  MutexLock lock(mutex_);
  auto answer = Bind(std::move(done), tree_.Unlink(parent, name));
  lock.Unlock();
  Answer(std::move(answer));
}

void MemoryFilesystem::RemoveDirectory(InodeId parent, const std::string& name, Caller /*caller*/,
                                       StatusCallback done) {
  MutexLock lock(mutex_);
  auto answer = Bind(std::move(done), tree_.RemoveDirectory(parent, name));
  lock.Unlock();
  Answer(std::move(answer));
}

void MemoryFilesystem::RemoveTree(InodeId /*parent*/, const std::string& /*name*/, Caller /*caller*/,
                                  StatusCallback done) {
  done(Status(StatusCode::kNotSupported, "mounts remove trees entry by entry"));
}

void MemoryFilesystem::Rename(InodeId parent, const std::string& name, InodeId new_parent, const std::string& new_name,
                              RenameFlags flags, Caller /*caller*/, StatusCallback done) {
  MutexLock lock(mutex_);
  auto answer = Bind(std::move(done), tree_.Rename(parent, name, new_parent, new_name, flags));
  lock.Unlock();
  Answer(std::move(answer));
}

void MemoryFilesystem::ReadDirectory(InodeId directory, uint64_t after_cookie, uint32_t entries_max,
                                     bool /*with_attributes*/, Callback<client::DirectoryPage> done) {
  MutexLock lock(mutex_);
  auto answer = Bind(std::move(done), tree_.ReadDirectory(directory, after_cookie, entries_max));
  lock.Unlock();
  Answer(std::move(answer));
}

void MemoryFilesystem::GetXattr(InodeId inode, const std::string& name, Callback<std::string> done) {
  if (inode == root_ && name == kQuestionsXattr)
    return Answer(Bind(std::move(done), Result<std::string>(std::to_string(questions_.load()))));
  MutexLock lock(mutex_);
  auto answer = Bind(std::move(done), tree_.GetXattr(inode, name));
  lock.Unlock();
  Answer(std::move(answer));
}

void MemoryFilesystem::ListXattrs(InodeId inode, Callback<std::vector<std::string>> done) {
  MutexLock lock(mutex_);
  auto answer = Bind(std::move(done), tree_.ListXattrs(inode));
  lock.Unlock();
  Answer(std::move(answer));
}

void MemoryFilesystem::SetXattr(InodeId inode, const std::string& name, const std::string& value, SetXattrFlags flags,
                                Caller /*caller*/, StatusCallback done) {
  if (inode == root_ && name == kForeignXattr) return Answer(Bind(std::move(done), ChangeAsOther(value)));
  MutexLock lock(mutex_);
  auto answer = Bind(std::move(done), tree_.SetXattr(inode, name, value, flags));
  lock.Unlock();
  Answer(std::move(answer));
}

void MemoryFilesystem::RemoveXattr(InodeId inode, const std::string& name, Caller /*caller*/, StatusCallback done) {
  MutexLock lock(mutex_);
  auto answer = Bind(std::move(done), tree_.RemoveXattr(inode, name));
  lock.Unlock();
  Answer(std::move(answer));
}

void MemoryFilesystem::StatFs(Callback<client::FilesystemStatistics> done) {
  MutexLock lock(mutex_);
  const uint64_t inodes = tree_.inodes();
  lock.Unlock();
  client::FilesystemStatistics statistics{kTotalBytes, kTotalBytes / 2, kTotalInodes, kTotalInodes - inodes};
  Answer(Bind(std::move(done), Result<client::FilesystemStatistics>(statistics)));
}

Result<OpenedFile> MemoryFilesystem::OpenLocked(InodeId inode, OpenFlags flags) {
  if (flags.truncate) {
    client::AttributeChanges changes;
    changes.size_bytes = 0;
    RETURN_IF_ERROR(tree_.SetAttributes(inode, changes).status());
  }
  RETURN_IF_ERROR(tree_.Hold(inode));
  OpenedFile opened;
  ASSIGN_OR_RETURN(opened.attributes, tree_.GetAttributes(inode));
  opened.handle = ToHandle(std::make_shared<MemoryHandle>(MemoryHandle{inode, flags}));
  opened.keep_cache = true;  // this mount is the only one who changes it
  return opened;
}

void MemoryFilesystem::Create(InodeId parent, const std::string& name, uint32_t mode, bool exclusive, OpenFlags flags,
                              Caller caller, Callback<OpenedFile> done) {
  MutexLock lock(mutex_);
  Result<Attributes> made = tree_.Make(parent, name, FileType::kRegular, mode, 0, "", caller);
  const bool exists = !made.ok() && made.status().code() == StatusCode::kExists && !exclusive;
  if (exists) made = tree_.Lookup(parent, name);
  Result<OpenedFile> opened = made.ok() ? OpenLocked(made->inode, flags) : Result<OpenedFile>(made.status());
  if (opened.ok()) opened->created = !exists;
  lock.Unlock();
  Answer(Bind(std::move(done), std::move(opened)));
}

void MemoryFilesystem::OpenFile(InodeId inode, OpenFlags flags, Callback<OpenedFile> done) {
  MutexLock lock(mutex_);
  auto answer = Bind(std::move(done), OpenLocked(inode, flags));
  lock.Unlock();
  Answer(std::move(answer));
}

void MemoryFilesystem::Read(const FileHandlePtr& handle, uint64_t offset, size_t length,
                            Callback<client::ReadResult> done) {
  MutexLock lock(mutex_);
  Result<std::string> bytes = tree_.Read(FromHandle(handle).inode, offset, length);
  lock.Unlock();
  if (!bytes.ok()) return Answer(Bind(std::move(done), Result<client::ReadResult>(bytes.status())));
  const auto kept = std::make_shared<std::string>(std::move(bytes).value());
  client::ReadResult result;
  result.bytes = kept->size();
  result.keep_alive = kept;
  // In two pieces, as data from several stripe units comes.
  const size_t half = kept->size() / 2;
  if (half > 0) result.pieces.push_back({kept->data(), half});
  if (!kept->empty()) result.pieces.push_back({kept->data() + half, kept->size() - half});
  Answer(Bind(std::move(done), Result<client::ReadResult>(std::move(result))));
}

void MemoryFilesystem::Write(const FileHandlePtr& handle, uint64_t offset, std::span<const uint8_t> bytes,
                             StatusCallback done) {
  const MemoryHandle& file = FromHandle(handle);
  MutexLock lock(mutex_);
  const Result<uint64_t> size = tree_.Size(file.inode);
  Status status = size.status();
  if (status.ok()) status = tree_.Write(file.inode, file.flags.append ? size.value() : offset, bytes);
  lock.Unlock();
  Answer(Bind(std::move(done), std::move(status)));
}

void MemoryFilesystem::Allocate(const FileHandlePtr& handle, client::AllocateMode mode, ByteRange range,
                                StatusCallback done) {
  const MemoryHandle& file = FromHandle(handle);
  MutexLock lock(mutex_);
  const Result<uint64_t> size = tree_.Size(file.inode);
  Status status = size.status();
  const uint64_t old_size = size.ok() ? size.value() : 0;
  const uint64_t end = mode.keep_size || mode.punch_hole ? std::min(range.end(), old_size) : range.end();
  const bool zeroes = mode.punch_hole || mode.zero_range;
  const uint64_t begin = zeroes ? range.offset : std::max(range.offset, old_size);
  if (status.ok() && begin < end) {
    status = tree_.Write(file.inode, begin, std::vector<uint8_t>(static_cast<size_t>(end - begin)));
  }
  lock.Unlock();
  Answer(Bind(std::move(done), std::move(status)));
}

void MemoryFilesystem::Flush(const FileHandlePtr& /*handle*/, StatusCallback done) {
  Answer(Bind(std::move(done), Status::Ok()));
}
void MemoryFilesystem::Fsync(const FileHandlePtr& /*handle*/, StatusCallback done) {
  Answer(Bind(std::move(done), Status::Ok()));
}
void MemoryFilesystem::SyncAll(StatusCallback done) { Answer(Bind(std::move(done), Status::Ok())); }

void MemoryFilesystem::Release(const FileHandlePtr& handle) {
  MutexLock lock(mutex_);
  tree_.LetGo(FromHandle(handle).inode);
}

void MemoryFilesystem::Ingest(const IngestFile& /*file*/, std::span<const uint8_t> /*bytes*/,
                              Callback<Attributes> done) {
  Answer(Bind(std::move(done), Result<Attributes>(StatusCode::kNotSupported, "ingest into memory is not supported")));
}

}  // namespace tarn::fuse
