// A store in front of the real one that writes later. What is written stays in memory at first; after some thousands of
// changes, or a second, it goes to the store as one batch, on a thread of its own.
//
// Why: most of what a mutation changes is changed again by the next ones (the session, the directory with its size, the
// volume's counters, the header) or deleted soon (the result, once the session acknowledges it). Each change costs the
// store several microseconds; here it costs one, and only the last value of a key reaches the store. A key that was new
// (KvBatch::Change::is_new) and is deleted before that never does.
//
// It keeps what kv.h promises. Reads see everything written. Batches that are joined reach the store together, so a crash
// still falls back to a boundary between batches; and only what was flushed survives one for certain, as ever.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/base/mutex.h"
#include "metaserver/state/kv.h"
#include "metaserver/state/kv_overlay.h"

namespace tarn::meta {

// Thread-safe as KvStore says.
class DeferredWrites final : public KvStore {
 public:
  // What is written together, in keys and in memory: the first bound that is reached counts. About three times as much
  // may be there at once: as much again waits while that is being written, and then writes wait.
  struct Bounds {
    size_t changes_max = 16'384;
    size_t bytes_max = 4 << 20;
    // About: what nothing comes after is not left in the way of scans for longer.
    std::chrono::milliseconds quiet_max{1000};
  };

  // `store` outlives it and is written through it only.
  DeferredWrites(KvStore* store, const Bounds& bounds);
  // What has not been flushed may be lost.
  ~DeferredWrites() override;
  DeferredWrites(const DeferredWrites&) = delete;
  DeferredWrites& operator=(const DeferredWrites&) = delete;

  // What is in memory is sealed for it, and read through it: it waits for the store only if that has happened several
  // times in a row faster than the store was written.
  std::unique_ptr<KvView> View() const override;
  Result<std::optional<std::string>> Get(std::string_view key) const override;
  Status Scan(std::string_view prefix, std::string_view from,
              const std::function<bool(std::string_view key, std::string_view value)>& visit) const override;
  // An error is the store's, perhaps one from an earlier batch; nothing is taken after that.
  Status Write(const KvBatch& batch) override;
  Status Flush() override;
  Status Checkpoint(const std::string& directory) override;

  // Everything written before the call is in the store when it returns, whether on stable storage or not.
  Status Drain() const;

 private:
  class Changes;
  class SealedView;
  // Oldest first; each changes what those before it leave.
  using Sealed = std::vector<std::shared_ptr<const Changes>>;

  static KvBatch Join(const Sealed& sealed);
  bool Exceeds(size_t times) const REQUIRES(mutex_);
  // That has not begun to leave.
  bool IsAny() const REQUIRES(mutex_);
  bool IsDue() const REQUIRES(mutex_);
  void Seal() const REQUIRES(mutex_);
  void RunWriter();

  KvStore* const store_;
  const Bounds bounds_;

  mutable Mutex mutex_;
  mutable CondVar writer_wake_;
  mutable CondVar written_wake_;
  mutable std::unique_ptr<Changes> recent_ GUARDED_BY(mutex_);
  mutable Sealed sealed_ GUARDED_BY(mutex_);               // what is not known to be in the store, older than recent_
  mutable uint64_t recent_number_ GUARDED_BY(mutex_) = 1;  // of the changes in recent_
  uint64_t leaving_number_ GUARDED_BY(mutex_) = 0;         // those up to here are in the store, or on their way
  uint64_t stored_number_ GUARDED_BY(mutex_) = 0;          // those up to here are in the store
  mutable uint64_t wanted_number_ GUARDED_BY(mutex_) = 0;  // those up to here are to be written at once
  Status failure_ GUARDED_BY(mutex_);
  bool stop_ GUARDED_BY(mutex_) = false;

  std::thread writer_;
};

}  // namespace tarn::meta
