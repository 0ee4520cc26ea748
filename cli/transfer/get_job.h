// The way back: copies files and trees out of a volume, many at a time. A local file with equal size and mtime is left alone; others are written
// under a hidden temporary name and renamed, so that no half file is ever seen.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/progress.h"
#include "cli/transfer/task_queue.h"
#include "cli/transfer/transfer_report.h"
#include "client/filesystem.h"
#include "common/base/mutex.h"

namespace tarn::cli {

// One run. `filesystem`, `report` and `counters` outlive it.
class GetJob {
 public:
  GetJob(client::Filesystem* filesystem, uint32_t threads, TransferReport* report, TransferCounters* counters);

  // `path` in the volume to the local `destination` (rsync's meaning of trailing slashes). A Status is for what stops everything.
  Status Run(const std::string& path, const std::string& destination);

 private:
  struct Task {
    std::string local_path;
    client::Attributes attributes;
  };

  void RunThreads();
  void Handle(const Task& task);
  void GetDirectory(const Task& task);
  Status GetSymlink(const Task& task);
  Status GetFile(const Task& task);
  Status CopyBytes(const Task& task, int fd);
  void SetDirectoryTimes();

  client::Filesystem* const filesystem_;
  const uint32_t threads_;
  TransferReport* const report_;
  TransferCounters* const counters_;
  const bool keep_owner_;
  TaskQueue<Task> tasks_;
  Mutex mutex_;
  std::vector<Task> directories_ GUARDED_BY(mutex_);  // parents before children
};

}  // namespace tarn::cli
