#include "metaserver/state/transaction.h"

#include <utility>

namespace tarn::meta {

Result<std::optional<std::string>> Transaction::Get(std::string_view key) const {
  if (const auto changed = overlay_.find(key); changed != overlay_.end()) return changed->second;
  return base_.Get(key);
}

Status Transaction::Scan(std::string_view prefix, std::string_view from,
                         const std::function<bool(std::string_view, std::string_view)>& visit) const {
  auto changed = overlay_.lower_bound(from.empty() ? prefix : from);
  const auto in_prefix = [&] { return changed != overlay_.end() && changed->first.starts_with(prefix); };
  bool wanted = true;
  // Visits the overlay's keys up to `key`; true if one of them was `key` itself, which it then speaks for.
  const auto visit_overlay_through = [&](std::string_view key) {
    while (wanted && in_prefix() && changed->first < key) {
      if (changed->second) wanted = visit(changed->first, *changed->second);
      ++changed;
    }
    if (!wanted || !in_prefix() || changed->first != key) return false;
    if (changed->second) wanted = visit(changed->first, *changed->second);
    ++changed;
    return true;
  };
  RETURN_IF_ERROR(base_.Scan(prefix, from, [&](std::string_view key, std::string_view value) {
    const bool replaced = visit_overlay_through(key);
    if (wanted && !replaced) wanted = visit(key, value);
    return wanted;
  }));
  for (; wanted && in_prefix(); ++changed) {
    if (changed->second) wanted = visit(changed->first, *changed->second);
  }
  return Status::Ok();
}

void Transaction::Change(std::string key, std::optional<std::string> value) {
  const auto [entry, inserted] = overlay_.try_emplace(std::move(key));
  if (inserted) {
    undo_.push_back(Undo{.key = entry->first, .before = std::nullopt});
  } else {
    undo_.push_back(Undo{.key = entry->first, .before = std::move(entry->second)});
  }
  entry->second = std::move(value);
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
    batch.changes.push_back({std::move(node.key()), std::move(node.mapped())});
  }
  return batch;
}

}  // namespace tarn::meta
