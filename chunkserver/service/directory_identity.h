// Whose directories a chunk server was given: read before anything in them is touched.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "chunkserver/store/target_identity.h"
#include "common/base/ids.h"
#include "common/base/status.h"

namespace tarn::chunk {

struct DirectoryIdentity {
  std::string directory;
  std::optional<store::TargetIdentity> identity;  // none: a new target, or `unreadable`
  Status unreadable;                              // the disk fails
};

// Whether a directory's error means that its disk fails, as opposed to a mistake that somebody must correct.
bool IsDiskFailure(const Status& status);

// The TARGET file. Refusals name it: damaged, of another format, not accessible.
Result<DirectoryIdentity> ReadDirectoryIdentity(const std::string& directory);

// Empty and 0: all directories are new.
struct ServerIdentity {
  std::string cluster_id;
  ServerId server;
};

// kPermission, naming the directory, if one belongs to another cluster or server than the others, or is a copy of another.
Result<ServerIdentity> AgreeOnServer(std::span<const DirectoryIdentity> directories);

}  // namespace tarn::chunk
