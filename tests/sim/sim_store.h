// The state store of a simulated member: MemoryKv, watched.
//
// Every batch is told to a listener, so that the batches of all members can be compared: stores that began empty and
// got equal batches are equal. Reads can be made to pause. After its member died, a flush has no effect. One thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "metaserver/state/keys.h"
#include "metaserver/state/memory_kv.h"
#include "tests/sim/plan.h"

namespace tarn::sim {

class SimStore final : public meta::KvStore {
 public:
  SimStore(meta::MemoryKv* base, Plant plant) : base_(base), plant_(plant) {}
  SimStore(const SimStore&) = delete;
  SimStore& operator=(const SimStore&) = delete;

  void SetWriteListener(std::function<void(const meta::KvBatch&)> listener) { on_write_ = std::move(listener); }
  // Called before each read.
  void SetReadHook(std::function<void()> hook) { on_read_ = std::move(hook); }
  void SetDead() { dead_ = true; }

  std::unique_ptr<meta::KvView> View() const override {
    if (on_read_) on_read_();
    return base_->View();
  }
  Result<std::optional<std::string>> Get(std::string_view key) const override {
    if (on_read_) on_read_();
    return base_->Get(key);
  }
  Status Write(const meta::KvBatch& batch) override {
    if (plant_ != Plant::kForgetResult) return Install(batch);
    meta::KvBatch forgetful;
    for (const meta::KvBatch::Change& change : batch.changes) {
      const bool result = change.key[0] == static_cast<char>(meta::KeyKind::kSessionResult);
      if (!result || !change.value) forgetful.changes.push_back(change);
    }
    return Install(forgetful);
  }
  Status Flush() override { return dead_ ? Status::Ok() : base_->Flush(); }
  Status Checkpoint(const std::string& directory) override { return base_->Checkpoint(directory); }

 private:
  Status Install(const meta::KvBatch& batch) {
    if (on_write_) on_write_(batch);
    return base_->Write(batch);
  }

  meta::MemoryKv* const base_;
  const Plant plant_;
  std::function<void(const meta::KvBatch&)> on_write_;
  std::function<void()> on_read_;
  bool dead_ = false;
};

}  // namespace tarn::sim
