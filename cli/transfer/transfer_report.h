// What put and get say: errors as they happen, totals at the end.
#pragma once

#include <string>

#include "cli/context.h"
#include "cli/progress.h"
#include "common/base/mutex.h"

namespace tarn::cli {

// Thread-safe.
class TransferReport {
 public:
  TransferReport(std::string command, TransferCounters* counters) : command_(std::move(command)), counters_(counters) {}

  // One line on stderr for each of the first errors; all are counted.
  void Error(const std::string& path, const Status& status);
  // Totals on stdout, for people or as JSON. An error status if any file failed.
  Status Finish(const Context& context, int64_t elapsed_ms) const;

 private:
  const std::string command_;
  TransferCounters* const counters_;
  mutable Mutex mutex_;
  uint64_t printed_ GUARDED_BY(mutex_) = 0;
};

}  // namespace tarn::cli
