#include "chunkserver/service/directory_identity.h"

#include "common/base/posix_io.h"

namespace tarn::chunk {
namespace {

Status Refuse(const std::string& text) { return Status(StatusCode::kPermission, text); }

}  // namespace

// ext4 and XFS turn read-only or answer EIO when their disk fails.
bool IsDiskFailure(const Status& status) {
  return status.code() == StatusCode::kIoError || status.code() == StatusCode::kReadOnly;
}

Result<DirectoryIdentity> ReadDirectoryIdentity(const std::string& directory) {
  DirectoryIdentity found{.directory = directory, .identity = {}, .unreadable = {}};
  const std::string path = directory + "/" + std::string(store::kTargetFileName);
  const Result<std::string> text = ReadSmallFile(path);
  if (!text.ok()) {
    if (text.status().code() == StatusCode::kNotFound) return found;
    if (!IsDiskFailure(text.status())) return text.status();
    found.unreadable = text.status();
    return found;
  }
  Result<store::TargetIdentity> identity = store::DecodeTargetIdentity(*text);
  if (!identity.ok()) return Status(identity.status().code(), path + " " + identity.status().message());
  found.identity = *std::move(identity);
  return found;
}

Result<ServerIdentity> AgreeOnServer(std::span<const DirectoryIdentity> directories) {
  ServerIdentity agreed;
  const DirectoryIdentity* first = nullptr;
  for (const DirectoryIdentity& each : directories) {
    if (!each.identity || each.identity->cluster_id.empty()) continue;
    if (first == nullptr) {
      first = &each;
      agreed = {.cluster_id = each.identity->cluster_id, .server = each.identity->server};
    } else if (each.identity->cluster_id != agreed.cluster_id) {
      return Refuse(each.directory + " belongs to another cluster than " + first->directory);
    } else if (each.identity->server != agreed.server) {
      return Refuse(each.directory + " belongs to chunk server " + std::to_string(each.identity->server.value()) + ", " +
                    first->directory + " to chunk server " + std::to_string(agreed.server.value()));
    }
  }
  for (size_t i = 0; i < directories.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const auto& one = directories[j].identity;
      const auto& other = directories[i].identity;
      if (!one || !other) continue;
      if (one->uuid == other->uuid || (one->target.valid() && one->target == other->target)) {
        return Refuse(directories[i].directory + " and " + directories[j].directory + " are the same target: one is a copy");
      }
    }
  }
  return agreed;
}

}  // namespace tarn::chunk
