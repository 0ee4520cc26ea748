// Group commit: one thread syncs the log; everybody who waits when a round begins is served by it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "chunkserver/store/segment_log.h"
#include "common/base/mutex.h"
#include "common/base/status.h"

namespace tarn::store {

struct CommitterOptions {
  // What nobody waits for is synced at least this often, and when this much has gathered.
  int64_t interval_ms = 1'000;
  uint64_t unsynced_bytes_max = 64u << 20;
};

// Thread-safe.
class Committer {
 public:
  // `log` outlives it.
  Committer(SegmentLog* log, const CommitterOptions& options);
  // Serves those who wait, then joins.
  ~Committer();
  Committer(const Committer&) = delete;
  Committer& operator=(const Committer&) = delete;

  using Callback = std::function<void(Status)>;
  // Runs `callback` on the committer's thread once every record completed before this call is on stable storage. It must not block.
  void WhenDurable(Callback callback);
  // Waits for that.
  Status Commit();
  // To be told after each write: begins a round early when much has gathered.
  void NoteWritten();

  uint64_t rounds() const { return rounds_.load(std::memory_order_relaxed); }

 private:
  void Run();

  SegmentLog* const log_;
  const CommitterOptions options_;
  std::atomic<uint64_t> rounds_{0};

  Mutex mutex_;
  CondVar wake_;
  std::vector<Callback> waiting_ GUARDED_BY(mutex_);
  bool much_is_unsynced_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace tarn::store
