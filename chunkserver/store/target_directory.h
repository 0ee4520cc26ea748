// The directory of a target but for its log and index: lock, identity, and the mark of a clean shutdown.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "chunkserver/store/target_identity.h"
#include "common/base/mutex.h"
#include "common/base/random.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace tarn::store {

// Thread-safe.
class TargetDirectory {
 public:
  // Locks it; gives a new one an identity. From here on it counts as not cleanly shut down.
  static Result<std::unique_ptr<TargetDirectory>> Open(const std::string& path, Random* random);

  TargetIdentity identity() const;
  bool was_clean() const { return was_clean_; }
  // What MarkClean was given; empty if it was not cleanly shut down, or is new.
  const std::string& clean_mark() const { return clean_mark_; }
  std::string segments_path() const { return path_ + "/segments"; }
  std::string index_path() const { return path_ + "/index"; }

  // kPermission if it belongs to another cluster or has other ids. Durable.
  Status Adopt(const std::string& cluster_id, ServerId server, TargetId target);
  Status MarkIndexMade();
  // Not empty, at most 16 MiB.
  Status MarkClean(std::string_view mark);

 private:
  TargetDirectory(std::string path, UniqueFd lock, const TargetIdentity& identity, bool was_clean, std::string clean_mark);
  Status Store(const TargetIdentity& identity);

  // Immutable after construction.
  const std::string path_;
  const UniqueFd lock_;
  const bool was_clean_;
  const std::string clean_mark_;

  mutable Mutex mutex_;
  TargetIdentity identity_ GUARDED_BY(mutex_);
};

}  // namespace tarn::store
