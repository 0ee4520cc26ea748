// The key-value seam in memory, for tests and the simulator: a crash forgets what was not flushed.
//
// Fault model: Write changes only memory; Flush makes everything written so far durable at once; Crash goes back to the
// last flush, or, as a store that flushes by itself may, to any batch boundary after it. Views see the store as it was
// when they were made; they must be gone before a crash. Thread-safe as KvStore says.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/base/mutex.h"
#include "metaserver/state/kv.h"

namespace tarn::meta {

class MemoryKv final : public KvStore {
 public:
  using Contents = std::map<std::string, std::string, std::less<>>;

  MemoryKv() = default;
  MemoryKv(const MemoryKv&) = delete;
  MemoryKv& operator=(const MemoryKv&) = delete;

  std::unique_ptr<KvView> View() const override;
  Result<std::optional<std::string>> Get(std::string_view key) const override;
  Status Write(const KvBatch& batch) override;
  Status Flush() override;
  // Memory has no directories: kNotSupported.
  Status Checkpoint(const std::string& directory) override;

  // Forgets all batches written since the last flush but the first `batches_kept`.
  void Crash(size_t batches_kept = 0);
  size_t unflushed_batches() const;
  // From now on every call fails with this status; ok ends it.
  void FailWith(Status status);
  // Everything in it, for comparisons.
  Contents Snapshot() const;

 private:
  friend class MemoryView;
  // The values a key had, oldest first, each from the write that made it; old ones are dropped once no view can see
  // them.
  struct Version {
    uint64_t number = 0;
    std::optional<std::string> value;
  };
  using Versions = std::map<std::string, std::vector<Version>, std::less<>>;

  void Install(const KvBatch& batch) REQUIRES(mutex_);
  void Prune(Versions::iterator key) REQUIRES(mutex_);
  std::optional<std::string> ValueAt(const std::vector<Version>& versions, uint64_t number) const;
  void CloseView(uint64_t number) const;

  mutable Mutex mutex_;
  Versions versions_ GUARDED_BY(mutex_);
  uint64_t last_number_ GUARDED_BY(mutex_) = 0;
  mutable std::multiset<uint64_t> open_views_ GUARDED_BY(mutex_);
  std::set<std::string> unpruned_ GUARDED_BY(mutex_);
  Contents durable_ GUARDED_BY(mutex_);
  std::vector<KvBatch> unflushed_ GUARDED_BY(mutex_);
  Status failure_ GUARDED_BY(mutex_);
};

}  // namespace tarn::meta
