#include "metaserver/state/recent_values.h"

#include "metaserver/state/keys.h"

namespace tarn::meta {
namespace {

// Records that are read again soon. Names and results are not: they would only push the others out.
bool IsReadAgain(std::string_view key) {
  if (key.empty()) return false;
  switch (static_cast<KeyKind>(key[0])) {
    case KeyKind::kInode:
    case KeyKind::kDirectorySize:
    case KeyKind::kSession:
    case KeyKind::kVolume:
    case KeyKind::kVolumeCounters:
    case KeyKind::kDeadDataCount:
      return true;
    default:
      return false;
  }
}

}  // namespace

Result<std::optional<std::string>> RecentValues::Get(std::string_view key) const {
  if (const auto found = values_.find(key); found != values_.end()) return found->second;
  return store_->Get(key);
}

Status RecentValues::Write(const KvBatch& batch) {
  const Status status = store_->Write(batch);
  if (!status.ok()) {
    values_.clear();
    return status;
  }
  for (const KvBatch::Change& change : batch.changes) {
    if (!IsReadAgain(change.key)) continue;
    if (change.value && change.value->size() > kValueBytesMax) {
      values_.erase(change.key);
      continue;
    }
    if (values_.size() >= kValuesMax) values_.clear();
    values_.insert_or_assign(change.key, change.value);
  }
  return Status::Ok();
}

}  // namespace tarn::meta
