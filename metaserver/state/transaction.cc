#include "metaserver/state/transaction.h"

#include <utility>

namespace tarn::meta {

Result<std::optional<std::string>> Transaction::Get(std::string_view key) const {
  if (const auto changed = overlay_.find(key); changed != overlay_.end()) return changed->second.value;
  return base_.Get(key);
}

Status Transaction::Scan(std::string_view prefix, std::string_view from,
                         const std::function<bool(std::string_view, std::string_view)>& visit) const {
  return ScanOverlaid(overlay_, [&](const KvVisit& visit_base) { return base_.Scan(prefix, from, visit_base); }, prefix, from, visit);
}

void Transaction::Change(std::string key, std::optional<std::string> value, bool is_new) {
  const auto [entry, inserted] = overlay_.try_emplace(std::move(key));
  if (inserted) {
    undo_.push_back(Undo{.key = entry->first, .before = std::nullopt});
    entry->second.is_new = is_new;
  } else {
    undo_.push_back(Undo{.key = entry->first, .before = std::move(entry->second)});
    entry->second.is_new = undo_.back().before->is_new;
  }
  entry->second.value = std::move(value);
}

void Transaction::RollbackToSavepoint() {
  for (size_t i = undo_.size(); i-- > 0;) {
    Undo& undo = undo_[i];
    if (undo.before) {
      overlay_.insert_or_assign(std::move(undo.key), std::move(*undo.before));
    } else {
      overlay_.erase(undo.key);
    }
  }
  undo_.clear();
}

KvBatch Transaction::TakeBatch() && {
  KvBatch batch;
  batch.changes.reserve(overlay_.size());
  while (!overlay_.empty()) {
    auto node = overlay_.extract(overlay_.begin());
    batch.changes.push_back({std::move(node.key()), std::move(node.mapped().value), node.mapped().is_new});
  }
  return batch;
}

}  // namespace tarn::meta
