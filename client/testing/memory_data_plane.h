// A data plane that keeps what was written in memory: the contract of client/data/data_plane.h without servers.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/data/data_plane.h"
#include "common/base/mutex.h"

namespace tarn::client::testing {

// Thread-safe.
class MemoryDataPlane final : public DataPlane {
 public:
  explicit MemoryDataPlane(MetadataForData* metadata) : metadata_(metadata) {}

  std::shared_ptr<InodeData> Attach(const Attributes& attributes) override;
  std::shared_ptr<ReadAheadState> NewReadAhead() override { return nullptr; }
  void WriteWhole(DataId data, const FileLayout& layout, std::span<const uint8_t> bytes, StatusCallback done) override;
  void SyncAll(StatusCallback done) override;
  Counters counters() const override { return {}; }

  std::string Stored(DataId data) const;
  // The next flush fails with this status; what it should have written is dropped.
  void FailNextFlush(Status status);
  // What the inodes were asked, in order: "adopt 3", "flush", "sync everybody's", "truncate 100".
  std::vector<std::string> calls() const;

 private:
  friend class MemoryInodeData;
  void Record(std::string call);
  Status TakeFailure();

  MetadataForData* const metadata_;
  mutable Mutex mutex_;
  std::map<DataId, std::string> stored_ GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<InodeData>> attached_ GUARDED_BY(mutex_);
  Status next_failure_ GUARDED_BY(mutex_);
  std::vector<std::string> calls_ GUARDED_BY(mutex_);
};

}  // namespace tarn::client::testing
