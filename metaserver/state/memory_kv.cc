#include "metaserver/state/memory_kv.h"

#include <utility>

namespace tarn::meta {

class MemoryView final : public KvView {
 public:
  MemoryView(const MemoryKv* store, uint64_t number) : store_(store), number_(number) {}
  ~MemoryView() override { store_->CloseView(number_); }
  MemoryView(const MemoryView&) = delete;
  MemoryView& operator=(const MemoryView&) = delete;

  Result<std::optional<std::string>> Get(std::string_view key) const override {
    MutexLock lock(store_->mutex_);
    RETURN_IF_ERROR(store_->failure_);
    const auto found = store_->versions_.find(key);
    if (found == store_->versions_.end()) return std::optional<std::string>();
    return store_->ValueAt(found->second, number_);
  }

  // The visitor runs without the lock, so that it may read the store.
  Status Scan(std::string_view prefix, std::string_view from,
              const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    std::string next(from.empty() ? prefix : from);
    while (true) {
      std::string key;
      std::optional<std::string> value;
      {
        MutexLock lock(store_->mutex_);
        RETURN_IF_ERROR(store_->failure_);
        auto found = store_->versions_.lower_bound(next);
        while (found != store_->versions_.end() && found->first.starts_with(prefix)) {
          value = store_->ValueAt(found->second, number_);
          if (value) break;
          ++found;
        }
        if (!value) return Status::Ok();
        key = found->first;
      }
      if (!visit(key, *value)) return Status::Ok();
      next = key + '\0';
    }
  }

 private:
  const MemoryKv* const store_;
  const uint64_t number_;
};

std::unique_ptr<KvView> MemoryKv::View() const {
  MutexLock lock(mutex_);
  open_views_.insert(last_number_);
  return std::make_unique<MemoryView>(this, last_number_);
}

Result<std::optional<std::string>> MemoryKv::Get(std::string_view key) const {
  MutexLock lock(mutex_);
  RETURN_IF_ERROR(failure_);
  const auto found = versions_.find(key);
  if (found == versions_.end()) return std::optional<std::string>();
  return found->second.back().value;
}

Status MemoryKv::Write(const KvBatch& batch) {
  MutexLock lock(mutex_);
  RETURN_IF_ERROR(failure_);
  Install(batch);
  unflushed_.push_back(batch);
  if (open_views_.empty()) {
    for (const std::string& key : std::exchange(unpruned_, {})) {
      if (const auto found = versions_.find(key); found != versions_.end()) Prune(found);
    }
  }
  return Status::Ok();
}

void MemoryKv::Install(const KvBatch& batch) {
  ++last_number_;
  for (const KvBatch::Change& change : batch.changes) {
    const auto key = versions_.try_emplace(change.key).first;
    std::vector<Version>& versions = key->second;
    if (!versions.empty() && versions.back().number == last_number_) {
      versions.back().value = change.value;  // changed twice in one batch
    } else {
      versions.push_back(Version{.number = last_number_, .value = change.value});
    }
    Prune(key);
  }
}

void MemoryKv::Prune(Versions::iterator key) {
  std::vector<Version>& versions = key->second;
  if (!open_views_.empty()) {
    unpruned_.insert(key->first);
    return;
  }
  versions.erase(versions.begin(), versions.end() - 1);
  if (!versions.back().value) versions_.erase(key);
}

std::optional<std::string> MemoryKv::ValueAt(const std::vector<Version>& versions, uint64_t number) const {
  for (size_t i = versions.size(); i-- > 0;) {
    if (versions[i].number <= number) return versions[i].value;
  }
  return std::nullopt;
}

void MemoryKv::CloseView(uint64_t number) const {
  MutexLock lock(mutex_);
  open_views_.erase(open_views_.find(number));
}

Status MemoryKv::Flush() {
  MutexLock lock(mutex_);
  RETURN_IF_ERROR(failure_);
  for (const KvBatch& batch : std::exchange(unflushed_, {})) {
    for (const KvBatch::Change& change : batch.changes) {
      if (change.value) {
        durable_[change.key] = *change.value;
      } else {
        durable_.erase(change.key);
      }
    }
  }
  return Status::Ok();
}

Status MemoryKv::Checkpoint(const std::string& directory) {
  return Status(StatusCode::kNotSupported, "checkpoint to " + directory + ": a store in memory has no directory");
}

void MemoryKv::Crash(size_t batches_kept) {
  MutexLock lock(mutex_);
  CHECK(open_views_.empty(), "views end before the store crashes");
  CHECK(batches_kept <= unflushed_.size(), "no more batches than were written can survive");
  unflushed_.resize(batches_kept);
  versions_.clear();
  unpruned_.clear();
  KvBatch durable;
  for (const auto& [key, value] : durable_) durable.changes.push_back({key, value});
  Install(durable);
  for (const KvBatch& batch : unflushed_) Install(batch);
}

size_t MemoryKv::unflushed_batches() const {
  MutexLock lock(mutex_);
  return unflushed_.size();
}

void MemoryKv::FailWith(Status status) {
  MutexLock lock(mutex_);
  failure_ = std::move(status);
}

MemoryKv::Contents MemoryKv::Snapshot() const {
  MutexLock lock(mutex_);
  Contents contents;
  for (const auto& [key, versions] : versions_) {
    if (versions.back().value) contents[key] = *versions.back().value;
  }
  return contents;
}

}  // namespace tarn::meta
