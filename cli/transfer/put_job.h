// Bulk ingest: walks local trees and brings them into a volume, many files at a time.
//
// Small files (up to kIngestBytesMax) are written under a reserved data id and appear complete with one metadata command. Larger ones are streamed into a
// hidden temporary name (which the next run goes on with) and renamed. A file with equal size and mtime is left alone, so the same command
// again is a no-op, and after an interruption a resume.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/progress.h"
#include "cli/transfer/task_queue.h"
#include "cli/transfer/transfer_report.h"
#include "client/filesystem.h"
#include "common/base/mutex.h"

namespace tarn::cli {

struct PutPolicy {
  bool compare_contents = false;  // --checksum: read both sides instead of trusting size and mtime
  uint32_t walkers = 16;  // each waits for the directories it makes, and the metadata log takes those of all at once
  uint32_t uploaders = 8;
};

// One run. `filesystem`, `report` and `counters` outlive it. Run is called once; everything else is internal.
class PutJob {
 public:
  PutJob(client::Filesystem* filesystem, const PutPolicy& policy, TransferReport* report, TransferCounters* counters);

  // `path` is the destination inside the volume (rsync's meaning of trailing slashes). Errors of single files go to the report; a Status is for what
  // stops everything (a source that does not exist, a destination that cannot be).
  Status Run(const std::vector<std::string>& sources, const std::string& path);

 private:
  struct DirectoryTask {
    std::string local_path;
    InodeId remote;
    bool remote_is_new = false;
  };
  struct FileTask {
    std::string local_path;
    InodeId parent;
    std::string name;
    struct stat attributes {};
    std::optional<client::Attributes> remote;  // what is there
  };
  struct DirectoryAttributes {
    InodeId inode;
    struct stat attributes {};
  };
  struct LocalEntry {
    std::string name;
    struct stat attributes {};
  };
  using RemoteNames = std::map<std::string, client::Attributes>;

  Status Plan(const std::vector<std::string>& sources, const std::string& path);
  Status PlanSource(const std::string& source, const std::string& path, bool into_directory);
  Status PlanDirectory(const std::string& source, const struct stat& attributes, std::vector<std::string> names);
  void RunThreads();

  void WalkDirectory(const DirectoryTask& task);
  bool ListLocal(const std::string& path, std::vector<LocalEntry>* entries);
  bool ListRemote(const DirectoryTask& task, RemoteNames* names);
  void WalkEntry(const DirectoryTask& task, const LocalEntry& entry, const RemoteNames& remote);
  void WalkSubdirectories(const DirectoryTask& task, const std::vector<const LocalEntry*>& directories, const RemoteNames& remote);
  void PutSymlink(const DirectoryTask& task, const LocalEntry& entry, const client::Attributes* remote);
  void OfferFile(FileTask task);

  void PutFile(const FileTask& task);
  Result<bool> SameContents(const FileTask& task, int fd);
  Status IngestSmall(const FileTask& task, int fd, const struct stat& attributes);
  Status StreamLarge(const FileTask& task, int fd, const struct stat& attributes);
  Status CopyBytes(const client::FileHandlePtr& handle, int fd, uint64_t from, const struct stat& attributes, const std::string& path);
  void ReserveInFlight(uint64_t bytes);
  void ReleaseInFlight(uint64_t bytes);
  void WaitForIngests();

  void SetDirectoryAttributes();
  void SetAttributesOf(std::span<const DirectoryAttributes> directories);

  client::Filesystem* const filesystem_;
  const PutPolicy policy_;
  TransferReport* const report_;
  TransferCounters* const counters_;
  const bool keep_owner_;  // only root may give files away

  TaskQueue<DirectoryTask> directories_;
  TaskQueue<FileTask> files_;

  Mutex mutex_;
  CondVar in_flight_changed_;
  uint64_t bytes_in_flight_ GUARDED_BY(mutex_) = 0;
  uint64_t files_in_flight_ GUARDED_BY(mutex_) = 0;
  std::vector<DirectoryAttributes> directory_attributes_ GUARDED_BY(mutex_);  // parents before children
};

}  // namespace tarn::cli
