#include "cli/transfer/put_job.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <future>
#include <memory>
#include <thread>

#include "cli/remote_path.h"
#include "client/blocking.h"
#include "common/base/posix_io.h"

namespace tarn::cli {
namespace {

using client::Attributes;
using client::FileType;
using client::Wait;

constexpr uint64_t kFilesQueuedMax = 4096;
constexpr uint32_t kDirectoryModeWhileFilling = 0755;
// Whose attributes are set at once.
constexpr size_t kDirectoriesAtOnce = 256;

int64_t ToNs(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

std::string LastName(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path.substr(path.rfind('/') + 1);
}

// The names of "." and ".." as sources mean what they point at.
Result<std::string> SourceName(const std::string& source) {
  const std::string name = LastName(source);
  if (name != "." && name != ".." && !name.empty()) return name;
  char* resolved = realpath(source.c_str(), nullptr);
  if (resolved == nullptr) return Status::FromErrno(errno, source);
  const std::string path(resolved);
  free(resolved);
  return LastName(path);
}

bool SameAttributes(const Attributes& remote, const struct stat& local, bool keep_owner) {
  return remote.mode == (local.st_mode & 07777) && (!keep_owner || (remote.uid == local.st_uid && remote.gid == local.st_gid));
}

// Starts a request whose answer is waited for later.
template <typename Start>
std::future<Result<Attributes>> Ask(const Start& start) {
  // Shared, so that it lives until set_value has returned.
  auto answer = std::make_shared<std::promise<Result<Attributes>>>();
  start(client::Callback<Attributes>([answer](Result<Attributes> result) { answer->set_value(std::move(result)); }));
  return answer->get_future();
}

client::AttributeChanges ChangesFor(const struct stat& local, bool keep_owner) {
  client::AttributeChanges changes;
  changes.mode = local.st_mode & 07777;
  changes.mtime_ns = ToNs(local.st_mtim);
  if (keep_owner) {
    changes.uid = local.st_uid;
    changes.gid = local.st_gid;
  }
  return changes;
}

}  // namespace

PutJob::PutJob(client::Filesystem* filesystem, const PutPolicy& policy, TransferReport* report, TransferCounters* counters)
    : filesystem_(filesystem), policy_(policy), report_(report), counters_(counters), keep_owner_(geteuid() == 0) {}

Status PutJob::Run(const std::vector<std::string>& sources, const std::string& path) {
  RETURN_IF_ERROR(Plan(sources, path));
  RunThreads();
  WaitForIngests();
  SetDirectoryAttributes();
  return Status::Ok();
}

// Everything that can refuse the whole command does so before the first byte moves.
Status PutJob::Plan(const std::vector<std::string>& sources, const std::string& path) {
  for (const std::string& source : sources) {
    if (access(source.c_str(), R_OK) != 0) return Status::FromErrno(errno, source);
  }
  Result<Attributes> destination = ResolvePath(*filesystem_, path);
  if (!destination.ok() && destination.status().code() != StatusCode::kNotFound) return destination.status();
  const bool is_directory = destination.ok() && destination->type == FileType::kDirectory;
  if (destination.ok() && !is_directory && sources.size() > 1) return Status(StatusCode::kNotDirectory, path + ": several sources need a directory");
  for (const std::string& source : sources) RETURN_IF_ERROR(PlanSource(source, path, is_directory || path.ends_with('/') || sources.size() > 1));
  return Status::Ok();
}

Status PutJob::PlanSource(const std::string& source, const std::string& path, bool into_directory) {
  struct stat attributes {};
  // A trailing slash follows a symbolic link to a directory, as everywhere.
  if (fstatat(AT_FDCWD, source.c_str(), &attributes, source.ends_with('/') ? 0 : AT_SYMLINK_NOFOLLOW) != 0) return Status::FromErrno(errno, source);
  ASSIGN_OR_RETURN(std::vector<std::string> names, PathNames(path));
  ASSIGN_OR_RETURN(const std::string source_name, SourceName(source));
  if (S_ISDIR(attributes.st_mode)) {
    if (!source.ends_with('/')) names.push_back(source_name);
    return PlanDirectory(source, attributes, names);
  }
  const std::string name = into_directory || names.empty() ? source_name : names.back();
  if (!into_directory && !names.empty()) names.pop_back();
  ASSIGN_OR_RETURN(const Attributes parent, MakePath(*filesystem_, names, kDirectoryModeWhileFilling));
  RemoteNames remote;
  if (Result<Attributes> there = Wait<Attributes>([&](auto done) { filesystem_->Lookup(parent.inode, name, std::move(done)); }); there.ok()) remote.emplace(name, *there);
  if (S_ISREG(attributes.st_mode)) {
    FileTask task{source, parent.inode, name, attributes, std::nullopt};
    if (!remote.empty()) task.remote = remote.begin()->second;
    OfferFile(std::move(task));
  } else if (S_ISLNK(attributes.st_mode)) {
    const std::string directory = source.rfind('/') == std::string::npos ? "." : source.substr(0, source.rfind('/') + 1);
    PutSymlink({directory, parent.inode, false}, {name, attributes}, remote.empty() ? nullptr : &remote.begin()->second);
  } else {
    return Status(StatusCode::kInvalidArgument, source + ": not a file, directory or symbolic link");
  }
  return Status::Ok();
}

Status PutJob::PlanDirectory(const std::string& source, const struct stat& attributes, std::vector<std::string> names) {
  ASSIGN_OR_RETURN(const Attributes top, MakePath(*filesystem_, names, kDirectoryModeWhileFilling));
  if (!names.empty()) {  // the volume's root keeps its own attributes
    MutexLock lock(mutex_);
    directory_attributes_.push_back({top.inode, attributes});
  }
  std::string path = source;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  directories_.Push({path, top.inode, false});
  return Status::Ok();
}

void PutJob::RunThreads() {
  std::vector<std::thread> walkers;
  std::vector<std::thread> uploaders;
  directories_.Close();
  for (uint32_t i = 0; i < policy_.uploaders; ++i) {
    uploaders.emplace_back([this] {
      while (std::optional<FileTask> task = files_.Pop()) {
        PutFile(*task);
        files_.Done();
      }
    });
    pthread_setname_np(uploaders.back().native_handle(), "put-upload");
  }
  files_.Limit(kFilesQueuedMax);
  for (uint32_t i = 0; i < policy_.walkers; ++i) {
    walkers.emplace_back([this] {
      while (std::optional<DirectoryTask> task = directories_.Pop()) {
        WalkDirectory(*task);
        directories_.Done();
      }
    });
    pthread_setname_np(walkers.back().native_handle(), "put-walk");
  }
  for (std::thread& walker : walkers) walker.join();
  counters_->walk_finished = true;
  files_.Close();
  for (std::thread& uploader : uploaders) uploader.join();
}

// ---- Walking ----

bool PutJob::ListLocal(const std::string& path, std::vector<LocalEntry>* entries) {
  DIR* directory = opendir(path.c_str());
  if (directory == nullptr) {
    report_->Error(path, Status::FromErrno(errno, "open directory"));
    return false;
  }
  while (const dirent* entry = readdir(directory)) {
    LocalEntry local;
    local.name = entry->d_name;
    if (local.name == "." || local.name == "..") continue;
    if (fstatat(dirfd(directory), entry->d_name, &local.attributes, AT_SYMLINK_NOFOLLOW) == 0) {
      entries->push_back(std::move(local));
    } else if (errno != ENOENT) {  // gone meanwhile: it is not there to be put
      report_->Error(path + "/" + local.name, Status::FromErrno(errno, "stat"));
    }
  }
  closedir(directory);
  return true;
}

bool PutJob::ListRemote(const DirectoryTask& task, RemoteNames* names) {
  if (task.remote_is_new) return true;
  Result<std::vector<client::DirectoryEntry>> entries = ListDirectory(*filesystem_, task.remote, false);
  if (!entries.ok()) {
    report_->Error(task.local_path, entries.status().WithContext("list the destination"));
    return false;
  }
  for (client::DirectoryEntry& entry : *entries) names->emplace(std::move(entry.name), std::move(entry.attributes));
  return true;
}

void PutJob::WalkDirectory(const DirectoryTask& task) {
  std::vector<LocalEntry> entries;
  RemoteNames remote;
  if (!ListLocal(task.local_path, &entries) || !ListRemote(task, &remote)) return;
  std::vector<const LocalEntry*> directories;
  for (const LocalEntry& entry : entries) {
    if (S_ISDIR(entry.attributes.st_mode)) {
      directories.push_back(&entry);
    } else {
      WalkEntry(task, entry, remote);
    }
  }
  WalkSubdirectories(task, directories, remote);
}

void PutJob::WalkEntry(const DirectoryTask& task, const LocalEntry& entry, const RemoteNames& remote) {
  const auto found = remote.find(entry.name);
  const Attributes* there = found == remote.end() ? nullptr : &found->second;
  if (there != nullptr && there->type == FileType::kDirectory) {
    report_->Error(task.local_path + "/" + entry.name, Status(StatusCode::kIsDirectory, "the volume has a directory of that name"));
  } else if (S_ISREG(entry.attributes.st_mode)) {
    FileTask file{task.local_path + "/" + entry.name, task.remote, entry.name, entry.attributes, std::nullopt};
    if (there != nullptr) file.remote = *there;
    OfferFile(std::move(file));
  } else if (S_ISLNK(entry.attributes.st_mode)) {
    PutSymlink(task, entry, there);
  } else {
    counters_->specials_ignored += 1;
  }
}

// All subdirectories are asked for at once: a round trip per directory would make a wide tree slow.
void PutJob::WalkSubdirectories(const DirectoryTask& task, const std::vector<const LocalEntry*>& directories, const RemoteNames& remote) {
  std::vector<std::pair<const LocalEntry*, std::future<Result<Attributes>>>> made;
  for (const LocalEntry* entry : directories) {
    auto promise = std::make_shared<std::promise<Result<Attributes>>>();
    made.emplace_back(entry, promise->get_future());
    if (const auto found = remote.find(entry->name); found != remote.end()) {
      promise->set_value(found->second);
    } else {
      filesystem_->MakeDirectory(task.remote, entry->name, kDirectoryModeWhileFilling, CurrentCaller(),
                                 [promise](Result<Attributes> result) { promise->set_value(std::move(result)); });
    }
  }
  for (auto& [entry, answer] : made) {
    const std::string path = task.local_path + "/" + entry->name;
    const bool existed = remote.contains(entry->name);
    Result<Attributes> attributes = answer.get();
    if (!attributes.ok() && attributes.status().code() == StatusCode::kExists) {
      attributes = Wait<Attributes>([&, name = entry->name](auto done) { filesystem_->Lookup(task.remote, name, std::move(done)); });
    }
    if (attributes.ok() && attributes->type != FileType::kDirectory) attributes = Status(StatusCode::kNotDirectory, "the volume has a file of that name");
    if (!attributes.ok()) {
      report_->Error(path, attributes.status());
      continue;
    }
    counters_->directories += 1;
    {
      MutexLock lock(mutex_);
      directory_attributes_.push_back({attributes->inode, entry->attributes});
    }
    directories_.Push({path, attributes->inode, !existed});
  }
}

void PutJob::PutSymlink(const DirectoryTask& task, const LocalEntry& entry, const Attributes* remote) {
  const std::string path = task.local_path + "/" + entry.name;
  std::string target(static_cast<size_t>(entry.attributes.st_size) + 1, '\0');
  const ssize_t length = readlink(path.c_str(), target.data(), target.size());
  if (length < 0) {
    report_->Error(path, Status::FromErrno(errno, "readlink"));
    return;
  }
  target.resize(static_cast<size_t>(length));
  counters_->symlinks += 1;
  if (remote != nullptr && remote->type == FileType::kSymlink && remote->symlink_target == target) return;
  Status status;
  if (remote != nullptr) {
    status = client::WaitStatus([&](auto done) { filesystem_->Unlink(task.remote, entry.name, CurrentCaller(), std::move(done)); });
  }
  if (status.ok()) {
    const client::Caller owner = keep_owner_ ? client::Caller{entry.attributes.st_uid, entry.attributes.st_gid} : CurrentCaller();
    status = Wait<Attributes>([&](auto done) { filesystem_->MakeSymlink(task.remote, entry.name, target, owner, std::move(done)); }).status();
  }
  if (!status.ok()) report_->Error(path, status);
}

void PutJob::OfferFile(FileTask task) {
  const auto size = static_cast<uint64_t>(task.attributes.st_size);
  counters_->files_found += 1;
  counters_->bytes_found += size;
  const bool unchanged = task.remote && task.remote->type == FileType::kRegular && task.remote->size_bytes == size &&
                         task.remote->mtime_ns == ToNs(task.attributes.st_mtim) && SameAttributes(*task.remote, task.attributes, keep_owner_);
  if (unchanged && !policy_.compare_contents) {
    counters_->files_skipped += 1;
    counters_->bytes_skipped += size;
    return;
  }
  files_.Push(std::move(task));
}

// ---- At the end ----

// Children change their parents' mtime, so directories get theirs when all else is done. Many are asked for at once: each change waits for the
// metadata log.
void PutJob::SetDirectoryAttributes() {
  std::vector<DirectoryAttributes> pending;
  {
    MutexLock lock(mutex_);
    pending.swap(directory_attributes_);
  }
  const std::span<const DirectoryAttributes> all(pending);
  for (size_t begin = 0; begin < all.size(); begin += kDirectoriesAtOnce) {
    SetAttributesOf(all.subspan(begin, std::min(kDirectoriesAtOnce, all.size() - begin)));
  }
}

void PutJob::SetAttributesOf(std::span<const DirectoryAttributes> directories) {
  std::vector<std::future<Result<Attributes>>> found;
  for (const DirectoryAttributes& directory : directories) {
    found.push_back(Ask([&](auto done) { filesystem_->GetAttributes(directory.inode, std::move(done)); }));
  }
  std::vector<std::future<Result<Attributes>>> set;
  for (size_t i = 0; i < directories.size(); ++i) {
    const DirectoryAttributes& directory = directories[i];
    const Result<Attributes> now = found[i].get();
    if (now.ok() && now->mtime_ns == ToNs(directory.attributes.st_mtim) && SameAttributes(*now, directory.attributes, keep_owner_)) continue;
    set.push_back(Ask([&](auto done) {
      filesystem_->SetAttributes(directory.inode, ChangesFor(directory.attributes, keep_owner_), CurrentCaller(), std::move(done));
    }));
  }
  for (auto& answer : set) {
    if (const Result<Attributes> attributes = answer.get(); !attributes.ok()) report_->Error("directory attributes", attributes.status());
  }
}

}  // namespace tarn::cli
