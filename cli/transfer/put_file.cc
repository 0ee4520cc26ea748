// The upload of one file: PutJob's second half, which its uploader threads run.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cli/remote_path.h"
#include "cli/transfer/put_job.h"
#include "client/blocking.h"
#include "common/base/buffer.h"
#include "common/base/posix_io.h"
#include "common/checksum/block_sums.h"

namespace tarn::cli {
namespace {

using client::Attributes;
using client::FileType;
using client::Wait;
using client::WaitStatus;

constexpr uint64_t kIngestBytesMax = 8 << 20;      // Filesystem::Ingest's bound
constexpr uint64_t kCopyBytes = 4 << 20;
constexpr uint64_t kResumeUnitBytes = 256 << 20;   // a large file is made durable, and can be resumed, at multiples of this
constexpr uint64_t kBytesInFlightMax = 256 << 20;
constexpr uint64_t kFilesInFlightMax = 512;

int64_t ToNs(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

bool SameFileState(const struct stat& a, const struct stat& b) { return a.st_size == b.st_size && ToNs(a.st_mtim) == ToNs(b.st_mtim); }

// Hidden, of bounded length, and the same for the same version of the same file: so an interrupted upload is found again.
std::string TemporaryName(const std::string& name, const struct stat& attributes) {
  const std::string identity = name + '\0' + std::to_string(attributes.st_size) + '\0' + std::to_string(ToNs(attributes.st_mtim));
  char text[40];
  std::snprintf(text, sizeof(text), ".tarn-put-%016lx",
                static_cast<unsigned long>(Xxh3({reinterpret_cast<const uint8_t*>(identity.data()), identity.size()})));
  return text;
}

// Reads up to bytes.size(); fewer only at the end of the file.
Result<size_t> ReadUpTo(int fd, std::span<uint8_t> bytes, uint64_t offset, const std::string& path) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (got == 0) break;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Status::FromErrno(errno, "read " + path);
    done += static_cast<size_t>(got);
  }
  return done;
}

// Releases an open handle at the end of a scope.
class HandleScope {
 public:
  HandleScope(client::Filesystem* filesystem, client::FileHandlePtr handle) : filesystem_(filesystem), handle_(std::move(handle)) {}
  ~HandleScope() { filesystem_->Release(handle_); }
  HandleScope(const HandleScope&) = delete;
  HandleScope& operator=(const HandleScope&) = delete;

 private:
  client::Filesystem* const filesystem_;
  const client::FileHandlePtr handle_;
};

}  // namespace

void PutJob::PutFile(const FileTask& task) {
  Result<UniqueFd> fd = OpenFile(task.local_path, O_RDONLY | O_NOFOLLOW);
  struct stat attributes {};
  Status status = fd.status();
  if (status.ok() && fstat(fd->get(), &attributes) != 0) status = Status::FromErrno(errno, "stat");
  if (status.ok() && policy_.compare_contents && task.remote && task.remote->type == FileType::kRegular) {
    const Result<bool> same = SameContents(task, fd->get());
    if (same.ok() && *same) {
      if (task.remote->mtime_ns != ToNs(attributes.st_mtim) || task.remote->mode != (attributes.st_mode & 07777)) {
        client::AttributeChanges changes;
        changes.mode = attributes.st_mode & 07777;
        changes.mtime_ns = ToNs(attributes.st_mtim);
        status = Wait<Attributes>([&](auto done) { filesystem_->SetAttributes(task.remote->inode, changes, CurrentCaller(), std::move(done)); }).status();
      }
      if (status.ok()) {
        counters_->files_skipped += 1;
        counters_->bytes_skipped += static_cast<uint64_t>(attributes.st_size);
        return;
      }
    }
  }
  if (status.ok()) {
    const bool small = static_cast<uint64_t>(attributes.st_size) <= kIngestBytesMax;
    status = small ? IngestSmall(task, fd->get(), attributes) : StreamLarge(task, fd->get(), attributes);
  }
  if (!status.ok()) report_->Error(task.local_path, status);
}

Result<bool> PutJob::SameContents(const FileTask& task, int fd) {
  if (task.remote->size_bytes != static_cast<uint64_t>(task.attributes.st_size)) return false;
  ASSIGN_OR_RETURN(const client::OpenedFile opened,
                   Wait<client::OpenedFile>([&](auto done) { filesystem_->OpenFile(task.remote->inode, client::OpenFlags{}, std::move(done)); }));
  const HandleScope scope(filesystem_, opened.handle);
  Buffer local(kCopyBytes);
  for (uint64_t offset = 0; offset < task.remote->size_bytes;) {
    ASSIGN_OR_RETURN(const size_t bytes, ReadUpTo(fd, local.span(), offset, task.local_path));
    ASSIGN_OR_RETURN(const client::ReadResult remote,
                     Wait<client::ReadResult>([&](auto done) { filesystem_->Read(opened.handle, offset, bytes, std::move(done)); }));
    if (bytes == 0 || remote.bytes != bytes) return false;
    size_t position = 0;
    for (const iovec& piece : remote.pieces) {
      if (std::memcmp(local.data() + position, piece.iov_base, piece.iov_len) != 0) return false;
      position += piece.iov_len;
    }
    offset += bytes;
  }
  return true;
}

void PutJob::ReserveInFlight(uint64_t bytes) {
  MutexLock lock(mutex_);
  // One file larger than the bound still goes, alone.
  while (files_in_flight_ >= kFilesInFlightMax || (bytes_in_flight_ > 0 && bytes_in_flight_ + bytes > kBytesInFlightMax)) in_flight_changed_.Wait(lock);
  bytes_in_flight_ += bytes;
  files_in_flight_ += 1;
}

void PutJob::ReleaseInFlight(uint64_t bytes) {
  MutexLock lock(mutex_);
  bytes_in_flight_ -= bytes;
  files_in_flight_ -= 1;
  in_flight_changed_.NotifyAll();
}

void PutJob::WaitForIngests() {
  MutexLock lock(mutex_);
  while (files_in_flight_ > 0) in_flight_changed_.Wait(lock);
}

// Returns when the request is on its way; its end is counted or reported by the callback.
Status PutJob::IngestSmall(const FileTask& task, int fd, const struct stat& attributes) {
  const auto size = static_cast<uint64_t>(attributes.st_size);
  ReserveInFlight(size);
  auto bytes = std::make_shared<Buffer>(size);
  Result<size_t> read = ReadUpTo(fd, bytes->span(), 0, task.local_path);
  struct stat after {};
  Status status = read.status();
  if (status.ok() && fstat(fd, &after) != 0) status = Status::FromErrno(errno, "stat");
  if (status.ok() && (*read != size || !SameFileState(attributes, after))) status = Status(StatusCode::kBusy, "changed while it was read");
  if (!status.ok()) {
    ReleaseInFlight(size);
    return status;
  }
  client::Filesystem::IngestFile file;
  file.parent = task.parent;
  file.name = task.name;
  file.mode = attributes.st_mode & 07777;
  file.uid = keep_owner_ ? attributes.st_uid : geteuid();
  file.gid = keep_owner_ ? attributes.st_gid : getegid();
  file.mtime_ns = ToNs(attributes.st_mtim);
  filesystem_->Ingest(file, bytes->span(), [this, bytes, size, path = task.local_path](Result<Attributes> result) {
    if (result.ok()) {
      counters_->files_done += 1;
      counters_->bytes_done += size;
    } else {
      report_->Error(path, result.status());
    }
    ReleaseInFlight(size);
  });
  return Status::Ok();
}

Status PutJob::CopyBytes(const client::FileHandlePtr& handle, int fd, uint64_t from, const struct stat& attributes, const std::string& path) {
  const auto size = static_cast<uint64_t>(attributes.st_size);
  Buffer buffer(kCopyBytes);
  for (uint64_t offset = from; offset < size;) {
    ASSIGN_OR_RETURN(const size_t bytes, ReadUpTo(fd, buffer.span().first(std::min(kCopyBytes, size - offset)), offset, path));
    if (bytes == 0) return Status(StatusCode::kBusy, "became shorter while it was read");
    RETURN_IF_ERROR(WaitStatus([&](auto done) { filesystem_->Write(handle, offset, buffer.span().first(bytes), std::move(done)); }));
    offset += bytes;
    counters_->bytes_done += bytes;
    if (offset % kResumeUnitBytes == 0 || offset == size) {
      RETURN_IF_ERROR(WaitStatus([&](auto done) { filesystem_->Fsync(handle, std::move(done)); }));
    }
  }
  struct stat after {};
  if (fstat(fd, &after) != 0) return Status::FromErrno(errno, "stat");
  return SameFileState(attributes, after) ? Status::Ok() : Status(StatusCode::kBusy, "changed while it was read");
}

Status PutJob::StreamLarge(const FileTask& task, int fd, const struct stat& attributes) {
  const std::string temporary = TemporaryName(task.name, attributes);
  client::OpenFlags flags;
  flags.write = true;
  ASSIGN_OR_RETURN(const client::OpenedFile opened, Wait<client::OpenedFile>([&](auto done) {
                     filesystem_->Create(task.parent, temporary, 0600, false, flags, CurrentCaller(), std::move(done));
                   }));
  const uint64_t resume_at = opened.attributes.size_bytes / kResumeUnitBytes * kResumeUnitBytes;
  counters_->bytes_skipped += resume_at;
  Status status;
  {
    const HandleScope scope(filesystem_, opened.handle);
    status = CopyBytes(opened.handle, fd, resume_at, attributes, task.local_path);
  }
  if (status.code() == StatusCode::kBusy) {  // another version of the file by now: nothing to resume
    (void)WaitStatus([&](auto done) { filesystem_->Unlink(task.parent, temporary, CurrentCaller(), std::move(done)); });
  }
  RETURN_IF_ERROR(status);
  client::AttributeChanges changes;
  changes.mode = attributes.st_mode & 07777;
  changes.mtime_ns = ToNs(attributes.st_mtim);
  if (keep_owner_) {
    changes.uid = attributes.st_uid;
    changes.gid = attributes.st_gid;
  }
  RETURN_IF_ERROR(Wait<Attributes>([&](auto done) { filesystem_->SetAttributes(opened.attributes.inode, changes, CurrentCaller(), std::move(done)); }).status());
  RETURN_IF_ERROR(WaitStatus(
      [&](auto done) { filesystem_->Rename(task.parent, temporary, task.parent, task.name, {}, CurrentCaller(), std::move(done)); }));
  counters_->files_done += 1;
  return Status::Ok();
}

}  // namespace tarn::cli
