#include "metaserver/service/data_directory.h"

#include <charconv>
#include <cstring>
#include <filesystem>
#include <span>
#include <utility>

#include "common/base/posix_io.h"
#include "common/checksum/block_sums.h"

namespace tarn::meta {
namespace {

namespace fs = std::filesystem;

constexpr char kMagic[] = "TARNMETA";
constexpr uint32_t kFormatVersion = 1;
constexpr size_t kClusterIdBytes = 16;
constexpr size_t kIdentityBytes = 64;
constexpr size_t kSumOffset = 56;

uint64_t SumOf(const std::string& bytes) { return Xxh3({reinterpret_cast<const uint8_t*>(bytes.data()), kSumOffset}); }

template <typename T>
T Load(const std::string& bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

template <typename T>
void Store(std::string& bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

// The name of something in the directory that does not belong to a metadata server; empty if there is none.
Result<std::string> FindForeign(const std::string& path) {
  std::error_code error;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name != "LOCK" && name != "CREATING" && name != "lost+found") return name;
  }
  if (error) return Status::FromErrno(error.value(), "read directory " + path);
  return std::string();
}

Status Remove(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  return error ? Status::FromErrno(error.value(), "remove " + path) : Status::Ok();
}

}  // namespace

std::string EncodeIdentity(const MetaserverIdentity& identity) {
  std::string bytes(kIdentityBytes, '\0');
  std::memcpy(bytes.data(), kMagic, 8);
  Store<uint32_t>(bytes, 8, kFormatVersion);
  std::memcpy(bytes.data() + 16, identity.cluster_id.data(), std::min(identity.cluster_id.size(), kClusterIdBytes));
  Store<uint64_t>(bytes, 32, identity.member_id);
  Store<int64_t>(bytes, 40, identity.created_ns);
  Store<uint64_t>(bytes, kSumOffset, SumOf(bytes));
  return bytes;
}

Result<MetaserverIdentity> DecodeIdentity(const std::string& bytes, const std::string& path) {
  if (bytes.size() != kIdentityBytes || std::memcmp(bytes.data(), kMagic, 8) != 0) {
    return Status(StatusCode::kCorruption, path + ": not the identity of a metadata server");
  }
  if (Load<uint64_t>(bytes, kSumOffset) != SumOf(bytes))
    return Status(StatusCode::kCorruption, path + ": damaged (checksum)");
  if (const auto version = Load<uint32_t>(bytes, 8); version != kFormatVersion) {
    return Status(StatusCode::kNotSupported,
                  path + ": format version " + std::to_string(version) + ", this program knows 1");
  }
  MetaserverIdentity identity;
  identity.cluster_id = bytes.substr(16, kClusterIdBytes);
  identity.member_id = Load<uint64_t>(bytes, 32);
  identity.created_ns = Load<int64_t>(bytes, 40);
  if (identity.member_id == 0) return Status(StatusCode::kCorruption, path + ": no member id");
  return identity;
}

std::string NewClusterId(Random* random) {
  std::string id;
  for (size_t i = 0; i < kClusterIdBytes; i += sizeof(uint64_t)) {
    const uint64_t part = random->NextNonZero();
    id.append(reinterpret_cast<const char*>(&part), sizeof part);
  }
  return id;
}

Result<DataDirectory> DataDirectory::Open(const std::string& path, Random* random) {
  DataDirectory directory;
  directory.path_ = path;
  RETURN_IF_ERROR(MakeDirectories(path));
  ASSIGN_OR_RETURN(directory.lock_, LockFile(path + "/LOCK"));
  const std::string identity_path = path + "/METASERVER";
  if (!fs::exists(identity_path)) {
    RETURN_IF_ERROR(directory.BeginFirstStart(random));
    return directory;
  }
  RETURN_IF_ERROR(Remove(path + "/CREATING"));
  ASSIGN_OR_RETURN(const std::string bytes, ReadSmallFile(identity_path));
  ASSIGN_OR_RETURN(directory.identity_, DecodeIdentity(bytes, identity_path));
  RETURN_IF_ERROR(Remove(directory.incoming_path()));
  RETURN_IF_ERROR(Remove(directory.checkpoint_path()));
  RETURN_IF_ERROR(directory.PutReadyState());
  return directory;
}

Status DataDirectory::BeginFirstStart(Random* random) {
  const std::string creating_path = path_ + "/CREATING";
  std::string nonce_text;
  if (fs::exists(creating_path)) {
    // A first start that did not end: nothing was ever served from what it left.
    RETURN_IF_ERROR(Remove(log_path()));
    RETURN_IF_ERROR(Remove(state_path()));
    ASSIGN_OR_RETURN(nonce_text, ReadSmallFile(creating_path));
  }
  ASSIGN_OR_RETURN(const std::string foreign, FindForeign(path_));
  if (!foreign.empty()) {
    return Status(StatusCode::kInvalidArgument, path_ + ": METASERVER is missing, yet there is " + foreign +
                                                    ": neither empty nor a metadata server's directory");
  }
  is_new_ = true;
  const char* const end = nonce_text.data() + nonce_text.size();
  if (std::from_chars(nonce_text.data(), end, nonce_).ptr == end && nonce_ != 0) return Status::Ok();
  nonce_ = random->NextNonZero();
  return WriteSmallFileDurably(creating_path, std::to_string(nonce_));
}

Status DataDirectory::Create(const MetaserverIdentity& identity,
                             const std::function<Status(const std::string& log_path)>& make_log) {
  RETURN_IF_ERROR(MakeDirectories(log_path()));
  RETURN_IF_ERROR(make_log(log_path()));
  RETURN_IF_ERROR(FsyncDirectory(log_path()));
  RETURN_IF_ERROR(WriteSmallFileDurably(path_ + "/METASERVER", EncodeIdentity(identity)));
  identity_ = identity;
  return Remove(path_ + "/CREATING");
}

Status DataDirectory::MarkIncomingReady() {
  RETURN_IF_ERROR(Remove(ready_path()));
  std::error_code error;
  fs::rename(incoming_path(), ready_path(), error);
  if (error) return Status::FromErrno(error.value(), "rename " + incoming_path());
  return FsyncDirectory(path_);
}

Status DataDirectory::PutReadyState() {
  if (!fs::exists(ready_path())) return Status::Ok();
  RETURN_IF_ERROR(Remove(state_path()));
  std::error_code error;
  fs::rename(ready_path(), state_path(), error);
  if (error) return Status::FromErrno(error.value(), "rename " + ready_path());
  return FsyncDirectory(path_);
}

}  // namespace tarn::meta
