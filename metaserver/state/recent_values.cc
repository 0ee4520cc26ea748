#include "metaserver/state/recent_values.h"

#include <utility>

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

class RecentValues::QueueView final : public KvView {
 public:
  QueueView(const RecentValues* owner, std::unique_ptr<KvView> view) : owner_(owner), view_(std::move(view)) {}

  Result<std::optional<std::string>> Get(std::string_view key) const override { return view_->Get(key); }
  Status Scan(std::string_view prefix, std::string_view from,
              const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    if (!from.empty() || QueueOf(prefix) != prefix) return view_->Scan(prefix, from, visit);
    const auto known = owner_->starts_.find(prefix);
    if (known != owner_->starts_.end() && !known->second) return Status::Ok();
    const std::string start = known != owner_->starts_.end() ? *known->second : std::string();
    std::optional<std::string> first;
    const Status status = view_->Scan(prefix, start, [&](std::string_view key, std::string_view value) {
      if (!first) first.emplace(key);
      return visit(key, value);
    });
    if (status.ok()) {
      if (owner_->starts_.size() >= kStartsMax) owner_->starts_.clear();
      owner_->starts_.insert_or_assign(std::string(prefix), std::move(first));
    }
    return status;
  }

 private:
  const RecentValues* const owner_;
  const std::unique_ptr<KvView> view_;
};

std::unique_ptr<KvView> RecentValues::View() const { return std::make_unique<QueueView>(this, store_->View()); }

void RecentValues::Forget() {
  values_.clear();
  starts_.clear();
}

Result<std::optional<std::string>> RecentValues::Get(std::string_view key) const {
  if (const auto found = values_.find(key); found != values_.end()) return found->second;
  return store_->Get(key);
}

void RecentValues::LowerStart(std::string_view key) {
  const auto queue = QueueOf(key);
  if (!queue) return;
  const auto known = starts_.find(*queue);
  if (known != starts_.end() && (!known->second || key < *known->second)) known->second.emplace(key);
}

void RecentValues::Remember(const KvBatch::Change& change) {
  if (!IsReadAgain(change.key)) return;
  if (change.value && change.value->size() > kValueBytesMax) {
    values_.erase(change.key);
    return;
  }
  if (values_.size() >= kValuesMax) values_.clear();
  values_.insert_or_assign(change.key, change.value);
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
  for (const KvBatch::Change& change : batch.changes) Remember(change);
  return Status::Ok();
}

}  // namespace tarn::meta
