// Changes in front of a store, by key: what a transaction, or a store that writes later, lays over what it reads.
//
// Value types and a pure function.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/status.h"

namespace tarn::meta {

struct KvOverlayValue {
  std::optional<std::string> value;  // nullopt: deleted
  bool is_new = false;               // below the overlay there is no such key for certain
};
using KvOverlay = std::map<std::string, KvOverlayValue, std::less<>>;

using KvVisit = std::function<bool(std::string_view key, std::string_view value)>;

// As KvView::Scan, of what `scan_base` visits with the overlay laid over it.
Status ScanOverlaid(const KvOverlay& overlay, const std::function<Status(const KvVisit&)>& scan_base, std::string_view prefix,
                    std::string_view from, const KvVisit& visit);

}  // namespace tarn::meta
