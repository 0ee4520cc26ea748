#include "chunkserver/store/target_directory.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "common/base/posix_io.h"

namespace tarn::store {
namespace {

constexpr std::string_view kLockFile = "LOCK";
constexpr std::string_view kCleanFile = "CLEAN";

std::string PathIn(const std::string& directory, std::string_view name) { return directory + "/" + std::string(name); }

// A new target is made only where nothing else is, but for what a file system or an interrupted attempt leaves.
Status CheckEmpty(const std::string& path) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name == kLockFile || name == "lost+found" || name == "TARGET.tmp") continue;
    return Status(StatusCode::kCorruption, path + " has no TARGET file but is not empty (" + name + "): it is not a chunk server's directory");
  }
  if (error) return Status::FromErrno(error.value(), "list " + path);
  return Status::Ok();
}

Result<TargetIdentity> MakeIdentity(const std::string& path, Random* random) {
  RETURN_IF_ERROR(CheckEmpty(path));
  TargetIdentity identity;
  for (size_t i = 0; i < identity.uuid.size(); i += sizeof(uint64_t)) {
    const uint64_t word = random->Next();
    std::memcpy(identity.uuid.data() + i, &word, sizeof(word));
  }
  RETURN_IF_ERROR(WriteSmallFileDurably(PathIn(path, kTargetFileName), EncodeTargetIdentity(identity)));
  return identity;
}

// What it holds, if it was there; it is gone, durably, in any case.
Result<std::string> TakeCleanMark(const std::string& path) {
  const std::string mark = PathIn(path, kCleanFile);
  Result<std::string> contents = ReadSmallFile(mark);
  if (!contents.ok() && contents.status().code() == StatusCode::kNotFound) return std::string();
  if (unlink(mark.c_str()) != 0) return Status::FromErrno(errno, "unlink " + mark);
  RETURN_IF_ERROR(FsyncDirectory(path));
  return contents;
}

}  // namespace

TargetDirectory::TargetDirectory(std::string path, UniqueFd lock, const TargetIdentity& identity, bool was_clean, std::string clean_mark)
    : path_(std::move(path)), lock_(std::move(lock)), was_clean_(was_clean), clean_mark_(std::move(clean_mark)), identity_(identity) {}

Result<std::unique_ptr<TargetDirectory>> TargetDirectory::Open(const std::string& path, Random* random) {
  RETURN_IF_ERROR(MakeDirectories(path));
  ASSIGN_OR_RETURN(UniqueFd lock, LockFile(PathIn(path, kLockFile)));
  const std::string target_file = PathIn(path, kTargetFileName);
  const Result<std::string> text = ReadSmallFile(target_file);
  if (!text.ok() && text.status().code() != StatusCode::kNotFound) return text.status();
  const bool is_new = !text.ok();
  Result<TargetIdentity> identity = is_new ? MakeIdentity(path, random) : DecodeTargetIdentity(*text);
  if (!identity.ok()) return is_new ? identity.status() : Status(identity.status().code(), target_file + " " + identity.status().message());
  ASSIGN_OR_RETURN(std::string mark, TakeCleanMark(path));
  const bool was_clean = is_new || !mark.empty();
  return std::unique_ptr<TargetDirectory>(new TargetDirectory(path, std::move(lock), *identity, was_clean, std::move(mark)));
}

TargetIdentity TargetDirectory::identity() const {
  MutexLock lock(mutex_);
  return identity_;
}

Status TargetDirectory::Adopt(const std::string& cluster_id, ServerId server, TargetId target) {
  TargetIdentity changed = identity();
  if (!changed.cluster_id.empty() && changed.cluster_id != cluster_id) {
    return Status(StatusCode::kPermission, PathIn(path_, kTargetFileName) + ": the directory belongs to another cluster");
  }
  if ((changed.target.valid() && changed.target != target) || (changed.server.valid() && changed.server != server)) {
    return Status(StatusCode::kPermission, PathIn(path_, kTargetFileName) + ": the directory is target " + std::to_string(changed.target.value()) +
                                               " of server " + std::to_string(changed.server.value()) + ", the cluster calls it target " +
                                               std::to_string(target.value()) + " of server " + std::to_string(server.value()));
  }
  if (changed.cluster_id == cluster_id && changed.server == server && changed.target == target) return Status::Ok();
  changed.cluster_id = cluster_id;
  changed.server = server;
  changed.target = target;
  return Store(changed);
}

Status TargetDirectory::MarkIndexMade() {
  TargetIdentity changed = identity();
  if (changed.index_made) return Status::Ok();
  changed.index_made = true;
  return Store(changed);
}

Status TargetDirectory::MarkClean(std::string_view mark) { return WriteSmallFileDurably(PathIn(path_, kCleanFile), mark); }

Status TargetDirectory::Store(const TargetIdentity& identity) {
  RETURN_IF_ERROR(WriteSmallFileDurably(PathIn(path_, kTargetFileName), EncodeTargetIdentity(identity)));
  MutexLock lock(mutex_);
  identity_ = identity;
  return Status::Ok();
}

}  // namespace tarn::store
