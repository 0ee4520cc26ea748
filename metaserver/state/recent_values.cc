#include "metaserver/state/recent_values.h"

#include <utility>

#include "metaserver/state/keys.h"

namespace tarn::meta {
namespace {

// Read by most commands and written by few. What is written often, DeferredWrites has at hand.
bool IsRemembered(std::string_view key) { return !key.empty() && key[0] == static_cast<char>(KeyKind::kVolume); }

// The prefixes under which keys are taken from the front, one scan after another: directories that wait to be emptied (by
// volume), what is in such a directory, directories whose sizes have changed. Nullopt: the key lies in no queue.
std::optional<std::string_view> QueueOf(std::string_view key) {
  static const size_t kPurgePrefixBytes = PurgePrefix(VolumeId(1)).size();
  static const size_t kDentryPrefixBytes = DentryPrefix(InodeId(1)).size();
  if (key.empty()) return std::nullopt;
  size_t bytes = 0;
  switch (static_cast<KeyKind>(key[0])) {
    case KeyKind::kUnpropagated:
      bytes = 1;
      break;
    case KeyKind::kPurge:
      bytes = kPurgePrefixBytes;
      break;
    case KeyKind::kDentry:
      bytes = kDentryPrefixBytes;
      break;
    default:
      return std::nullopt;
  }
  if (key.size() < bytes) return std::nullopt;
  return key.substr(0, bytes);
}

}  // namespace

Status RecentValues::Scan(std::string_view prefix, std::string_view from,
                          const std::function<bool(std::string_view, std::string_view)>& visit) const {
  if (!from.empty() || QueueOf(prefix) != prefix) return store_->Scan(prefix, from, visit);
  const auto known = starts_.find(prefix);
  if (known != starts_.end() && !known->second) return Status::Ok();
  const std::string start = known != starts_.end() ? *known->second : std::string();
  std::optional<std::string> first;
  const Status status = store_->Scan(prefix, start, [&](std::string_view key, std::string_view value) {
    if (!first) first.emplace(key);
    return visit(key, value);
  });
  if (status.ok()) {
    if (starts_.size() >= kStartsMax) starts_.clear();
    starts_.insert_or_assign(std::string(prefix), std::move(first));
  }
  return status;
}

void RecentValues::Forget() {
  values_.clear();
  starts_.clear();
}

Result<std::optional<std::string>> RecentValues::Get(std::string_view key) const {
  if (!IsRemembered(key)) return store_->Get(key);
  if (const auto found = values_.find(key); found != values_.end()) return found->second;
  auto value = store_->Get(key);
  if (value.ok()) Remember(std::string(key), *value);
  return value;
}

void RecentValues::LowerStart(std::string_view key) {
  const auto queue = QueueOf(key);
  if (!queue) return;
  const auto known = starts_.find(*queue);
  if (known != starts_.end() && (!known->second || key < *known->second)) known->second.emplace(key);
}

void RecentValues::Remember(const std::string& key, const std::optional<std::string>& value) const {
  if (value && value->size() > kValueBytesMax) {
    values_.erase(key);
    return;
  }
  if (values_.size() >= kValuesMax) values_.clear();
  values_.insert_or_assign(key, value);
}

Status RecentValues::Write(const KvBatch& batch) {
  if (!starts_.empty()) {
    for (const KvBatch::Change& change : batch.changes) {
      if (change.value) LowerStart(change.key);
    }
  }
  const Status status = store_->Write(batch);
  if (!status.ok()) {
    Forget();
    return status;
  }
  for (const KvBatch::Change& change : batch.changes) {
    if (IsRemembered(change.key)) Remember(change.key, change.value);
  }
  return Status::Ok();
}

}  // namespace tarn::meta
