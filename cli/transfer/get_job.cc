#include "cli/transfer/get_job.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <thread>

#include "cli/remote_path.h"
#include "client/blocking.h"
#include "common/base/posix_io.h"
#include "common/checksum/block_sums.h"

namespace tarn::cli {
namespace {

using client::Attributes;
using client::FileType;
using client::Wait;

constexpr uint64_t kReadBytes = 1 << 20;

timespec ToTimespec(int64_t time_ns) {
  // Times before 1970 are negative: the nanoseconds stay positive.
  int64_t seconds = time_ns / 1'000'000'000;
  int64_t nanoseconds = time_ns % 1'000'000'000;
  if (nanoseconds < 0) {
    nanoseconds += 1'000'000'000;
    --seconds;
  }
  return {seconds, nanoseconds};
}

bool IsDirectory(const std::string& path) {
  struct stat attributes {};
  return stat(path.c_str(), &attributes) == 0 && S_ISDIR(attributes.st_mode);
}

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

std::string TemporaryPath(const std::string& path) {
  std::array<char, 48> name{};
  std::snprintf(name.data(), name.size(), "/.tarn-get-%016lx", static_cast<unsigned long>(Xxh3({reinterpret_cast<const uint8_t*>(path.data()), path.size()})));
  return DirectoryOf(path) + name.data();
}

bool Unchanged(const std::string& path, const Attributes& attributes) {
  struct stat local {};
  if (lstat(path.c_str(), &local) != 0 || !S_ISREG(local.st_mode)) return false;
  return static_cast<uint64_t>(local.st_size) == attributes.size_bytes &&
         int64_t{local.st_mtim.tv_sec} * 1'000'000'000 + local.st_mtim.tv_nsec == attributes.mtime_ns;
}

}  // namespace

GetJob::GetJob(client::Filesystem* filesystem, uint32_t threads, TransferReport* report, TransferCounters* counters)
    : filesystem_(filesystem), threads_(threads), report_(report), counters_(counters), keep_owner_(geteuid() == 0) {}

Status GetJob::Run(const std::string& path, const std::string& destination) {
  ASSIGN_OR_RETURN(const Attributes attributes, ResolvePath(*filesystem_, path));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, PathNames(path));
  const bool is_directory = attributes.type == FileType::kDirectory;
  std::string local = destination;
  while (local.size() > 1 && local.back() == '/') local.pop_back();
  const bool contents_only = is_directory && (path.ends_with('/') || names.empty());
  const bool into = !contents_only && (is_directory || destination.ends_with('/') || IsDirectory(destination));
  if (into) local += "/" + names.back();
  RETURN_IF_ERROR(MakeDirectories(is_directory ? local : DirectoryOf(local)));
  if (!is_directory && IsDirectory(local)) return Status(StatusCode::kIsDirectory, local + " is a directory");
  tasks_.Push({local, attributes});
  RunThreads();
  SetDirectoryTimes();
  return Status::Ok();
}

void GetJob::RunThreads() {
  tasks_.Close();
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < threads_; ++i) {
    threads.emplace_back([this] {
      while (std::optional<Task> task = tasks_.Pop()) {
        Handle(*task);
        tasks_.Done();
      }
    });
    pthread_setname_np(threads.back().native_handle(), "get");
  }
  for (std::thread& thread : threads) thread.join();
}

void GetJob::Handle(const Task& task) {
  Status status;
  switch (task.attributes.type) {
    case FileType::kDirectory: GetDirectory(task); break;
    case FileType::kSymlink: status = GetSymlink(task); break;
    case FileType::kRegular: status = GetFile(task); break;
    default: counters_->specials_ignored += 1; break;
  }
  if (!status.ok()) report_->Error(task.local_path, status);
}

void GetJob::GetDirectory(const Task& task) {
  if (mkdir(task.local_path.c_str(), 0700) != 0 && !(errno == EEXIST && IsDirectory(task.local_path))) {
    report_->Error(task.local_path, Status::FromErrno(errno, "make directory"));
    return;
  }
  Result<std::vector<client::DirectoryEntry>> entries = ListDirectory(*filesystem_, task.attributes.inode, false);
  if (!entries.ok()) {
    report_->Error(task.local_path, entries.status().WithContext("list"));
    return;
  }
  counters_->directories += 1;
  {
    MutexLock lock(mutex_);
    directories_.push_back(task);
  }
  for (client::DirectoryEntry& entry : *entries) {
    if (entry.attributes.type == FileType::kRegular) {
      counters_->files_found += 1;
      counters_->bytes_found += entry.attributes.size_bytes;
    }
    tasks_.Push({task.local_path + "/" + entry.name, std::move(entry.attributes)});
  }
}

Status GetJob::GetSymlink(const Task& task) {
  counters_->symlinks += 1;
  std::array<char, 4096> now{};
  const ssize_t length = readlink(task.local_path.c_str(), now.data(), now.size());
  if (length >= 0 && std::string_view(now.data(), static_cast<size_t>(length)) == task.attributes.symlink_target) return Status::Ok();
  if (unlink(task.local_path.c_str()) != 0 && errno != ENOENT) return Status::FromErrno(errno, "replace");
  if (symlink(task.attributes.symlink_target.c_str(), task.local_path.c_str()) != 0) return Status::FromErrno(errno, "make symbolic link");
  if (keep_owner_ && lchown(task.local_path.c_str(), task.attributes.uid, task.attributes.gid) != 0) return Status::FromErrno(errno, "chown");
  return Status::Ok();
}

Status GetJob::GetFile(const Task& task) {
  if (Unchanged(task.local_path, task.attributes)) {
    counters_->files_skipped += 1;
    counters_->bytes_skipped += task.attributes.size_bytes;
    return Status::Ok();
  }
  const std::string temporary = TemporaryPath(task.local_path);
  ASSIGN_OR_RETURN(const UniqueFd fd, OpenFile(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  Status status = CopyBytes(task, fd.get());
  const timespec times[2] = {ToTimespec(task.attributes.atime_ns), ToTimespec(task.attributes.mtime_ns)};
  if (status.ok() && keep_owner_ && fchown(fd.get(), task.attributes.uid, task.attributes.gid) != 0) status = Status::FromErrno(errno, "chown");
  if (status.ok() && fchmod(fd.get(), task.attributes.mode) != 0) status = Status::FromErrno(errno, "chmod");
  if (status.ok() && futimens(fd.get(), times) != 0) status = Status::FromErrno(errno, "set times");
  if (status.ok() && rename(temporary.c_str(), task.local_path.c_str()) != 0) status = Status::FromErrno(errno, "rename");
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  counters_->files_done += 1;
  return Status::Ok();
}

Status GetJob::CopyBytes(const Task& task, int fd) {
  ASSIGN_OR_RETURN(const client::OpenedFile opened,
                   Wait<client::OpenedFile>([&](auto done) { filesystem_->OpenFile(task.attributes.inode, client::OpenFlags{}, std::move(done)); }));
  uint64_t offset = 0;
  Status status;
  while (status.ok()) {
    const Result<client::ReadResult> read =
        Wait<client::ReadResult>([&](auto done) { filesystem_->Read(opened.handle, offset, kReadBytes, std::move(done)); });
    status = read.status();
    if (!read.ok() || read->bytes == 0) break;
    for (const iovec& piece : read->pieces) {
      status = PwriteFull(fd, {static_cast<const uint8_t*>(piece.iov_base), piece.iov_len}, offset, task.local_path);
      if (!status.ok()) break;
      offset += piece.iov_len;
      counters_->bytes_done += piece.iov_len;
    }
  }
  filesystem_->Release(opened.handle);
  if (status.ok() && offset < task.attributes.size_bytes) status = Status(StatusCode::kBusy, "became shorter while it was read");
  return status;
}

void GetJob::SetDirectoryTimes() {
  std::vector<Task> pending;
  {
    MutexLock lock(mutex_);
    pending.swap(directories_);
  }
  for (auto directory = pending.rbegin(); directory != pending.rend(); ++directory) {
    const char* path = directory->local_path.c_str();
    const timespec times[2] = {ToTimespec(directory->attributes.atime_ns), ToTimespec(directory->attributes.mtime_ns)};
    const bool owned = !keep_owner_ || chown(path, directory->attributes.uid, directory->attributes.gid) == 0;
    if (!owned || chmod(path, directory->attributes.mode) != 0 || utimensat(AT_FDCWD, path, times, 0) != 0) {
      report_->Error(directory->local_path, Status::FromErrno(errno, "set attributes"));
    }
  }
}

}  // namespace tarn::cli
