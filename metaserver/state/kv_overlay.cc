#include "metaserver/state/kv_overlay.h"

namespace tarn::meta {

Status ScanOverlaid(const KvOverlay& overlay, const std::function<Status(const KvVisit&)>& scan_base, std::string_view prefix,
                    std::string_view from, const KvVisit& visit) {
  auto changed = overlay.lower_bound(from.empty() ? prefix : from);
  const auto in_prefix = [&] { return changed != overlay.end() && changed->first.starts_with(prefix); };
  bool wanted = true;
  // Visits the overlay's keys up to `key`; true if one of them was `key` itself, which it then speaks for.
  const auto visit_overlay_through = [&](std::string_view key) {
    while (wanted && in_prefix() && changed->first < key) {
      if (changed->second.value) wanted = visit(changed->first, *changed->second.value);
      ++changed;
    }
    if (!wanted || !in_prefix() || changed->first != key) return false;
    if (changed->second.value) wanted = visit(changed->first, *changed->second.value);
    ++changed;
    return true;
  };
  RETURN_IF_ERROR(scan_base([&](std::string_view key, std::string_view value) {
    const bool replaced = visit_overlay_through(key);
    if (wanted && !replaced) wanted = visit(key, value);
    return wanted;
  }));
  for (; wanted && in_prefix(); ++changed) {
    if (changed->second.value) wanted = visit(changed->first, *changed->second.value);
  }
  return Status::Ok();
}

}  // namespace tarn::meta
