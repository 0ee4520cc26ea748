#include "metaserver/service/data_directory.h"

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

Result<DataDirectory> DataDirectory::Open(const std::string& path, Clock* clock, Random* random,
                                          const std::function<Status(const std::string&, uint64_t)>& make_log) {
  DataDirectory directory;
  directory.path_ = path;
  RETURN_IF_ERROR(MakeDirectories(path));
  ASSIGN_OR_RETURN(directory.lock_, LockFile(path + "/LOCK"));
  const std::string identity_path = path + "/METASERVER";
  const std::string creating_path = path + "/CREATING";
  if (fs::exists(identity_path)) {
    RETURN_IF_ERROR(Remove(creating_path));
    ASSIGN_OR_RETURN(const std::string bytes, ReadSmallFile(identity_path));
    ASSIGN_OR_RETURN(directory.identity_, DecodeIdentity(bytes, identity_path));
    return directory;
  }
  if (fs::exists(creating_path)) {
    // A first start that did not end: nothing was ever served from what it left.
    RETURN_IF_ERROR(Remove(directory.log_path()));
    RETURN_IF_ERROR(Remove(directory.state_path()));
  }
  ASSIGN_OR_RETURN(const std::string foreign, FindForeign(path));
  if (!foreign.empty()) {
    return Status(StatusCode::kInvalidArgument, path + ": METASERVER is missing, yet there is " + foreign +
                                                    ": neither empty nor a metadata server's directory");
  }
  directory.is_new_ = true;
  directory.identity_.member_id = 1;
  directory.identity_.created_ns = clock->WallNs();
  for (size_t i = 0; i < kClusterIdBytes; i += sizeof(uint64_t)) {
    const uint64_t part = random->NextNonZero();
    directory.identity_.cluster_id.append(reinterpret_cast<const char*>(&part), sizeof part);
  }
  RETURN_IF_ERROR(WriteSmallFileDurably(creating_path, ""));
  RETURN_IF_ERROR(MakeDirectories(directory.log_path()));
  RETURN_IF_ERROR(make_log(directory.log_path(), directory.identity_.member_id));
  RETURN_IF_ERROR(FsyncDirectory(directory.log_path()));
  RETURN_IF_ERROR(WriteSmallFileDurably(identity_path, EncodeIdentity(directory.identity_)));
  RETURN_IF_ERROR(Remove(creating_path));
  return directory;
}

}  // namespace tarn::meta
